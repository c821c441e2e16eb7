//! `sessions list|show|events`.

use cellaflow_proto::v1;
use cellaflow_tests::{Engine, json};
use serde_json::json;

use super::{completed, request, started, step};

#[tokio::test]
async fn a_session_is_listed_shown_and_read_by_id_by_part_and_by_key() {
    let engine = Engine::start().await;
    let (worker, assigned, id) = started(&engine, "report-7").await;
    worker.commit(&assigned, completed(&json!({ "findings": 2 }))).await.unwrap();

    let listed = engine.cli(&["sessions", "list", "--json"]).await.json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["sessions"][0]["session_id"], id.as_str());
    assert_eq!(listed["sessions"][0]["status"], "completed");
    let table = engine.cli(&["sessions", "list"]).await.ok();
    assert!(table.contains("audit@3") && table.contains("$0.0020") && table.contains(&id), "{table}");

    let end = id.rsplit('-').next().unwrap();
    for name in [id.as_str(), end, "audit/report-7"] {
        let shown = engine.cli(&["sessions", "show", name, "--json"]).await.json();
        assert_eq!(shown["session"]["session_id"], id.as_str(), "{name}");
        assert_eq!(shown["output"]["value"], json!({ "findings": 2 }));
        assert_eq!(shown["events"].as_array().unwrap().last().unwrap()["type"], "session_completed");
    }
    let page = engine.cli(&["sessions", "show", end]).await.ok();
    assert!(page.contains("completed") && page.contains(r#"{"findings":2}"#), "{page}");
}

#[tokio::test]
async fn events_are_one_json_object_per_line_from_any_seq_on() {
    let engine = Engine::start().await;
    let (worker, assigned, id) = started(&engine, "a").await;
    worker.commit(&assigned, step("audit", &json!("ok"))).await.unwrap();

    let all = engine.cli(&["sessions", "events", &id, "--json"]).await.json_lines();
    let types: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["session_started", "lease_granted", "step_completed", "step_completed"]);
    assert_eq!(all[0]["session_started"]["input"]["value"], json!({ "repository": "here" }));
    assert_eq!(all[2]["step_completed"]["output"]["value"], json!({ "files": 3 }));

    let late =
        engine.cli(&["sessions", "events", &id, "--from", "3", "--limit", "1", "--json"]).await.json_lines();
    assert_eq!(late, all[2..3]);
    let bare = engine.cli(&["sessions", "events", &id, "--headers", "--json"]).await.json_lines();
    let output = &bare[2]["step_completed"]["output"];
    assert_eq!((&output["absent"], &output["size_bytes"]), (&json!(true), &json!(11)), "{output}");
    let text = engine.cli(&["sessions", "events", &id]).await.ok();
    assert_eq!(text.lines().count(), 5, "a header and four events:\n{text}");
}

#[tokio::test]
async fn a_payload_that_travels_in_pieces_is_shown_whole() {
    let engine = Engine::start().await;
    let (_worker, assigned, id) = started(&engine, "a").await;
    let large: String =
        (0..60_000).map(|n| char::from(b'a' + u8::try_from(n * 7_919 % 26).unwrap())).collect();
    let outcome = v1::StepCompleted {
        step_key: "large".into(),
        name: "large".into(),
        attempt: 1,
        output: Some(json(&json!([large, large, large, large, large]))),
        ..v1::StepCompleted::default()
    };
    let commit = v1::CommitStepRequest {
        session_id: id.clone(),
        epoch: assigned.epoch,
        outcome: Some(v1::commit_step_request::Outcome::Completed(outcome)),
        ..v1::CommitStepRequest::default()
    };
    engine.published().await.commit_step(commit).await.unwrap();
    let events = engine.cli(&["sessions", "events", &id, "--from", "4", "--json"]).await.json_lines();
    assert_eq!(events[0]["step_completed"]["output"]["value"][4], json!(large));
}

#[tokio::test]
async fn a_list_is_narrowed_and_continued() {
    let engine = Engine::start().await;
    let mut published = engine.published().await;
    for key in ["a", "b", "c"] {
        published.start_session(request(key)).await.unwrap();
        // Sessions of one millisecond are listed in no particular order.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let first = engine.cli(&["sessions", "list", "--limit", "2", "--json"]).await.json();
    let keys = |list: &serde_json::Value| {
        let sessions = list["sessions"].as_array().unwrap().clone();
        sessions.iter().map(|session| session["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&first), ["c", "b"], "newest first");
    let token = first["next_page_token"].as_str().unwrap();
    let rest = engine.cli(&["sessions", "list", "--page-token", token, "--json"]).await.json();
    assert_eq!((keys(&rest), rest["next_page_token"].as_str()), (vec!["a".to_owned()], Some("")));
    let none = engine.cli(&["sessions", "list", "--status", "failed"]).await;
    assert_eq!((none.stdout.as_str(), none.code), ("", Some(0)));
}
