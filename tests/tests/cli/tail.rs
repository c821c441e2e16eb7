//! `sessions tail`: every event once, over a killed engine, to the end.

use std::time::Duration;

use cellaflow_proto::v1;
use cellaflow_tests::Engine;
use cellaflow_tests::channel::Worker;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;

use super::{SECOND, completed, started, step};

const PATIENCE: Duration = Duration::from_secs(30);

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    serde_json::from_str(&line.unwrap()).unwrap()
}

#[tokio::test]
async fn t1_a_tail_survives_the_engine_and_prints_every_event_once() {
    let mut engine = Engine::start().await;
    let (worker, _, id) = started(&engine, "a").await;
    let mut tail = engine.cli_in_background(&["sessions", "tail", &id, "--json"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next(&mut lines).await);
    }

    engine.kill();
    drop(worker);
    engine.restart().await;
    // Another instance takes the session over once the first one's lease has run out; a restart gives it a full one.
    let worker = Worker::reconnect(&engine.client().await, super::FIRST).await;
    let assigned = worker
        .attach_with(v1::Attach { session_id: id.clone(), version: "3".into(), ..v1::Attach::default() })
        .await
        .unwrap();
    worker.commit(&assigned, step("audit", &json!(1))).await.unwrap();
    worker.commit(&assigned, completed(&json!("done"))).await.unwrap();
    while seen.last().is_none_or(|event: &Value| event["type"] != "session_completed") {
        seen.push(next(&mut lines).await);
    }
    let seqs: Vec<u64> = seen.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "T1");
    let status = tokio::time::timeout(PATIENCE, tail.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_tail_of_an_ended_session_ends_and_gives_up_on_an_engine_that_stays_away() {
    let mut engine = Engine::start().await;
    let (worker, assigned, id) = started(&engine, "a").await;
    let other = Worker::reconnect(&engine.client().await, SECOND).await;
    let running = other.start(super::request("b")).await.unwrap().session.unwrap().session_id;
    worker.commit(&assigned, completed(&json!("done"))).await.unwrap();
    let ended = engine.cli(&["sessions", "tail", &id]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("session_completed"), "{ended:?}");

    let mut tail = engine.cli_in_background(&["sessions", "tail", &running, "--json", "--give-up", "1s"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    next(&mut lines).await;
    engine.kill();
    let status = tokio::time::timeout(PATIENCE, tail.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(69), "T2");
}
