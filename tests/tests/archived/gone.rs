//! What goes and what must not: erasures, retention, legal holds, and files that nobody names.

use std::path::Path;

use arrow::array::AsArray as _;
use bytes::Bytes;
use cellaflow_proto::v1;
use cellaflow_tests::channel::{Worker, completed, session_completed};
use cellaflow_tests::client::{Client, refusal};
use cellaflow_tests::{payload, wait};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::Signal;

use super::kills::{signal, stopped_at};
use super::scene::{RUN, Scene, files, fork, replay, run_fork, show};

/// Bytes of a payload that a test looks for on disk: large enough to lie in a chunk of its own, uncompressed.
const SECRET_BYTES: usize = 100_000;

/// Runs a session whose output cannot be mistaken for anything else.
async fn with_secret(scene: &mut Scene, key: &str, seed: u64) -> String {
    let client = scene.engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin(key).await;
    let secret = payload::bytes(payload::noise(seed, SECRET_BYTES));
    worker.append(&session, 1, completed("secret", secret)).await.expect("the run may append");
    let end = session_completed(payload::literal("\"told\""));
    worker.append(&session, 1, end).await.expect("the run may end");
    scene.record(&client, &session).await;
    session
}

/// Whether the middle of a secret lies anywhere below a folder, in the clear.
fn on_disk(folder: &Path, seed: u64) -> bool {
    let secret = payload::noise(seed, SECRET_BYTES);
    let part = &secret[50_000..50_032];
    files(folder).iter().any(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(part.len()).any(|window| window == part)
    })
}

/// Bytes beyond the headers in the archive's records of a session, and rows that are payloads or made of them.
fn payload_rows(archive: &Path, session: &str) -> (usize, usize) {
    let lineage_of = |batch: &arrow::array::RecordBatch, row| {
        batch.column_by_name("session_id").map(|column| column.as_string::<i32>().value(row).to_owned())
    };
    let (mut bytes, mut rows) = (0, 0);
    for file in files(&archive.join("data")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(std::fs::read(&file).unwrap()));
        for batch in reader.unwrap().build().unwrap() {
            let batch = batch.unwrap();
            for row in
                (0..batch.num_rows()).filter(|row| lineage_of(&batch, *row).as_deref() == Some(session))
            {
                if name.starts_with("events-") {
                    let raw = batch.column_by_name("raw").unwrap().as_binary::<i32>().value(row);
                    let header = u32::from_be_bytes(raw[..4].try_into().unwrap()) as usize;
                    bytes += raw.len() - 4 - header;
                }
                rows += usize::from(name.starts_with("messages-"));
            }
        }
    }
    (bytes, rows)
}

