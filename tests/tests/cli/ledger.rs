//! `ledger verify` and `ledger accept-loss`: durable, and said when it is not.

use std::path::Path;

use cellaflow_tests::Engine;

use super::{started, step};

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

/// Flips one bit where `text` lies in a table file, as a failing disk does.
fn flip(db: &Path, text: &[u8]) {
    for entry in std::fs::read_dir(db).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let is_table = path.extension().is_some_and(|extension| extension == "sst");
        let found = bytes.windows(text.len()).position(|window| window == text).filter(|_| is_table);
        if let Some(at) = found {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("{} has no table file with the text", db.display());
}

#[tokio::test]
async fn a_bad_event_is_named_and_the_exit_code_says_that_there_is_one() {
    let mut engine = Engine::start().await;
    let (worker, assigned, id) = started(&engine, "a").await;
    // Far enough from the events before it that they lie in another block of the file.
    let noise: String =
        (0..7_000_u32).map(|n| char::from(33 + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 90)).collect();
    for key in ["one", "two", "three", "needle-in-the-ledger", "four"] {
        worker.commit(&assigned, step(key, &noise.clone().into())).await.unwrap();
    }
    drop(worker);
    engine.stop().await;
    // A start moves what the log holds into a table file.
    engine.restart().await;
    engine.stop().await;
    flip(&engine.data().join("ledger/db"), b"needle-in-the-ledger");
    engine.restart().await;

    let report = engine.cli(&["ledger", "verify"]).await;
    assert_eq!(report.code, Some(1), "{report:?}\n{}", engine.log());
    assert!(report.stdout.contains(&format!("first bad event: session {id} event")), "{report:?}");
    let report = engine.cli(&["ledger", "verify", "--json"]).await;
    let found: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report.code, Some(1));
    let seq = found["faults"][0]["seq"].as_u64().unwrap();
    assert!((4..=7).contains(&seq), "near the flipped byte: {found}");
}
