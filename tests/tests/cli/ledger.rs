//! `ledger verify` and `ledger accept-loss`: durable, and said when it is not.

use std::path::Path;

use cellaflow_tests::Engine;

use super::started;

#[tokio::test]
async fn a_sound_ledger_verifies_and_says_what_was_walked() {
    let engine = Engine::start().await;
    let (_worker, _, id) = started(&engine, "a").await;
    let report = engine.cli(&["ledger", "verify", "--payloads", "--json"]).await.json();
    assert_eq!((&report["summary"]["faults"], &report["faults"]), (&0.into(), &serde_json::json!([])));
    assert!(report["summary"]["payloads"].as_u64().unwrap() >= 2, "{report}");
    let one = engine.cli(&["ledger", "verify", "--session", &id]).await.ok();
    assert!(one.contains("verified 1 session, 3 events: every chain holds"), "{one}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn lost_frames_are_named_and_given_up_only_when_somebody_says_so() {
    let mut engine = Engine::start().await;
    let (ledger, kept) = (engine.data().join("ledger"), engine.data().with_file_name("kept"));
    engine.stop().await;
    let sound = engine.cli(&["ledger", "accept-loss", "--yes"]).await;
    assert_eq!(sound.code, Some(1), "{sound:?}");
    assert!(sound.stderr.contains("lost nothing"), "{}", sound.stderr);

    // A disk that forgets: the store goes back to before the session, the mark does not.
    copy(&ledger.join("db"), &kept);
    engine.restart().await;
    let busy = engine.cli(&["ledger", "accept-loss", "--yes"]).await;
    assert_eq!(busy.code, Some(75), "a running engine keeps its ledger: {busy:?}");
    drop(started(&engine, "a").await);
    engine.stop().await;
    std::fs::remove_dir_all(ledger.join("db")).unwrap();
    copy(&kept, &ledger.join("db"));

    let unasked = engine.cli(&["ledger", "accept-loss"]).await;
    assert_eq!(unasked.code, Some(2), "without a terminal nobody can be asked: {unasked:?}");
    assert!(
        unasked.stderr.contains("marked as durable") && unasked.stderr.contains("still there"),
        "{unasked:?}"
    );
    let accepted = engine.cli(&["ledger", "accept-loss", "--yes", "--json"]).await.json();
    let (marked, recovered) = (&accepted["marked_frame"], &accepted["recovered_frame"]);
    assert!(marked.as_u64().unwrap() > recovered.as_u64().unwrap(), "both numbers are told: {accepted}");

    engine.restart().await;
    let listed = engine.cli(&["sessions", "list", "--json"]).await.json();
    assert_eq!(listed["sessions"], serde_json::json!([]), "the session was given up");
}
