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

fn zone(op: &str, attempt: u32) -> v1::append::Op {
    use v1::append::Op;
    let zone_key = "z#1".to_owned();
    match op {
        "enter" => {
            Op::ZoneEntered(v1::ZoneEntered { zone_key, name: "z".into(), attempt, ..Default::default() })
        }
        "abort" => {
            let reason = v1::RollbackReason::Abort.into();
            Op::ZoneRolledBack(v1::ZoneRolledBack { zone_key, attempt, reason, ..Default::default() })
        }
        "commit" => {
            use cellaflow_proto::content;
            use prost::Message as _;
            let from = Some(content::streamed::From::Data(b"second and last".as_slice().into()));
            let streamed = vec![content::Streamed { from, length: 0 }];
            let record = content::ZoneRecord { streamed, ..Default::default() }.encode_to_vec();
            let format = v1::PayloadFormat::ZoneRecord.into();
            let body = Some(v1::payload::Body::Data(record.into()));
            let record = Some(v1::Payload { format, body, ..Default::default() });
            Op::ZoneCommitted(v1::ZoneCommitted { zone_key, attempt, record, ..Default::default() })
        }
        text => {
            let data = text.as_bytes().to_vec().into();
            Op::ZoneEvidence(v1::ZoneEvidence { zone_key, attempt, offset: 0, data })
        }
    }
}

#[tokio::test]
async fn x1_x2_a_tail_with_tokens_shows_what_is_streamed_what_is_void_and_the_rest() {
    let engine = Engine::start().await;
    let (worker, assigned, id) = started(&engine, "a").await;
    for op in ["enter", "first"] {
        worker.commit(&assigned, zone(op, 1)).await.unwrap();
    }
    let mut tail = engine.cli_in_background(&["sessions", "tail", &id, "--json", "--tokens"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.last().is_none_or(|line: &Value| line["type"] != "tokens") {
        said.push(next(&mut lines).await);
    }
    worker.commit(&assigned, zone("abort", 1)).await.unwrap();
    for op in ["enter", "second", "commit"] {
        worker.commit(&assigned, zone(op, 2)).await.unwrap();
    }
    worker.commit(&assigned, completed(&json!("done"))).await.unwrap();
    while said.last().is_none_or(|line: &Value| line["type"] != "session_completed") {
        said.push(next(&mut lines).await);
    }
    let told = |line: &Value| match line["type"].as_str() {
        Some("tokens") => line["text"].as_str().unwrap().to_owned(),
        Some("reset") => format!("void to {}", line["attempt"]),
        other => other.unwrap().to_owned(),
    };
    let told: Vec<String> =
        said.iter().map(told).filter(|kind| kind != "lease_granted" && kind != "step_completed").collect();
    let (kinds, second) = (told.join(" | "), "second");
    assert!(
        kinds.starts_with(
            "session_started | zone_entered | first | void to 2 | zone_rolled_back | zone_entered | "
        ),
        "{kinds}"
    );
    assert!(
        kinds.ends_with(" and last | zone_committed | session_completed")
            || kinds.contains("second and last"),
        "{kinds}"
    );
    assert!(kinds.contains(second), "{kinds}");
    // Of a session that has ended the text comes from the record, for people on lines of its own.
    let shown = engine.cli(&["sessions", "tail", &id, "--tokens"]).await.ok();
    assert!(shown.contains("z#1:\nsecond and last\n"), "{shown}");
}
