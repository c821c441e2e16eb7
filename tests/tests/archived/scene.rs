//! A daemon whose ended sessions may be archived at once, families of sessions in it, and what was recorded of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::{self, Event, ForkSessionRequest};
use cellaflow_tests::channel::{Introduction, Worker, completed, session_completed};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::{Engine, Options, events, payload, python, wait};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What archives everything that has ended.
pub const RUN: [&str; 3] = ["run", "--once", "--json"];
/// Workflow of children.
const CHILD: &str = "child";

/// See the module.
pub struct Scene {
    /// The daemon.
    pub engine: Engine,
    /// Session → its events, inherited ones included; of an erased one they have payloads that nobody has any more.
    pub before: BTreeMap<String, Vec<Event>>,
    next: AtomicUsize,
}

impl Scene {
    /// A daemon without sessions.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with further flags.
    pub async fn start_with(more: &[&str]) -> Self {
        let flags = ["--archive-after-ms", "0"].iter().chain(more).map(|flag| (*flag).to_owned()).collect();
        let engine = Engine::start_with(Options { flags }).await;
        Self { engine, before: BTreeMap::new(), next: AtomicUsize::new(0) }
    }

    /// A daemon with families.
    pub async fn with_sessions(count: usize) -> Self {
        let mut scene = Self::start().await;
        scene.add(count).await;
        scene
    }

    /// Runs so many families to their end, all at a time: a root with an unguarded and a guarded step; every third with a
    /// fork, every fourth with a child, every fifth with a payload in chunks. Returns the sessions.
    pub async fn add(&mut self, families: usize) -> Vec<String> {
        let client = self.engine.client().await;
        let worker = Worker::connect(&client).await;
        let serving = Introduction { serves: vec![(CHILD, "1")], capacity: 256, ..Introduction::default() };
        let children = Worker::introduce(&client, serving).await;
        let _alive = [worker.stay_alive(), children.stay_alive()];
        let first = self.next.fetch_add(families, Ordering::Relaxed);
        let running = (first..first + families).map(|n| family(&client, &worker, n));
        let expected = (first..first + families).filter(|n| has_child(*n)).count();
        let run_children = async {
            let mut ran = Vec::new();
            for _ in 0..expected {
                let given = children.dispatched().await;
                children.commit(&given, completed("look", payload::literal("1"))).await.expect("it runs");
                let end = session_completed(payload::literal("\"found\""));
                children.commit(&given, end).await.expect("it ends");
                ran.push(given.session.expect("an assignment has it").session_id);
            }
            ran
        };
        let (families, mut sessions) = tokio::join!(futures::future::join_all(running), run_children);
        sessions.extend(families.into_iter().flatten());
        for session in &sessions {
            self.record(&client, session).await;
        }
        sessions
    }

    /// Runs sessions with one step and this output to their end, one after the other.
    pub async fn large(&mut self, count: usize, output: impl Fn() -> v1::Payload) -> Vec<String> {
        let client = self.engine.client().await;
        let worker = Worker::connect(&client).await;
        let _alive = worker.stay_alive();
        let mut sessions = Vec::new();
        for n in 0..count {
            let session = worker.begin(&format!("large-{n}")).await;
            worker.append(&session, 1, completed("large", output())).await.expect("the run may append");
            let end = session_completed(payload::literal("\"done\""));
            worker.append(&session, 1, end).await.expect("the run may end");
            self.record(&client, &session).await;
            sessions.push(session);
        }
        sessions
    }

    /// Notes what a session consists of.
    pub async fn record(&mut self, client: &Client, session: &str) {
        self.before.insert(session.to_owned(), events::all(client, session).await);
    }

    /// Archives until everything that was recorded is in published files.
    pub async fn archive_all(&self) {
        wait::until("everything is archived", async || {
            let ran = self.engine.compactor(&RUN).await;
            assert_eq!(ran.code, Some(0), "{ran:?}");
            (published(&self.engine.archive()).len() == self.before.len()).then_some(())
        })
        .await;
    }

    /// Every event of these sessions is in a published file or in the ledger, once (a fork's own only).
    pub async fn check_once<'a>(&self, sessions: impl IntoIterator<Item = &'a String>) {
        let client = self.engine.client().await;
        let archived = published(&self.engine.archive());
        for session in sessions {
            let recorded = &self.before[session];
            let in_files = archived.get(session).map(Vec::as_slice).unwrap_or_default();
            match live(&client, session).await {
                Some(live) => {
                    assert_eq!(&live, recorded, "session {session} is as it was in the ledger");
                    assert!(in_files.is_empty(), "session {session} is in both places");
                }
                None => {
                    let own: Vec<u64> = own(recorded).iter().map(|event| event.seq).collect();
                    assert_eq!(in_files, own, "session {session} is whole in the archive, once");
                }
            }
        }
    }

    /// The same of all sessions, at any time.
    pub async fn check_every_event_once(&self) {
        self.check_once(self.before.keys()).await;
    }

    /// DuckDB counts every event that was recorded exactly once across ledger and archive.
    pub async fn duckdb_counts_once(&self) {
        let folder = tempfile::tempdir().unwrap();
        let (expected, live_file) = (folder.path().join("expected.jsonl"), folder.path().join("live.jsonl"));
        let client = self.engine.client().await;
        let (mut all, mut here) =
            (std::fs::File::create(&expected).unwrap(), std::fs::File::create(&live_file).unwrap());
        for (session, recorded) in &self.before {
            lines(&mut all, session, recorded);
            if let Some(live) = live(&client, session).await {
                lines(&mut here, session, &live);
            }
        }
        let mut command = python::program("python/count_once.py");
        let printed = python::ok(command.arg(self.engine.archive()).arg(&expected).arg(&live_file));
        let counted: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let (total, found) = (counted["expected"].as_u64(), counted["live"].as_u64().unwrap());
        assert_eq!(total, Some(found + counted["archived"].as_u64().unwrap()), "{counted}");
        for wrong in ["missing", "unknown", "repeated"] {
            assert_eq!(counted[wrong], 0, "{counted}");
        }
    }

    /// Restores every so many-th session and replays it byte-equal.
    pub async fn restore_some(&self, every: usize) {
        let client = self.engine.client().await;
        for (session, recorded) in self.before.iter().step_by(every) {
            self.engine.compactor(&["restore", session]).await.ok();
            assert_eq!(&live(&client, session).await.expect("it is restored"), recorded);
        }
    }
}

