//! Promise: **restorable**. Archiving loses nothing: what was moved reads back byte-equal, chains hold, and whatever is
//! killed or stalled at whatever arrow, every event is in the ledger or in a published file, exactly once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::{self, Event, ForkSessionRequest};
use cellaflow_tests::channel::{Worker, completed, session_completed};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::events;
use cellaflow_tests::payload;
use cellaflow_tests::{Engine, Options, wait};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::{Pid, Signal, kill_process};

/// A daemon whose ended sessions may be archived at once, and what was recorded before.
struct Scene {
    engine: Engine,
    /// Session → its events, inherited ones included.
    before: BTreeMap<String, Vec<Event>>,
}

/// What archives everything that has ended.
const RUN: [&str; 3] = ["run", "--once", "--json"];

impl Scene {
    async fn start() -> Self {
        let flags = ["--archive-after-ms", "0", "--lease-ttl-ms", "500"].map(str::to_owned).to_vec();
        Self { engine: Engine::start_with(Options { flags }).await, before: BTreeMap::new() }
    }

    /// So many ended lineages, every third with a fork, every fifth with payloads in chunks.
    async fn with_sessions(count: usize) -> Self {
        let mut scene = Self::start().await;
        let client = scene.engine.client().await;
        let worker = Worker::connect(&client).await;
        for n in 0..count {
            let session = end(&worker, &format!("key-{n}"), n % 5 == 0).await;
            scene.record(&client, &session).await;
            if n % 3 == 0 {
                let fork = fork(&client, &session, 3).await.expect("an ended session can be forked");
                run_fork(&worker, &fork).await;
                scene.record(&client, &fork).await;
            }
        }
        scene
    }

    async fn record(&mut self, client: &Client, session: &str) {
        self.before.insert(session.to_owned(), events::all(client, session).await);
    }

