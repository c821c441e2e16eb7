//! `steps resolve` and `sessions resume`: an unknown effect is said, never guessed (at most once).

use std::time::Duration;

use cellaflow_proto::v1;
use cellaflow_tests::channel::Worker;
use cellaflow_tests::{Engine, json};
use serde_json::json;

use super::{FIRST, request};

/// A session whose guarded step `mail` never had an outcome, once the engine has paused it.
async fn paused(engine: &Engine, key: &str) -> (Worker, v1::Assigned, String) {
    let worker = Worker::reconnect(&engine.client().await, FIRST).await;
    let assigned = worker.start(request(key)).await.unwrap();
    let id = assigned.session.clone().unwrap().session_id;
    let intent = v1::GuardIntent {
        step_key: "mail".into(),
        name: "mail".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
        attempt_ms: 100,
        grace_ms: 50,
        policy: v1::GuardPolicy::Pause.into(),
        idempotency_key: Some(v1::Payload {
            format: v1::PayloadFormat::Bytes.into(),
            body: Some(v1::payload::Body::Data(format!("report-{key}").into())),
            ..v1::Payload::default()
        }),
    };
    worker.commit(&assigned, v1::append::Op::GuardIntent(intent)).await.unwrap();
    let early = engine.cli(&["steps", "resolve", &id, "mail", "--not-applied"]).await;
    assert_eq!(early.code, Some(75), "before its time nobody may decide: {early:?}");
    assert!(early.stderr.contains("guard_not_due"), "{}", early.stderr);
    let wait = v1::AwaitSessionRequest {
        session: Some(v1::SessionRef { by: Some(v1::session_ref::By::SessionId(id.clone())) }),
        wait_ms: 10_000,
        until_unleased: false,
        through_waits: false,
    };
    let session = engine.sessions().await.await_session(wait).await.unwrap().into_inner().session.unwrap();
    assert_eq!(session.status(), v1::SessionStatus::Paused, "{session:?}");
    (worker, assigned, id)
}

#[tokio::test]
async fn show_says_how_to_resolve_an_unknown_effect_and_resolving_it_resumes() {
    let engine = Engine::start().await;
    let (_worker, _, id) = paused(&engine, "a").await;

    let page = engine.cli(&["sessions", "show", &id]).await.ok();
    let command = format!("cellaflow steps resolve {id} mail --output JSON");
    assert!(page.contains(&command) && page.contains("OPEN INTENT"), "{page}");

    let resolve = ["steps", "resolve", &id, "mail", "--output", r#"{"messageId":"m@1"}"#, "--json"];
    let session = engine.cli(&resolve).await.json();
    assert_eq!((&session["status"], &session["open_intents"]), (&json!("running"), &json!([])));

    let events = engine.cli(&["sessions", "events", &id, "--json"]).await.json_lines();
    let resolved = events.iter().find(|event| event["type"] == "guard_resolved").unwrap();
    assert_eq!(resolved["guard_resolved"]["resolution"], "output");
    assert_eq!(resolved["guard_resolved"]["output"]["value"], json!({ "messageId": "m@1" }));
    assert_eq!(resolved["author"], "operator");
    assert!(!resolved["guard_resolved"]["by"].as_str().unwrap().is_empty(), "who decided is recorded");
    assert_eq!(events.last().unwrap()["type"], "session_resumed");

    let again = engine.cli(&resolve).await;
    assert_eq!(again.code, Some(1), "an effect is resolved once: {again:?}");
}

#[tokio::test]
async fn a_step_is_failed_by_a_person_and_the_session_resumed_apart() {
    let engine = Engine::start().await;
    let (_worker, _, id) = paused(&engine, "a").await;
    let resolve =
        ["steps", "resolve", "audit/a", "mail", "--error", "refused by the server", "--no-resume", "--json"];
    assert_eq!(engine.cli(&resolve).await.json()["status"], "paused");

    let page = engine.cli(&["sessions", "show", &id]).await.ok();
    assert!(page.contains(&format!("cellaflow sessions resume {id}")), "{page}");
    let resumed = engine.cli(&["sessions", "resume", &id, "--json"]).await.json();
    assert_eq!(resumed["status"], "running");
    let twice = engine.cli(&["sessions", "resume", &id]).await;
    assert_eq!(twice.code, Some(1), "{twice:?}");
    assert!(twice.stderr.contains("session_not_paused"), "the reason code is shown: {}", twice.stderr);

    let events = engine.cli(&["sessions", "events", &id, "--json"]).await.json_lines();
    let resolved = events.iter().find(|event| event["type"] == "guard_resolved").unwrap();
    assert_eq!(resolved["guard_resolved"]["failure"]["value"]["message"], "refused by the server");
}

#[tokio::test]
async fn a_late_outcome_of_the_lease_holder_beats_the_operator() {
    let engine = Engine::start().await;
    let (worker, assigned, id) = paused(&engine, "a").await;
    // 5.1: until a resolution exists an outcome from the lease holder is accepted, however late.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let outcome = v1::StepCompleted {
        step_key: "mail".into(),
        name: "mail".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        output: Some(json(&json!("sent"))),
        guarded: true,
        ..v1::StepCompleted::default()
    };
    worker.commit(&assigned, v1::append::Op::StepCompleted(outcome)).await.unwrap();
    let refused = engine.cli(&["steps", "resolve", &id, "mail", "--not-applied"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("guard_not_open"), "{}", refused.stderr);
}
