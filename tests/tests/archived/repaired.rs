//! What goes wrong around an archive: an engine that is restored, a lineage that cannot be written, a wrong folder, a walk
//! beside a running worker, a session that came from elsewhere.

use cellaflow_tests::channel::Worker;
use cellaflow_tests::{Engine, wait};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Child;

use super::kills::{signal, stopped_at};
use super::scene::{RUN, Scene, published};

/// Archives everything that has ended, whatever the engine is set to.
const RUN_ALL: [&str; 5] = ["run", "--once", "--json", "--ended-before-ms", "0"];

async fn printed(child: Child) -> (Option<i32>, serde_json::Value) {
    let output = wait::within("the compactor ends", child.wait_with_output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(text.trim()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_archived_after_a_backup_counts_once_when_its_engine_is_restored() {
    // Both manifests counted for ever: tokens and cost doubled, and `verify` found nothing.
    let mut scene = Scene::with_sessions(3).await;
    let in_backup = scene.before.len();
    let made = scene.engine.cli(&["backup", "--json"]).await.json();
    // Began after the backup and lies in the same files: only the archive has it.
    let later = scene.add(1).await;
    scene.archive_all().await;

    let mut restored = Engine::unborn();
    let (from, data) = (made["directory"].as_str().unwrap(), restored.data());
    let arguments = ["restore", "--from", from, "--data", data.to_str().unwrap(), "--json"];
    scene.engine.cli(&arguments).await.ok();
    std::fs::rename(scene.engine.archive(), restored.archive()).unwrap();
    restored.restart().await;
    scene.engine = restored;

    let done = scene.engine.compactor(&RUN_ALL).await.json();
    assert_eq!(
        done["sessions"].as_u64(),
        Some(in_backup as u64),
        "the engine has them, and archives them again"
    );
    scene.duckdb_counts_once().await;
    assert!(later.iter().all(|session| published(&scene.engine.archive()).contains_key(session)));
    let walked = scene.engine.compactor(&["verify", "--json"]).await.json();
    assert_eq!(walked["faults"], json!([]), "{walked}");
    let again = scene.engine.compactor(&RUN_ALL).await.json();
    assert_eq!(again["claims"].as_u64(), Some(0), "it is settled: {again}");
    let one = scene.before.keys().find(|session| !later.contains(session)).unwrap();
    scene.engine.compactor(&["restore", one]).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lineage_that_cannot_be_written_keeps_no_other_one_back() {
    // A round ended with the first error, and the next one met the same lineage first.
    let scene = Scene::with_sessions(1).await;
    let now = time::OffsetDateTime::now_utc().date();
    // A file lies where the folder of the children must be, whether or not midnight passes.
    let days = [now.previous_day().unwrap(), now, now.next_day().unwrap()];
    let folders = days.map(|day| scene.engine.archive().join(format!("data/ns=default/dt={day}")));
    for folder in &folders {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("workflow=child"), "in the way").unwrap();
    }
    let ran = scene.engine.compactor(&RUN).await;
    assert_eq!(ran.code, Some(1), "one claim came to nothing: {ran:?}");
    assert_eq!(published(&scene.engine.archive()).len(), 2, "the root and its fork are archived: {ran:?}");
    for folder in &folders {
        std::fs::remove_file(folder.join("workflow=child")).unwrap();
    }
    scene.archive_all().await;
    scene.check_every_event_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_or_is_stopped_can_be_done_again_at_once() {
    // Its claim lasted on for ten minutes.
    let scene = Scene::with_sessions(1).await;
    scene.archive_all().await;
    let session = scene.before.keys().next().unwrap();
    let nowhere = scene.engine.archive().with_file_name("nowhere");
    let empty = scene.engine.archive().with_file_name("empty");
    std::fs::create_dir(&empty).unwrap();
    for wrong in [&nowhere, &empty] {
        let ran = scene.engine.compactor(&["restore", session, "--archive", wrong.to_str().unwrap()]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("is --archive the folder"), "{ran:?}");
    }
    assert!(!nowhere.exists(), "who only reads makes no folder");

    let (child, _) = stopped_at(&scene.engine, "given", &["restore", session]).await;
    signal(&child, Signal::TERM);
    let (code, _) = printed(child).await;
    assert_eq!(code, Some(1), "it was stopped");
    scene.restore_some(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_beside_a_worker_finds_nothing_wrong_and_can_be_stopped() {
    let mut scene = Scene::with_sessions(1).await;
    scene.archive_all().await;
    scene.add(1).await;
    let verify = ["verify", "--json"];
    // All that it saw of the archive is older than what the ledger says then.
    let (walking, go) = stopped_at(&scene.engine, "listed", &verify).await;
    scene.archive_all().await;
    std::fs::write(&go, "").unwrap();
    let (code, walked) = printed(walking).await;
    assert_eq!((code, &walked["faults"]), (Some(0), &json!([])), "{walked}");
    assert_eq!(walked["archive"]["sessions"], json!(scene.before.len()));

    scene.restore_some(1).await;
    let (worker, go) = stopped_at(&scene.engine, "committed", &RUN).await;
    let walked = scene.engine.compactor(&verify).await.json();
    assert_eq!(walked["faults"], json!([]), "committed, and not published yet: {walked}");
    std::fs::write(&go, "").unwrap();
    assert_eq!(printed(worker).await.0, Some(0));

    let (walking, _) = stopped_at(&scene.engine, "listed", &verify).await;
    signal(&walking, Signal::TERM);
    assert_eq!(printed(walking).await.0, Some(1), "what is not walked to its end proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_began_long_ago_elsewhere_is_archived_at_once_and_stays_after_a_restore() {
    // Beside any young session it was left in the ledger for a week, and a restored one was gone in the next round.
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    worker.begin("young").await;
    let line = |at: &str, role: &str| {
        let message = json!({"role": role, "content": [{"type": "text", "text": "Go"}]});
        json!({"type": role, "sessionId": "run-7", "timestamp": format!("2026-01-02T03:04:{at}Z"), "message": message})
    };
    let path = engine.data().with_file_name("run.jsonl");
    std::fs::write(&path, format!("{}\n{}", line("05", "user"), line("09", "assistant"))).unwrap();
    engine.compactor_without_archive(&["import", path.to_str().unwrap()]).await.ok();

    let round = async || engine.compactor(&RUN).await.json()["lineages"].as_u64();
    assert_eq!(round().await, Some(1), "its end is older than archive_after_ms");
    let archived = published(&engine.archive());
    engine.compactor(&["restore", archived.keys().next().unwrap()]).await.ok();
    assert_eq!(round().await, Some(0), "somebody wants to work with it");
    let all = engine.compactor(&RUN_ALL).await.json();
    assert_eq!(all["lineages"].as_u64(), Some(1), "until archive_after_ms later");
}
