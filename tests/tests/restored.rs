//! Promises of DESIGN 4: a backup is made while the engine runs; a restored ledger has another **incarnation**, under which
//! nothing goes on by itself. And what sessions are found by: labels, versions, times.

use std::collections::HashMap;
use std::time::Duration;

use cellaflow_proto::v1::{
    ListSessionsRequest, ReleaseSessionRequest, SessionFilter, SessionStatus, SetLabelsRequest,
    StartSessionRequest,
};
use cellaflow_tests::channel::{Introduction, Worker, completed, start};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::{Engine, Options, payload};

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_restored_waits_until_it_is_released_and_old_workers_are_refused() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("order").await;
    worker.append(&session, 1, completed("a", payload::literal("1"))).await.unwrap();
    let ended = worker.begin("ended").await;
    worker
        .append(&ended, 1, cellaflow_tests::channel::session_completed(payload::literal("2")))
        .await
        .unwrap();

    let made = engine.cli(&["backup", "--json"]).await.json();
    // What comes after the backup is not in it.
    worker.append(&session, 1, completed("b", payload::literal("3"))).await.unwrap();
    let seq_after = client.session(&session).await.seq;

    let restored = Engine::unborn();
    let data = restored.data();
    let from = made["directory"].as_str().unwrap();
    let said =
        engine.cli(&["restore", "--from", from, "--data", data.to_str().unwrap(), "--json"]).await.json();
    assert_eq!(said["frame"], made["frame"]);
    let twice = engine.cli(&["restore", "--from", from, "--data", data.to_str().unwrap()]).await;
    assert!(twice.code != Some(0) && twice.stderr.contains("not empty"), "{twice:?}");
    let mut restored = restored;
    restored.restart().await;

    let client = restored.client().await;
    let held = client.session(&session).await;
    assert!(held.held && held.waiting_for.contains("sessions release"), "{held:?}");
    assert_eq!(held.seq, seq_after - 1, "the step after the backup is gone");
    assert!(!client.session(&ended).await.held, "what has ended waits for nothing");

    // The worker that ran it before comes back with its epoch: refused, in words and by reason.
    let old = Worker::introduce(
        &client,
        Introduction { instance: worker.instance.clone(), ..Introduction::default() },
    )
    .await;
    let refused = old.attach(&session, 1).await.unwrap_err();
    assert_eq!(refused.code(), "incarnation_changed", "{refused:?}");
    let fresh = Worker::connect(&client).await;
    assert_eq!(fresh.attach(&session, 0).await.unwrap_err().code(), "incarnation_changed");
    let again = client.engine().start_session(start("order")).await.unwrap().into_inner();
    assert_eq!((again.created, again.epoch), (false, 0), "its key still names it");

    let request = ReleaseSessionRequest { session_id: session.clone(), ..ReleaseSessionRequest::default() };
    let released = client.operator().release_session(request).await.unwrap().into_inner().session.unwrap();
    assert!(!released.held);
    // The same process asks for a new lease; another one would wait until that one counts as dead.
    let bound = old.attach(&session, 0).await.unwrap();
    assert!(bound.epoch > 1, "{bound:?}");
    old.append(&session, bound.epoch, completed("b", payload::literal("3"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_never_opened_in_place() {
    let engine = Engine::quick().await;
    let made = engine.cli(&["backup", "--name", "mine", "--json"]).await.json();
    let folder = std::path::Path::new(made["directory"].as_str().unwrap());
    let mut other = Engine::unborn();
    std::fs::create_dir_all(other.data()).unwrap();
    std::fs::rename(folder, other.data().join("ledger")).unwrap();
    let (code, said) = other.restart_refused().await;
    assert!(code != Some(0) && said.contains("cellaflow restore"), "{said}");
    let outside = engine.cli(&["backup", "--name", "../x"]).await;
    assert!(outside.code != Some(0) && outside.stderr.contains("name must"), "{outside:?}");
}

async fn found(client: &Client, filter: SessionFilter) -> Vec<String> {
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            filter: Some(filter.clone()),
            page_size: 2,
            page_token,
            ..ListSessionsRequest::default()
        };
        let page = client.sessions().list_sessions(request).await.unwrap().into_inner();
        keys.extend(page.sessions.into_iter().map(|session| session.key));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return keys;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_found_by_labels_version_and_time_page_by_page_while_others_arrive() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let begin = async |key: &str, version: &str, tier: &str| {
        let request = StartSessionRequest {
            version: version.into(),
            labels: labels(&[("tier", tier), ("team", "a")]),
            ..start(key)
        };
        client.engine().start_session(request).await.unwrap().into_inner().session.unwrap()
    };
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(
            begin(&format!("k{n}"), if n < 4 { "1" } else { "2" }, if n % 2 == 0 { "gold" } else { "iron" })
                .await,
        );
    }
    let gold = SessionFilter { labels: labels(&[("tier", "gold")]), ..SessionFilter::default() };
    let (listed, ()) = tokio::join!(found(&client, gold.clone()), async {
        for n in 0..10 {
            begin(&format!("late{n}"), "1", "iron").await;
        }
    });
    assert_eq!(listed, ["k4", "k2", "k0"], "newest first, whatever arrives meanwhile");
    let both = SessionFilter { version: "2".into(), ..gold.clone() };
    assert_eq!(found(&client, both).await, ["k4"]);
    let none =
        SessionFilter { labels: labels(&[("tier", "gold"), ("team", "b")]), ..SessionFilter::default() };
    assert!(found(&client, none).await.is_empty());
    let early = SessionFilter { started_before_ms: ids[2].started_ms, ..gold.clone() };
    assert_eq!(found(&client, early).await, ["k0"]);
    let late = SessionFilter { started_after_ms: ids[4].started_ms, ..gold.clone() };
    assert_eq!(found(&client, late).await, ["k4"]);

    let change = SetLabelsRequest {
        session: by_id(&ids[2].session_id),
        set: labels(&[("tier", "iron")]),
        removed: vec!["team".into()],
        dedupe_id: vec![7; 16].into(),
    };
    let changed = client.sessions().set_labels(change).await.unwrap().into_inner().session.unwrap();
    assert_eq!(changed.labels, labels(&[("tier", "iron")]));
    assert_eq!(found(&client, gold).await, ["k4", "k0"]);
    let many = (0..17).map(|n| (n.to_string(), String::new())).collect();
    let refused = client.engine().start_session(StartSessionRequest { labels: many, ..start("many") }).await;
    assert_eq!(refusal(&refused.unwrap_err()).code, "invalid_argument");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_time_is_over_is_cancelled_whoever_runs_it() {
    let mut engine = Engine::start_with(Options::default()).await;
    let client = engine.client().await;
    let timed = |key: &str| StartSessionRequest { timeout_ms: 1_500, ..start(key) };
    // Nobody ever runs it: there is nothing to clean up, and it ends at once when its time is over.
    let idle = client.engine().start_session(timed("idle")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(idle.deadline_ms, idle.started_ms + 1_500);
    engine.kill_and_restart().await;
    let client = engine.client().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let now = client.session(&idle.session_id).await;
        if now.status() == SessionStatus::Cancelled {
            assert!(now.ended_ms >= idle.deadline_ms, "not before its time");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
