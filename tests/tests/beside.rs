//! `cellaflow dev` brings a compactor along: it compacts what suspends, comes back when it is killed, and never outlives
//! its engine.

#![cfg(target_os = "linux")]

use cellaflow_proto::v1;
use cellaflow_tests::agent::Agent;
use cellaflow_tests::channel::{Worker, awaited};
use cellaflow_tests::client::Client;
use cellaflow_tests::compactor::compactor_binary;
use cellaflow_tests::{Engine, Options, wait};
use rustix::process::{Pid, Signal, kill_process};

/// The processes that a process has started and that have not ended.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// `None`: it has ended.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

async fn child(engine: &Engine, not: Option<u32>) -> u32 {
    wait::until("a compactor beside the engine", async || {
        children(engine.pid()).into_iter().find(|pid| Some(*pid) != not)
    })
    .await
}

async fn with_compactor() -> Engine {
    let program = compactor_binary().display().to_string();
    Engine::start_with(Options { flags: vec!["--compactor".to_owned(), program] }).await
}

/// Lets a session wait, and waits until its context is made.
async fn compacted(client: &Client, key: &str) {
    let worker = Worker::connect(client).await;
    let mut agent = Agent::begin(&worker, key, "Read every module.").await;
    for _ in 0..5 {
        agent.turn(&worker, 1).await;
    }
    worker.append(&agent.session, 1, awaited("answer", "answer", 0)).await.unwrap();
    let seq = client.session(&agent.session).await.seq;
    worker.release_waiting(&agent.session, 1, seq).await.unwrap();
    wait::until("a version", async || {
        let request = v1::ListContextsRequest { session_id: agent.session.clone() };
        let listed = client.contexts().list_contexts(request).await.unwrap().into_inner();
        (!listed.versions.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_beside_the_engine_works_and_comes_back_when_it_is_killed() {
    let engine = with_compactor().await;
    let client = engine.client().await;
    compacted(&client, "first").await;
    let first = child(&engine, None).await;
    kill(first);
    let second = child(&engine, Some(first)).await;
    assert_ne!(first, second);
    assert!(engine.log().contains("the compactor ended"), "{}", engine.log());
    compacted(&client, "second").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_never_outlives_its_engine() {
    for gracefully in [false, true] {
        let mut engine = with_compactor().await;
        let beside = child(&engine, None).await;
        if gracefully {
            assert_eq!(engine.stop().await, Some(0));
        } else {
            engine.kill();
        }
        wait::until("its end", async || parent_of(beside).is_none().then_some(())).await;
    }
}