    /// Archives until nothing is cold, and publishes what was left.
    async fn archive_all(&self) {
        let ran = self.engine.compactor(&RUN).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Every event is in a published file or in the ledger, once, with its hash (the fork's own only).
    async fn check_every_event_once(&self) {
        let client = self.engine.client().await;
        let archived = published(&self.engine.archive());
        for (session, recorded) in &self.before {
            let live = match replay(&client, session).await {
                Ok(live) => live,
                Err(status) => {
                    assert_eq!(refusal(&status).code, "archived", "{status:?}");
                    Vec::new()
                }
            };
            let in_files = archived.get(session).map(Vec::as_slice).unwrap_or_default();
            let first = recorded.iter().rfind(|event| starts(event)).expect("it starts").seq;
            let own: Vec<u64> = recorded.iter().map(|event| event.seq).filter(|seq| *seq >= first).collect();
            if live.is_empty() {
                assert_eq!(in_files, own, "session {session} is whole in the archive, once");
            } else {
                assert_eq!(&live, recorded, "session {session} is as it was in the ledger");
                assert!(in_files.is_empty(), "session {session} is in both places");
            }
        }
    }
}

/// A fork has its parent's events before its own start.
fn starts(event: &Event) -> bool {
    matches!(&event.body, Some(v1::event::Body::SessionStarted(_)))
}

async fn replay(client: &Client, session: &str) -> Result<Vec<Event>, tonic::Status> {
    let request = v1::ReplayRequest { session_id: session.to_owned(), ..v1::ReplayRequest::default() };
    events::replay(client, request).await.map(|replay| replay.events)
}

/// Session → seqs of its events in published files, as a reader of Parquet sees them.
fn published(archive: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for manifest in files(&archive.join("manifests")) {
        let text = std::fs::read_to_string(manifest).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        for file in manifest["files"].as_array().unwrap().iter().filter(|file| file["table"] == "events") {
            let path = archive.join(file["path"].as_str().unwrap());
            for (session, seq) in rows(std::fs::read(path).unwrap()) {
                found.entry(session).or_default().push(seq);
            }
        }
    }
    found
}

/// Session and seq of every row.
fn rows(bytes: Vec<u8>) -> Vec<(String, u64)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().build().unwrap();
    let mut found = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let sessions = batch.column_by_name("session_id").unwrap().as_string::<i32>();
        let seqs = batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
        let rows = sessions.iter().zip(seqs);
        found.extend(rows.map(|(session, seq)| (session.unwrap().to_owned(), seq.unwrap().cast_unsigned())));
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn end(worker: &Worker, key: &str, large: bool) -> String {
    let session = worker.begin(key).await;
    let run = |op| worker.append(&session, 1, op);
    let output = if large { payload::noise_literal(600_000) } else { payload::literal("\"one\"") };
    run(completed("one", output)).await.expect("the run may append");
    run(completed("two", payload::literal("2"))).await.expect("the run may append");
    run(session_completed(payload::literal("\"done\""))).await.expect("the run may end");
    session
}

async fn fork(client: &Client, session: &str, from_seq: u64) -> Result<String, tonic::Status> {
    let request = ForkSessionRequest { session: by_id(session), from_seq, ..ForkSessionRequest::default() };
    let forked = client.sessions().fork_session(request).await?.into_inner().session;
    Ok(forked.expect("an answer has it").session_id)
}

async fn run_fork(worker: &Worker, fork: &str) {
    worker.attach(fork, 0).await.expect("a fork can be run");
    let other: Op = completed("two", payload::literal("\"otherwise\""));
    worker.append(fork, 1, other).await.expect("the run may append");
    worker.append(fork, 1, session_completed(payload::literal("0"))).await.expect("the run may end");
}

async fn show(client: &Client, session: &str) -> v1::Session {
    let request = v1::GetSessionRequest { session: by_id(session) };
    client.sessions().get_session(request).await.unwrap().into_inner().session.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_lineage_is_archived_says_where_it_is_and_comes_back_byte_equal() {
    let scene = Scene::with_sessions(4).await;
    let dry = scene.engine.compactor(&["run", "--once", "--dry-run", "--json"]).await.json();
    assert_eq!((dry["lineages"].as_u64(), dry["sessions"].as_u64()), (Some(4), Some(6)));
    assert!(files(&scene.engine.archive()).is_empty(), "a dry run writes nothing");
    let done = scene.engine.compactor(&RUN).await.json();
    assert_eq!((done["lineages"].as_u64(), done["sessions"].as_u64()), (Some(4), Some(6)));
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
    let keyed = show(&client, scene.before.keys().next().unwrap()).await;
    assert_eq!(keyed.key, "key-0", "keys stay");
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
    let own = scene.before[&forked].len() as u64 - 3;
    assert_eq!(
        (done["lineages"].as_u64(), done["events"].as_u64()),
        (Some(1), Some(own)),
        "only what is new"
    );
    scene.check_every_event_once().await;
    scene.engine.compactor(&["restore", &forked]).await.ok();
    for (session, recorded) in &scene.before {
        assert_eq!(&replay(&client, session).await.unwrap(), recorded);
    }
}

/// The arrows at which the compactor can be stopped.
const ARROWS: [&str; 6] = ["claimed", "streamed", "written", "verified", "committed", "published"];

/// How long the claims of compactors that are stopped last, in ms.
const CLAIM_MS: &str = "1000";

/// Waits until a claim of a compactor that is gone or asleep is over, by the engine's clock.
async fn claim_is_over() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

fn signal(child: &tokio::process::Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Starts a compactor that stops at an arrow, and waits until it is there.
async fn stopped_at(engine: &Engine, arrow: &str) -> (tokio::process::Child, PathBuf) {
    let go = engine.data().with_file_name(format!("go-{arrow}"));
    let env = [("CELLAFLOW_COMPACTOR_BREAK", arrow), ("CELLAFLOW_COMPACTOR_GO", go.to_str().unwrap())];
    let child = engine.compactor_in_background(&[&RUN[..], &["--claim-ms", CLAIM_MS]].concat(), &env);
    let reached = go.with_extension("reached");
    wait::until("the compactor is at its arrow", async || reached.exists().then_some(())).await;
    (child, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_killed_at_any_arrow_leaves_every_event_in_one_place() {
    for arrow in ARROWS {
        let scene = Scene::with_sessions(6).await;
        let (mut child, _) = stopped_at(&scene.engine, arrow).await;
        child.kill().await.unwrap();
        if arrow != "committed" {
            scene.check_every_event_once().await;
        }
        claim_is_over().await;
        scene.archive_all().await;
        assert_eq!(published(&scene.engine.archive()).len(), scene.before.len(), "all of it is archived");
        scene.check_every_event_once().await;
        assert!(files(&scene.engine.archive().join("pending")).len() <= 1, "{arrow}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_at_any_arrow_leaves_every_event_in_one_place() {
    for arrow in ARROWS {
        let mut scene = Scene::with_sessions(6).await;
        let (mut child, go) = stopped_at(&scene.engine, arrow).await;
        scene.engine.kill_and_restart().await;
        std::fs::write(&go, "").unwrap();
        // Its engine went away, and came back on another port: it gives up, or had nothing more to ask.
        let _ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("it ends");
        claim_is_over().await;
        scene.archive_all().await;
        scene.check_every_event_once().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_that_stalls_and_wakes_commits_nothing_under_a_claim_that_is_over() {
    for arrow in ["claimed", "streamed", "written", "verified"] {
        let scene = Scene::with_sessions(3).await;
        let (mut stalled, go) = stopped_at(&scene.engine, arrow).await;
        signal(&stalled, Signal::STOP);
        std::fs::write(&go, "").unwrap();
        claim_is_over().await;
        scene.archive_all().await;
        scene.check_every_event_once().await;
        signal(&stalled, Signal::CONT);
        let _ended = tokio::time::timeout(Duration::from_secs(30), stalled.wait()).await.expect("it ends");
        scene.check_every_event_once().await;
        let client = scene.engine.client().await;
        let any = scene.before.keys().next().unwrap();
        scene.engine.compactor(&["restore", any]).await.ok();
        assert_eq!(replay(&client, any).await.unwrap(), scene.before[any]);
    }
}