async fn known(client: &Client, session: &str) -> v1::GetArchivedResponse {
    let request = v1::GetArchivedRequest { session_id: session.to_owned() };
    client.archive().get_archived(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_lineage_is_read_by_nobody_and_its_payloads_go_from_ledger_and_files() {
    let mut scene = Scene::start().await;
    scene.add(6).await;
    let live = with_secret(&mut scene, "live", 1).await;
    let kept = with_secret(&mut scene, "kept", 2).await;
    let client = scene.engine.client().await;
    scene.engine.kill_and_restart().await; // what was in memory only is in files now
    let data = scene.engine.data();
    assert!(on_disk(&data, 1) && on_disk(&data, 2), "the test can find a secret");
    drop(client);

    // One that only the archive has, with a fork; and one that only the ledger has.
    let away = with_secret(&mut scene, "away", 3).await;
    let client = scene.engine.client().await;
    let forked = fork(&client, &away, 2).await.expect("an ended session can be forked");
    run_fork(&Worker::connect(&client).await, &forked).await;
    scene.record(&client, &forked).await;
    let hold = |session: &str, lift: bool| {
        let mut arguments = vec!["sessions", "hold", session, "--reason", "test"];
        arguments.extend(lift.then_some("--lift"));
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let engine = &scene.engine;
        async move { engine.cli(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.ok() }
    };
    hold(&live, false).await;
    scene.engine.compactor(&RUN).await.ok();
    assert!(known(&client, &away).await.archived && !known(&client, &live).await.archived, "AR7");
    let erase = |session: &str| {
        let arguments =
            ["sessions", "erase", session, "--reason", "asked", "--yes", "--json"].map(str::to_owned);
        let engine = &scene.engine;
        async move { engine.cli(&arguments.each_ref().map(String::as_str)).await }
    };
    let refused = erase(&live).await;
    assert!(refused.code != Some(0) && refused.stderr.contains("legal_hold"), "{refused:?}");
    hold(&live, true).await;
    for (session, sessions) in [(&live, 1), (&away, 2)] {
        let erased = erase(session).await.json();
        assert_eq!((erased["sessions"].as_u64(), erased["erasing"].as_bool()), (Some(sessions), Some(true)));
    }

    // At once: nobody reads, forks or restores it, and its key is free.
    for session in [&live, &away, &forked] {
        let status = replay(&client, session).await.unwrap_err();
        assert_eq!(refusal(&status).code, "erased");
        assert_eq!(refusal(&fork(&client, session, 2).await.unwrap_err()).code, "erased");
        let shown = show(&client, session).await;
        assert_eq!((shown.status(), &*shown.key), (v1::SessionStatus::Completed, ""));
    }
    assert_ne!(scene.engine.compactor(&["restore", &away]).await.code, Some(0));
    scene.engine.cli(&["ledger", "verify"]).await.ok();
    let worker = Worker::connect(&client).await;
    let again = worker.begin("live").await;
    assert_ne!(again, live, "the key is free");
    worker.append(&again, 1, session_completed(payload::literal("1"))).await.expect("the run may end");
    scene.record(&client, &again).await;

    // With the compactor's next run its payloads are gone, everywhere.
    scene.engine.compactor(&RUN).await.ok();
    for session in [&live, &away, &forked] {
        let after = known(&client, session).await;
        assert!(after.erased && !after.erasing && after.archived, "{after:?}");
        assert_eq!(payload_rows(&scene.engine.archive(), session), (0, 0));
    }
    assert!(payload_rows(&scene.engine.archive(), &kept).0 > 0, "others have theirs");
    for (session, seed) in [(&live, 1), (&away, 3)] {
        assert!(!on_disk(&scene.engine.archive(), seed), "{session}");
        assert!(!on_disk(&scene.engine.data(), seed), "{session}");
    }

    // Headers and hashes are all there, once; chains verify; neighbours in the same files come back.
    scene.archive_all().await;
    scene.duckdb_counts_once().await;
    scene.engine.compactor(&["verify"]).await.ok();
    scene.engine.compactor(&["restore", &kept]).await.ok();
    assert_eq!(replay(&client, &kept).await.unwrap(), scene.before[&kept]);
    let log: String = scene.engine.log();
    assert!(!log.contains("ERROR"), "{log}");
}

/// Kills and stalls while files are written again: every event is there once, before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_or_stalls_while_files_are_written_again_loses_nothing() {
    let mut scene = Scene::start().await;
    let run = [&RUN[..], &["--claim-ms", "1000"]].concat();
    for (arrow, stall) in [("rewritten", false), ("published", false), ("rewritten", true), ("copied", true)]
    {
        scene.add(6).await;
        scene.archive_all().await;
        let first = scene.before.keys().last().unwrap().clone();
        let client = scene.engine.client().await;
        let mut erased = first;
        for session in scene.before.keys() {
            if !known(&client, session).await.erased {
                erased.clone_from(session);
            }
        }
        scene.engine.cli(&["sessions", "erase", &erased, "--reason", "asked", "--yes"]).await.ok();
        let (mut child, go) = stopped_at(&scene.engine, arrow, &run).await;
        if stall {
            signal(&child, Signal::STOP);
        } else {
            child.kill().await.unwrap();
        }
        std::fs::write(&go, "").unwrap();
        wait::until("the erasure is over", async || {
            scene.engine.compactor(&RUN).await.ok();
            let known = known(&client, &erased).await;
            (known.erased && !known.erasing).then_some(())
        })
        .await;
        if stall {
            signal(&child, Signal::CONT);
            let _late = wait::within("the stalled compactor ends", child.wait()).await;
        }
        scene.duckdb_counts_once().await;
        scene.engine.compactor(&["verify"]).await.ok();
        assert_eq!(payload_rows(&scene.engine.archive(), &erased), (0, 0), "{arrow}");
    }
    collect(&scene).await;
    scene.duckdb_counts_once().await;
    scene.engine.compactor(&["verify"]).await.ok();
}

/// Collects until nothing is left to collect; returns how many files went.
async fn collect(scene: &Scene) -> u64 {
    let mut gone = 0;
    wait::until("nothing is left that nobody names", async || {
        let ran = scene.engine.compactor(&["archive", "gc", "--grace", "1s", "--json"]).await.json();
        gone += ran["files"].as_u64().unwrap();
        (ran["young"] == 0 && ran["files"] == 0).then_some(())
    })
    .await;
    gone
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_is_collected_and_nothing_else() {
    let mut scene = Scene::start().await;
    scene.add(6).await;
    scene.archive_all().await;
    let whole = files(&scene.engine.archive());
    scene.add(6).await;
    let run = [&RUN[..], &["--claim-ms", "1000"]].concat();
    let (mut child, _) = stopped_at(&scene.engine, "verified", &run).await;
    child.kill().await.unwrap();
    let left = files(&scene.engine.archive()).len() - whole.len();
    assert!(left > 0, "the crash left files");
    let careful = scene.engine.compactor(&["archive", "gc", "--json"]).await.json();
    assert_eq!((careful["files"].as_u64(), careful["young"].as_u64()), (Some(0), Some(left as u64)), "G1");
    let dry = ["archive", "gc", "--grace", "1s", "--dry-run", "--json"];
    scene.engine.compactor(&dry).await.ok();
    assert_eq!(files(&scene.engine.archive()).len(), whole.len() + left, "a dry run deletes nothing");
    // A commit that waits for its publication keeps its files, whatever their age.
    scene.add(3).await;
    let (mut child, _) = stopped_at(&scene.engine, "committed", &run).await;
    child.kill().await.unwrap();
    collect(&scene).await;
    scene.archive_all().await;
    scene.duckdb_counts_once().await;
    scene.engine.compactor(&["verify"]).await.ok();
    collect(&scene).await;
    scene.restore_some(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_past_its_retention_goes_and_what_is_held_stays() {
    const FLAGS: [&str; 4] = ["--archive-after-ms", "0", "--guard-retention-ms", "1000"];
    let mut scene = Scene::start_with(&[&FLAGS[2..], &["--test-clock", "0"]].concat()).await;
    let sessions = scene.add(6).await;
    scene.archive_all().await;
    let client = scene.engine.client().await;
    let held = sessions[0].clone();
    scene.engine.cli(&["sessions", "hold", &held, "--reason", "court"]).await.ok();
    let nothing = scene.engine.compactor(&[&RUN[..], &["--keep", "30d"]].concat()).await.json();
    assert_eq!(nothing["dropped"], 0, "all of them are young: {nothing}");
    drop(client);

    let forty_days = (40_u64 * 24 * 60 * 60 * 1_000).to_string();
    scene.engine.restart_with(&[&FLAGS[..], &["--test-clock", &forty_days]].concat()).await;
    let client = scene.engine.client().await;
    let young = scene.add(1).await;
    scene.archive_all().await;
    wait::until("what is old is gone", async || {
        let ran = scene.engine.compactor(&[&RUN[..], &["--keep", "30d"]].concat()).await;
        // Until the driver has dropped their idempotency keys, lineages stay.
        let mut gone = true;
        for session in sessions.iter().filter(|session| **session != held) {
            let request = v1::GetSessionRequest { session: cellaflow_tests::client::by_id(session) };
            gone &= client.sessions().get_session(request).await.is_err();
        }
        (ran.code == Some(0) && gone).then_some(())
    })
    .await;
    let listed = scene.engine.cli(&["sessions", "list", "--json"]).await.json();
    let listed: Vec<&str> = listed["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["session_id"].as_str().unwrap())
        .collect();
    assert!(listed.contains(&&*held), "AR7");
    assert!(sessions.iter().all(|one| *one == held || !listed.contains(&&**one)), "{listed:?}");
    let stays: std::collections::BTreeSet<String> = young.into_iter().chain([held]).collect();
    scene.before.retain(|session, _| stays.contains(session));
    scene.duckdb_counts_once().await;
    scene.engine.compactor(&["verify"]).await.ok();
    scene.engine.cli(&["ledger", "verify"]).await.ok();
    let reused = Worker::connect(&client).await.begin("key-5").await;
    assert!(!reused.is_empty(), "the key of what is gone is free");
    scene.restore_some(1).await;
}
