//! `sessions pause|resume|retry|cancel|terminate`: on one session and on what a filter selects.

use cellaflow_tests::Engine;
use serde_json::json;

use super::{completed, request, started};

#[tokio::test]
async fn a_session_is_paused_resumed_and_terminated_by_name() {
    let engine = Engine::start().await;
    let (_worker, _, id) = started(&engine, "a").await;
    let paused = engine.cli(&["sessions", "pause", &id, "--reason", "bank holiday", "--json"]).await.json();
    assert_eq!((&paused["status"], &paused["pause_reason"]), (&json!("paused"), &json!("requested")));
    let events = engine.cli(&["sessions", "events", &id, "--json"]).await.json_lines();
    let details = &events.last().unwrap()["session_paused"]["details"]["value"];
    assert_eq!(details["reason"], json!("bank holiday"), "{details}");
    let said = engine.cli(&["sessions", "resume", "audit/a"]).await.ok();
    assert!(said.contains("is running"), "{said}");
    let asked = engine.cli(&["sessions", "cancel", &id, "--json"]).await.json();
    assert_eq!((&asked["status"], &asked["cancel_requested"]), (&json!("running"), &json!(true)));
    let over = engine.cli(&["sessions", "terminate", &id, "--reason", "runs away"]).await.ok();
    assert!(over.contains("is cancelled"), "{over}");
    let text = engine.cli(&["sessions", "events", &id]).await.ok();
    assert!(text.contains("terminated") && text.contains("runs away"), "{text}");
    let again = engine.cli(&["sessions", "cancel", &id]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("session_ended"), "{}", again.stderr);
}

#[tokio::test]
async fn a_filter_selects_and_a_dry_run_only_says_so() {
    let engine = Engine::start().await;
    let (worker, first, id) = started(&engine, "a").await;
    let second = worker.start(request("b")).await.unwrap().session.unwrap().session_id;
    let over = worker.start(request("c")).await.unwrap();
    worker.commit(&over, completed(&json!(1))).await.unwrap();

    let nothing = engine.cli(&["sessions", "terminate"]).await;
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    let both = engine.cli(&["sessions", "terminate", &id, "--workflow", "audit"]).await;
    assert_eq!(both.code, Some(2), "{both:?}");

    let audit = ["sessions", "terminate", "--workflow", "audit", "--of-version", "3"];
    let dry = engine.cli(&[&audit[..], &["--dry-run", "--json"]].concat()).await.json_lines();
    let named: Vec<&str> = dry.iter().filter_map(|line| line["session_id"].as_str()).collect();
    assert_eq!(named, [id.as_str(), second.as_str()]);
    assert_eq!(dry.last().unwrap()["summary"], json!({ "matched": 2, "done": 2, "refused": 0 }));
    let shown = engine.cli(&["sessions", "show", &id, "--json"]).await.json();
    assert_eq!(shown["session"]["status"], "running");

    let refused = engine.cli(&["sessions", "retry", "--workflow", "audit"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("session_not_paused"), "{refused:?}");
    let done = engine.cli(&audit).await.ok();
    assert!(done.contains("2 of 2 sessions terminated"), "{done}");
    assert!(worker.commit(&first, completed(&json!(1))).await.is_err());
}
