//! Promise: **restorable**. Archiving loses nothing: what was moved reads back byte-equal, chains hold, and whatever is
//! killed or stalled at whatever arrow, every event is in the ledger or in a published file, exactly once.

use cellaflow_proto::v1;
use cellaflow_tests::channel::Worker;
use cellaflow_tests::client::refusal;

mod archived {
    pub mod gone;
    pub mod kills;
    pub mod reclaimed;
    pub mod repaired;
    pub mod s3;
    pub mod scene;
    pub mod worker;
}

use archived::scene::{RUN, Scene, files, fork, own, replay, run_fork, show};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_lineage_is_archived_says_where_it_is_and_comes_back_byte_equal() {
    let scene = Scene::with_sessions(4).await;
    let dry = scene.engine.compactor(&["run", "--once", "--dry-run", "--json"]).await.json();
    assert_eq!((dry["lineages"].as_u64(), dry["sessions"].as_u64()), (Some(5), Some(7)));
    assert!(files(&scene.engine.archive()).is_empty(), "a dry run writes nothing");
    let done = scene.engine.compactor(&RUN).await.json();
    assert_eq!((done["lineages"].as_u64(), done["sessions"].as_u64()), (Some(5), Some(7)));
    scene.check_every_event_once().await;

    let client = scene.engine.client().await;
    for (session, recorded) in &scene.before {
        let shown = show(&client, session).await;
        assert_eq!(shown.status(), v1::SessionStatus::Completed, "the stub says how it ended");
        assert_eq!(shown.hash, recorded.last().unwrap().hash);
        assert!(!shown.archived.is_empty(), "and where it is");
        let refused = replay(&client, session).await.unwrap_err();
        assert_eq!(refusal(&refused).code, "archived");
        assert!(refusal(&refused).message.contains(&shown.archived), "{refused:?}");
    }
    let mut keys = Vec::new();
    for session in scene.before.keys() {
        keys.push(show(&client, session).await.key);
    }
    assert!(keys.contains(&"key-0".to_owned()), "keys stay: {keys:?}");
    let again = scene.engine.compactor(&RUN).await.json();
    assert_eq!(again["lineages"].as_u64(), Some(0), "what is archived is not archived again");

    for session in scene.before.keys() {
        let ran = scene.engine.compactor(&["restore", session]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    for (session, recorded) in &scene.before {
        assert_eq!(
            &replay(&client, session).await.unwrap(),
            recorded,
            "restored byte-equal, hashes included"
        );
    }
    let verified = scene.engine.cli(&["ledger", "verify", "--payloads"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_lineage_is_forked_and_archived_again_with_only_what_is_new() {
    let mut scene = Scene::with_sessions(1).await;
    let root = scene.before.keys().next().unwrap().clone();
    scene.archive_all().await;
    let client = scene.engine.client().await;
    let refused = fork(&client, &root, 3).await.unwrap_err();
    assert_eq!(refusal(&refused).code, "archived", "a fork of an archived session is told to restore it");
    scene.engine.compactor(&["restore", &root]).await.ok();
    let worker = Worker::connect(&client).await;
    let forked = fork(&client, &root, 3).await.expect("a restored session can be forked");
    run_fork(&worker, &forked).await;
    scene.record(&client, &forked).await;
    let done = scene.engine.compactor(&RUN).await.json();
    let own = own(&scene.before[&forked]).len() as u64;
    assert_eq!(
        (done["lineages"].as_u64(), done["events"].as_u64()),
        (Some(1), Some(own)),
        "only what is new"
    );
    scene.engine.compactor(&["verify"]).await.ok();
    scene.check_every_event_once().await;
    scene.restore_some(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_that_has_not_ended_keeps_its_lineage_in_the_ledger_and_goes_on() {
    let mut scene = Scene::with_sessions(1).await;
    let root = scene.before.keys().min().unwrap().clone();
    let client = scene.engine.client().await;
    let forked = fork(&client, &root, 3).await.expect("an ended session can be forked");
    let done = scene.engine.compactor(&RUN).await.json();
    assert_eq!(done["sessions"].as_u64(), Some(1), "only the child: it is a lineage of its own");
    run_fork(&Worker::connect(&client).await, &forked).await;
    scene.record(&client, &forked).await;
    scene.archive_all().await;
    scene.check_every_event_once().await;
    scene.restore_some(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_lost_file_is_found_and_named() {
    let scene = Scene::with_sessions(2).await;
    scene.archive_all().await;
    let sound = scene.engine.compactor(&["verify", "--json"]).await.json();
    assert_eq!(sound["faults"].as_array().map(Vec::len), Some(0), "{sound}");
    let data = files(&scene.engine.archive().join("data"));
    let events = |path: &&std::path::PathBuf| path.to_string_lossy().contains("/events-");
    let path = data.iter().find(events).expect("there is a file of events");
    let whole = std::fs::read(path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, what) in [(Some(flipped), "flipped"), (None, "lost")] {
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let ran = scene.engine.compactor(&["verify"]).await;
        assert_eq!(ran.code, Some(1), "{what}: {ran:?}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(ran.stdout.contains(name), "{what}: {ran:?}");
    }
}
