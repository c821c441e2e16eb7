//! kill -9 and SIGSTOP at every arrow of `claim → stream → write → re-read and verify → commit → publish`.

use std::path::PathBuf;

use cellaflow_tests::{Engine, wait};
use rustix::process::{Pid, Signal, kill_process};

use super::scene::{RUN, Scene};

/// The arrows at which the compactor can be stopped.
const ARROWS: [&str; 6] = ["claimed", "streamed", "written", "verified", "committed", "published"];
/// How long the claims of compactors that are stopped last, in ms.
const CLAIM_MS: &str = "1000";
/// Families that are archived at each arrow: 36 sessions or so, more than 200 in all.
const FAMILIES: usize = 24;

pub fn signal(child: &tokio::process::Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Starts a compactor that stops at an arrow, and waits until it is there.
pub async fn stopped_at(
    engine: &Engine,
    arrow: &str,
    arguments: &[&str],
) -> (tokio::process::Child, PathBuf) {
    let go = engine.data().with_file_name(format!("go-{arrow}"));
    let reached = go.with_extension("reached");
    for left in [&go, &reached] {
        // Of another compactor that was stopped here.
        let _none = std::fs::remove_file(left).is_err();
    }
    let env = [("CELLAFLOW_COMPACTOR_BREAK", arrow), ("CELLAFLOW_COMPACTOR_GO", go.to_str().unwrap())];
    let child = engine.compactor_in_background(arguments, &env);
    wait::until("the compactor is at its arrow", async || reached.exists().then_some(())).await;
    (child, go)
}

async fn stopped(engine: &Engine, arrow: &str) -> (tokio::process::Child, PathBuf) {
    stopped_at(engine, arrow, &[&RUN[..], &["--claim-ms", CLAIM_MS]].concat()).await
}

/// What must hold after all the kills: each event once, chains, samples that come back, and once again.
async fn nothing_is_lost(scene: &Scene) {
    assert!(scene.before.len() > 200, "{} sessions are too few", scene.before.len());
    scene.duckdb_counts_once().await;
    let away = scene.engine.compactor(&["verify", "--json"]).await.json();
    assert_eq!(away["archive"]["sessions"], scene.before.len(), "{away}");
    assert_eq!(away["faults"].as_array().unwrap().len(), 0, "{away}");
    scene.restore_some(17).await;
    let verified = scene.engine.cli(&["ledger", "verify", "--payloads"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    scene.engine.compactor(&["verify", "--payloads"]).await.ok();
    // What was restored is archived again without being written again.
    scene.archive_all().await;
    scene.duckdb_counts_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_killed_at_any_arrow_leaves_every_event_in_one_place() {
    let mut scene = Scene::start().await;
    for arrow in ARROWS {
        let added = scene.add(FAMILIES).await;
        let (mut child, _) = stopped(&scene.engine, arrow).await;
        child.kill().await.unwrap();
        if arrow != "committed" {
            scene.check_once(&added).await;
        }
        scene.archive_all().await;
        scene.check_once(&added).await;
    }
    nothing_is_lost(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_at_any_arrow_leaves_every_event_in_one_place() {
    let mut scene = Scene::start().await;
    for arrow in ARROWS {
        let added = scene.add(FAMILIES).await;
        let (mut child, go) = stopped(&scene.engine, arrow).await;
        scene.engine.kill_and_restart().await;
        if arrow != "committed" {
            scene.check_once(&added).await;
        }
        std::fs::write(&go, "").unwrap();
        // Its engine went away, and came back on another port: it gives up, or had nothing more to ask.
        let _ended = wait::within("the compactor ends", child.wait()).await;
        scene.archive_all().await;
        scene.check_once(&added).await;
    }
    nothing_is_lost(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_that_stalls_and_wakes_commits_nothing_under_a_claim_that_is_over() {
    let mut scene = Scene::start().await;
    for arrow in ARROWS {
        let added = scene.add(FAMILIES).await;
        let (mut stalled, go) = stopped(&scene.engine, arrow).await;
        signal(&stalled, Signal::STOP);
        std::fs::write(&go, "").unwrap();
        scene.archive_all().await;
        scene.check_once(&added).await;
        signal(&stalled, Signal::CONT);
        let ended = wait::within("the stalled compactor ends", stalled.wait()).await.unwrap();
        let late = !["committed", "published"].contains(&arrow);
        assert_eq!(!ended.success(), late, "{arrow}: whoever comes too late says so");
        scene.check_once(&added).await;
    }
    nothing_is_lost(&scene).await;
}