fn has_child(n: usize) -> bool {
    n.is_multiple_of(4)
}

/// One family; returns its root and its fork.
async fn family(client: &Client, worker: &Worker, n: usize) -> Vec<String> {
    let root = worker.begin(&format!("key-{n}")).await;
    let run = |op| async { worker.append(&root, 1, op).await.expect("the run may append") };
    let output =
        if n.is_multiple_of(5) { payload::noise_literal(600_000) } else { payload::literal("\"one\"") };
    run(completed("one", output)).await;
    run(intent(n)).await;
    run(charged()).await;
    if has_child(n) {
        run(spawn()).await;
        wait::until("the child's end is reported", async || {
            let events = events::all(client, &root).await;
            events.iter().any(|event| events::kind(event) == "child_ended").then_some(())
        })
        .await;
    }
    run(session_completed(payload::literal("\"done\""))).await;
    let mut sessions = vec![root.clone()];
    if n.is_multiple_of(3) {
        let forked = fork(client, &root, 3).await.expect("an ended session can be forked");
        run_fork(worker, &forked).await;
        sessions.push(forked);
    }
    sessions
}

fn spawn() -> Op {
    Op::ChildSpawned(v1::ChildSpawned {
        step_key: "research".into(),
        name: "research".into(),
        workflow: CHILD.into(),
        version: "1".into(),
        input: Some(payload::literal("{}")),
        ..v1::ChildSpawned::default()
    })
}

fn intent(n: usize) -> Op {
    Op::GuardIntent(v1::GuardIntent {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        attempt_ms: 30_000,
        grace_ms: 100,
        policy: v1::GuardPolicy::Pause.into(),
        idempotency_key: Some(payload::bytes(format!("invoice-{n}"))),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    })
}

fn charged() -> Op {
    Op::StepCompleted(v1::StepCompleted {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal("\"paid\"")),
        guarded: true,
        ..v1::StepCompleted::default()
    })
}

/// Forks a session.
pub async fn fork(client: &Client, session: &str, from_seq: u64) -> Result<String, tonic::Status> {
    let request = ForkSessionRequest { session: by_id(session), from_seq, ..ForkSessionRequest::default() };
    let forked = client.sessions().fork_session(request).await?.into_inner().session;
    Ok(forked.expect("an answer has it").session_id)
}

/// Runs a fork to its end.
pub async fn run_fork(worker: &Worker, fork: &str) {
    worker.attach(fork, 0).await.expect("a fork can be run");
    let other: Op = completed("two", payload::literal("\"otherwise\""));
    worker.append(fork, 1, other).await.expect("the run may append");
    worker.append(fork, 1, session_completed(payload::literal("0"))).await.expect("the run may end");
}

/// A session as every read shows it.
pub async fn show(client: &Client, session: &str) -> v1::Session {
    let request = v1::GetSessionRequest { session: by_id(session) };
    client.sessions().get_session(request).await.unwrap().into_inner().session.unwrap()
}

/// A session's events.
pub async fn replay(client: &Client, session: &str) -> Result<Vec<Event>, tonic::Status> {
    let request = v1::ReplayRequest { session_id: session.to_owned(), ..v1::ReplayRequest::default() };
    events::replay(client, request).await.map(|replay| replay.events)
}

/// A session's events in the ledger; `None`: they are in the archive.
pub async fn live(client: &Client, session: &str) -> Option<Vec<Event>> {
    match replay(client, session).await {
        Ok(events) => Some(events),
        Err(status) => {
            // Not found: its ledger was lost, and the backup is older than the session.
            let elsewhere = ["archived", "erased", "session_not_found"];
            assert!(elsewhere.contains(&&*refusal(&status).code), "{status:?}");
            None
        }
    }
}

/// What a session appended itself: a fork has its parent's events before its own start.
pub fn own(events: &[Event]) -> &[Event] {
    let starts = |event: &Event| matches!(&event.body, Some(v1::event::Body::SessionStarted(_)));
    &events[events.iter().rposition(starts).expect("it starts")..]
}

fn lines(file: &mut std::fs::File, session: &str, events: &[Event]) {
    for event in own(events) {
        let hash: String = event.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = serde_json::json!({ "session_id": session, "seq": event.seq, "hash": hash });
        writeln!(file, "{line}").unwrap();
    }
}

/// Session → seqs of its events in published files, as a reader of Parquet sees them.
pub fn published(archive: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    // As readers look for them: what a writer is about to rename has another ending.
    let is_manifest = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
    for manifest in files(&archive.join("manifests")).into_iter().filter(is_manifest) {
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

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
