//! What was run elsewhere comes in once, with its own times, and is a session like any other: read, archived, counted.

use cellaflow_proto::v1;
use cellaflow_tests::channel::{Worker, session_completed};
use cellaflow_tests::duckdb::ask;
use cellaflow_tests::{Engine, Options, events, payload};
use serde_json::{Value, json};

const RUN: [&str; 3] = ["run", "--once", "--json"];

async fn engine() -> Engine {
    let flags = ["--archive-after-ms", "0"].map(str::to_owned).to_vec();
    Engine::start_with(Options { flags }).await
}

/// Some columns of a row.
fn of<const N: usize>(row: &Value, names: [&str; N]) -> Vec<Value> {
    names
        .iter()
        .map(|name| row.get(name).unwrap_or_else(|| panic!("no column {name} in {row}")).clone())
        .collect()
}

/// A transcript of one question, one call of a tool and one answer, as `openai-chat` writes them; `n` makes it another.
fn chat(n: usize) -> String {
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{\"id\": 7}"}});
    json!([
        {"role": "user", "content": format!("What is {n}?")},
        {"role": "assistant", "content": "I look it up", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": format!("a number: {n}")},
        {"role": "assistant", "content": "It is a number"},
    ])
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transcript_is_imported_once_reads_like_any_session_and_is_archived() {
    let engine = engine().await;
    let client = engine.client().await;
    let file = |name: &str, text: &str| {
        let path = engine.data().with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.json", &chat(1));
    let bad = file(
        "bad.jsonl",
        &format!("{}\n{{broken\n", json!({"messages": serde_json::from_str::<Value>(&chat(2)).unwrap()})),
    );
    let import = async |arguments: &[&str]| {
        engine.compactor_without_archive(&[&["import", "--json"], arguments].concat()).await
    };

    let first = import(&["--format", "openai-chat", &good, &bad]).await;
    assert_eq!(first.code, Some(1), "a line of one file is bad: {first:?}");
    let summary: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(of(&summary, ["created", "known", "events"]), [json!(1), json!(0), json!(5)]);
    let problem = summary["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("bad.jsonl") && problem.contains("line 2") && problem.contains("--skip-bad"),
        "{problem}"
    );

    let again = import(&["--skip-bad", &good, &bad]).await.json();
    assert_eq!(
        of(&again, ["created", "known", "skipped_lines"]),
        [json!(1), json!(1), json!(1)],
        "the same adds nothing"
    );
    let listed =
        client.sessions().list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.sessions.len(), 2);
    let session = &listed.sessions[0];
    assert_eq!((session.workflow.as_str(), session.status()), ("openai-chat", v1::SessionStatus::Completed));
    let kinds = events::kinds(&events::all(&client, &session.session_id).await);
    assert_eq!(
        kinds,
        ["session_started", "step_completed", "step_completed", "step_completed", "session_completed"]
    );
    client.verify().await;

    engine.compactor(&RUN).await.ok();
    let archive = engine.archive();
    let said = ask(&archive, "SELECT role, kind, text FROM messages WHERE source = 'conversation' AND
        session_id = (SELECT session_id FROM messages WHERE text = 'What is 1?') ORDER BY seq, position, part");
    let texts: Vec<_> = said.iter().map(|row| of(row, ["role", "kind", "text"])).collect();
    assert_eq!(
        texts,
        [
            ["user", "text", "What is 1?"],
            ["assistant", "text", "I look it up"],
            ["assistant", "tool_call", "{\"id\": 7}"],
            ["tool", "tool_result", "a number: 1"],
            ["assistant", "text", "It is a number"],
        ]
    );
    assert_eq!(import(&[&good]).await.json()["known"], json!(1), "archived, and known all the same");
    let restored = engine.compactor(&["restore", &session.session_id]).await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_keeps_times_and_says_when_a_transcript_has_gone_on() {
    let engine = engine().await;
    let client = engine.client().await;
    let line = |at: &str, role: &str, text: &str| {
        let message = json!({"role": role, "model": "m", "content": [{"type": "text", "text": text}], "usage": {"output_tokens": 3}});
        json!({"type": role, "sessionId": "run-7", "timestamp": format!("2026-01-02T03:04:{at}Z"), "message": message}).to_string()
    };
    let path = engine.data().with_file_name("run.jsonl");
    let import = async |more: &[&str]| {
        engine
            .compactor_without_archive(&[&["import", "--json", path.to_str().unwrap()], more].concat())
            .await
    };
    let two = [line("05", "user", "Go"), line("09", "assistant", "Gone")].join("\n");
    std::fs::write(&path, &two).unwrap();
    assert_eq!(import(&["--workflow", "mine"]).await.json()["created"], json!(1));
    std::fs::write(&path, format!("{two}\n{}", line("10", "user", "Come back"))).unwrap();
    let refused = import(&["--workflow", "mine"]).await;
    assert!(refused.code == Some(1) && refused.stdout.contains("--as-new"), "{refused:?}");
    assert_eq!(import(&["--workflow", "mine", "--as-new"]).await.json()["created"], json!(1));
    assert_eq!(import(&["--workflow", "mine", "--as-new"]).await.json()["known"], json!(1));

    // Behind one that began later than the others ended: all the same they are cold.
    let worker = Worker::connect(&client).await;
    let fresh = worker.begin("fresh").await;
    worker.append(&fresh, 1, session_completed(payload::literal("1"))).await.unwrap();
    std::fs::write(&path, two.replace("run-7", "run-8")).unwrap();
    assert_eq!(import(&["--workflow", "other"]).await.json()["created"], json!(1));
    let day = ["run", "--once", "--json", "--ended-before-ms", "86400000"];
    assert_eq!(engine.compactor(&day).await.json()["sessions"], json!(3), "all but the fresh one");

    let archive = engine.archive();
    let cost = engine.compactor(&["report", "--json", "cost"]).await.json();
    let row =
        cost["queries"]["cost"].as_array().unwrap().iter().find(|row| row["workflow"] == "mine").unwrap();
    assert_eq!(
        of(row, ["day", "workflow", "model", "calls", "output_tokens", "cost_usd"]),
        [json!("2026-01-02"), json!("mine"), json!("m"), json!(2), json!(6), Value::Null]
    );
    let took =
        ask(&archive, "SELECT epoch_ms(started_at) AS at, duration_ms FROM sessions ORDER BY duration_ms");
    assert_eq!(took[0], json!({"at": 1_767_323_045_000_u64, "duration_ms": 4_000}));
    let none = engine.compactor_without_archive(&["import", "--format", "pi", "/nowhere.jsonl"]).await;
    assert!(none.code == Some(1) && none.stdout.contains("/nowhere.jsonl"), "{none:?}");
}
