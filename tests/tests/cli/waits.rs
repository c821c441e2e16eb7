//! `sessions signal` and `approvals …`: a person gives a session what it waits for.

use cellaflow_proto::v1::{ApprovalRequested, append::Op};
use cellaflow_tests::channel::{Worker, awaited};
use cellaflow_tests::{Engine, json};
use serde_json::json;

use super::{FIRST, request};

/// A session of workflow `audit` that waits for a signal and two approvals, held by nobody.
async fn waiting(engine: &Engine) -> (Worker, String) {
    let worker = Worker::reconnect(&engine.client().await, FIRST).await;
    let assigned = worker.start(request("a")).await.unwrap();
    let id = assigned.session.clone().unwrap().session_id;
    let approval = |key: &str| {
        Op::ApprovalRequested(ApprovalRequested {
            step_key: key.into(),
            name: key.into(),
            call: Some(json(&json!({ "toolCall": "pay", "args": { "to": key } }))),
            args_digest: vec![5; 32].into(),
            due_ms: 0,
            expires_in_ms: 60_000,
        })
    };
    worker.commit(&assigned, approval("rent")).await.unwrap();
    worker.commit(&assigned, approval("wages")).await.unwrap();
    let ack = worker.commit(&assigned, awaited("answer#1", "answer", 0)).await.unwrap();
    worker.release_waiting(&id, assigned.epoch, ack.seq).await.unwrap();
    (worker, id)
}

#[tokio::test]
async fn signals_and_approvals_are_given_by_hand_and_each_once() {
    let engine = Engine::start().await;
    let (_worker, id) = waiting(&engine).await;

    let page = engine.cli(&["sessions", "show", &id]).await.ok();
    assert!(page.contains(&format!("cellaflow approvals approve {id} rent")), "{page}");
    assert!(page.contains(&format!("cellaflow sessions signal {id} answer JSON")), "{page}");
    let listed = engine.cli(&["approvals", "list", "--json"]).await.json();
    assert_eq!(listed["approvals"][0]["call"]["value"]["args"], json!({ "to": "rent" }));
    assert_eq!(listed["approvals"][1]["wait"]["step_key"], "wages");

    let unnamed = engine.cli(&["approvals", "approve", &id]).await;
    assert_eq!(unnamed.code, Some(2), "{unnamed:?}");
    assert!(unnamed.stderr.contains("rent, wages"), "{}", unnamed.stderr);
    let approved =
        engine.cli(&["approvals", "approve", "audit/a", "rent", "--comment", "due today"]).await.ok();
    assert!(approved.contains("rent is approved") && approved.contains("\"to\":\"rent\""), "{approved}");
    let reject = ["approvals", "reject", &id, "--on-behalf-of", "Ada", "--json"];
    assert_eq!(engine.cli(&reject).await.json()["status"], "running");
    let again = engine.cli(&["approvals", "approve", &id, "rent"]).await;
    assert_ne!(again.code, Some(0), "an approval is decided once: {again:?}");

    let signal = ["sessions", "signal", &id, "answer", r#"{"n":1}"#, "--id", "mail-1", "--json"];
    let first = engine.cli(&signal).await.json();
    assert_eq!((&first["delivered"], &first["duplicate"]), (&json!(true), &json!(false)));
    assert_eq!(engine.cli(&signal).await.json()["duplicate"], json!(true));
    let kept = engine.cli(&["sessions", "signal", &id, "later"]).await.ok();
    assert!(kept.contains("is kept until the session awaits it"), "{kept}");
    let other = ["sessions", "signal", &id, "answer", r#"{"n":2}"#, "--id", "mail-1"];
    let other = engine.cli(&other).await;
    assert!(other.stderr.contains("signal_conflict"), "{}", other.stderr);
    assert_eq!(engine.cli(&["sessions", "signal", &id, "answer", "{"]).await.code, Some(2));

    let events = engine.cli(&["sessions", "events", &id, "--json"]).await.json_lines();
    let decided: Vec<_> = events.iter().filter(|event| event["type"] == "approval_decided").collect();
    assert_eq!(decided[0]["approval_decided"]["decision"], "approved");
    assert_eq!(decided[0]["approval_decided"]["comment"]["value"], "due today");
    assert_eq!(decided[1]["approval_decided"]["decision"], "rejected");
    assert!(decided[1]["approval_decided"]["by"].as_str().unwrap().ends_with("(on behalf of Ada)"));
    assert!(engine.cli(&["approvals", "list", "--json"]).await.json()["approvals"] == json!([]));
}
