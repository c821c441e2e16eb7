//! The operator commands against the real engine: what people see, what programs read, and the exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failing test"
)]

#[path = "cli/ledger.rs"]
mod ledger;
#[path = "cli/repair.rs"]
mod repair;
#[path = "cli/savings.rs"]
mod savings;
#[path = "cli/sessions.rs"]
mod sessions;
#[path = "cli/tail.rs"]
mod tail;
#[path = "cli/tokens.rs"]
mod tokens;
#[path = "cli/verbs.rs"]
mod verbs;
#[path = "cli/waits.rs"]
mod waits;

use cellaflow_proto::v1;
use cellaflow_tests::channel::Worker;
use cellaflow_tests::{Engine, json};
use serde_json::json;

/// Instance of the first worker of a test.
const FIRST: &str = "01935a2b-0000-7000-8000-000000000001";

/// Instance of a second one.
const SECOND: &str = "01935a2b-0000-7000-8000-000000000002";

fn request(key: &str) -> v1::StartSessionRequest {
    v1::StartSessionRequest {
        workflow: "audit".into(),
        version: "3".into(),
        key: key.into(),
        input: Some(json(&json!({ "repository": "here" }))),
        ..v1::StartSessionRequest::default()
    }
}

fn step(key: &str, output: &serde_json::Value) -> v1::append::Op {
    v1::append::Op::StepCompleted(v1::StepCompleted {
        step_key: key.into(),
        name: key.into(),
        attempt: 1,
        output: Some(json(output)),
        duration_us: 1_500,
        cost_nanos: 2_000_000,
        ..v1::StepCompleted::default()
    })
}

fn completed(output: &serde_json::Value) -> v1::append::Op {
    v1::append::Op::SessionCompleted(v1::SessionCompleted { output: Some(json(output)) })
}

/// Starts a session with one step and says its id.
async fn started(engine: &Engine, key: &str) -> (Worker, v1::Assigned, String) {
    let worker = Worker::reconnect(&engine.client().await, FIRST).await;
    let assigned = worker.start(request(key)).await.unwrap();
    worker.commit(&assigned, step("scan", &json!({ "files": 3 }))).await.unwrap();
    let id = assigned.session.clone().unwrap().session_id;
    (worker, assigned, id)
}

#[tokio::test]
async fn exit_codes_tell_what_kind_of_problem_it_was() {
    let mut engine = Engine::start().await;
    assert_eq!(engine.cli(&["status"]).await.code, Some(0));
    assert_eq!(engine.cli(&["sessions", "show"]).await.code, Some(2), "a missing argument");
    assert_eq!(engine.cli(&["sessions", "show", "audit/none"]).await.code, Some(1), "no such session");

    let nowhere = engine.cli(&["status", "--data", "elsewhere"]).await;
    assert_eq!(nowhere.code, Some(64), "{nowhere:?}");
    assert!(nowhere.stderr.contains("elsewhere"), "what was tried is said: {}", nowhere.stderr);

    let stranger = engine.cli(&["status", "--token", "cf_0000000000000000000000000000000000"]).await;
    assert_eq!(stranger.code, Some(77), "{stranger:?}");
    assert!(!stranger.stderr.contains("cf_0000"), "a secret is not repeated: {}", stranger.stderr);

    engine.kill();
    let gone = engine.cli(&["status"]).await;
    assert_eq!(gone.code, Some(69), "{gone:?}");
    for part in [engine.connection.url.as_str(), "connection.json", "cellaflow dev"] {
        assert!(gone.stderr.contains(part), "{part} in {}", gone.stderr);
    }
}

#[tokio::test]
async fn status_counts_open_sessions_and_workers() {
    let engine = Engine::start().await;
    let (_worker, _, _) = started(&engine, "a").await;
    let status = engine.cli(&["status", "--json"]).await.json();
    assert_eq!(status["sessions"][0], json!({ "status": "running", "count": 1 }));
    assert_eq!(status["workers"][0]["instance"], FIRST);
    assert!(status["frame"].as_u64().unwrap() >= 2, "{status}");
    let shown = engine.cli(&["status"]).await.ok();
    assert!(shown.contains("1 running") && shown.contains(FIRST), "{shown}");
}
