//! Space: what is archived gives its bytes back to the file system, whatever is killed meanwhile; neighbours stay.

use std::path::Path;
use std::time::Duration;

use cellaflow_tests::{payload, wait};

use super::scene::{RUN, Scene, files, live};

/// Sessions with a large payload in one segment.
const SESSIONS: usize = 20;
/// Bytes of each payload; they do not compress.
const PAYLOAD_BYTES: usize = 400_000;
/// Starts of the engine that are cut short while it gives space back.
const KILLS: u32 = 8;

fn bytes_on_disk(folder: &Path) -> u64 {
    // A file may be deleted while it is looked at.
    files(folder).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_is_given_back_and_the_living_neighbours_stay_whatever_is_killed() {
    let flags = ["--segment-ms", "3600000", "--archive-after-ms", "0", "--test-clock", "0"];
    let mut scene = Scene::start_with(&[&flags[..2], &flags[4..]].concat()).await;
    let sessions = scene.large(SESSIONS, || payload::bytes(payload::noise(7, PAYLOAD_BYTES))).await;
    scene.add(3).await;
    let held = &sessions[..2];
    for session in held {
        scene.engine.cli(&["sessions", "hold", session, "--reason", "stays"]).await.ok();
    }
    scene.engine.kill_and_restart().await; // the log of writes becomes files
    let before = bytes_on_disk(&scene.engine.data());
    assert!(before > (SESSIONS * PAYLOAD_BYTES) as u64, "{before} bytes are less than was written");
    scene.engine.compactor(&RUN).await.ok();

    // Three hours later the segment is closed; every start looks at once, and most are killed while they do.
    let later = ["--test-clock", "10800000", "--reclaim-every-ms", "100"];
    let later = [&flags[..4], &later[..]].concat();
    scene.engine.restart_with(&later).await;
    scene.engine.kill();
    for n in 0..KILLS {
        scene.engine.restart_and_kill_after(Duration::from_millis(u64::from(n) * 40)).await;
    }
    scene.engine.restart().await;
    let after = wait::until("the space is given back", async || {
        let now = bytes_on_disk(&scene.engine.data());
        (now < before / 4).then_some(now)
    })
    .await;
    println!(
        "{before} bytes on disk before, {after} after {} of {SESSIONS} sessions went",
        SESSIONS - held.len()
    );

    let client = scene.engine.client().await;
    for session in held {
        assert_eq!(live(&client, session).await.as_ref(), Some(&scene.before[session]), "a neighbour");
    }
    scene.check_every_event_once().await;
    scene.engine.cli(&["ledger", "verify", "--payloads"]).await.ok();
    scene.engine.compactor(&["verify"]).await.ok();
    scene.restore_some(6).await;
}
