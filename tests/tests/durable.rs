//! Promise: **durable**. An acknowledged commit survives kill -9 and power loss: acknowledged means synced. What cannot
//! be read back whole is refused by name, never quietly shortened.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{self, Event};
use cellaflow_tests::Engine;
use cellaflow_tests::channel::{self, Refused, Worker, completed};
use cellaflow_tests::client::Client;
use cellaflow_tests::{events, payload, wait};

/// Inline, inline, beside the event, inline, in pieces.
const SIZES: [usize; 5] = [10, 300, 9_000, 50, 70_000];
/// Appends a worker has in flight.
const IN_FLIGHT: usize = 32;

/// What one client sent in its session, and what it was told.
struct Journal {
    instance: String,
    session: String,
    seed: u64,
    sent: usize,
    /// Seq by number of the step.
    acknowledged: BTreeMap<usize, u64>,
}

impl Journal {
    fn name(n: usize) -> String {
        format!("step-{n}")
    }

    fn bytes(&self, n: usize) -> Vec<u8> {
        payload::noise(self.seed * 1_000_003 + n as u64, SIZES[n % SIZES.len()])
    }

    fn op(&self, n: usize) -> v1::append::Op {
        completed(&Self::name(n), payload::bytes(self.bytes(n)))
    }

    /// Sends steps until the stream is lost.
    async fn write(mut self, worker: Worker, acks: Arc<AtomicUsize>) -> Self {
        let mut flying = VecDeque::new();
        loop {
            while flying.len() < IN_FLIGHT {
                let n = self.sent;
                flying.push_back((n, worker.send_append(channel::append(&self.session, 1, self.op(n)))));
                self.sent += 1;
            }
            let (n, pending) = flying.pop_front().expect("it was filled");
            match pending.answer().await {
                Ok(ack) => {
                    self.acknowledged.insert(n, ack.seq);
                    acks.fetch_add(1, Ordering::Relaxed);
                }
                Err(Refused::Lost) => return self,
                Err(Refused::Nack(refusal)) => panic!("nothing here is refused: {refusal:?}"),
            }
        }
    }

    /// What the ledger has must be what was sent, and all of what was acknowledged.
    async fn check(&self, client: &Client) {
        let recorded = events::all(client, &self.session).await;
        let mut steps = BTreeMap::new();
        for event in &recorded {
            let Some(Body::StepCompleted(step)) = &event.body else { continue };
            let n: usize =
                step.step_key.strip_prefix("step-").and_then(|n| n.parse().ok()).expect("a step of ours");
            assert!(
                payload::data(step.output.as_ref().unwrap()) == self.bytes(n),
                "step {n} is not what was sent"
            );
            assert!(steps.insert(n, event.seq).is_none(), "step {n} is there twice");
        }
        for (n, seq) in &self.acknowledged {
            assert_eq!(steps.get(n), Some(seq), "step {n} was acknowledged");
        }
    }

    /// What is sent again after a crash: all that was in flight, and some that was acknowledged.
    async fn resend(&mut self, worker: &Worker) {
        let bound = worker.attach(&self.session, 1).await.expect("expiry alone fences nobody");
        assert_eq!(bound.epoch, 1);
        for n in self.sent.saturating_sub(2 * IN_FLIGHT)..self.sent {
            let ack = worker.append(&self.session, 1, self.op(n)).await.expect("an idempotent commit");
            if let Some(seq) = self.acknowledged.get(&n) {
                assert_eq!((ack.duplicate, ack.seq), (true, *seq), "step {n} answers as the first time");
            }
            self.acknowledged.insert(n, ack.seq);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_commit_survives_kill_9_during_a_stream_of_commits() {
    const WORKERS: u64 = 4;
    const ROUNDS: u64 = 3;
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let mut journals = Vec::new();
    for seed in 1..=WORKERS {
        let worker = Worker::connect(&client).await;
        let session = worker.begin(&format!("client-{seed}")).await;
        let instance = worker.instance.clone();
        journals.push(Journal { instance, session, seed, sent: 0, acknowledged: BTreeMap::new() });
    }
    let mut in_flight = 0;
    for round in 0..ROUNDS {
        let client = engine.client().await;
        let acks = Arc::<AtomicUsize>::default();
        let mut workers = Vec::new();
        for journal in &mut journals {
            let worker = Worker::reconnect(&client, &journal.instance).await;
            journal.resend(&worker).await;
            workers.push(worker);
        }
        let writers = journals.into_iter().zip(workers);
        let writing: Vec<_> =
            writers.map(|(journal, worker)| tokio::spawn(journal.write(worker, Arc::clone(&acks)))).collect();
        wait::until("commits", async || (acks.load(Ordering::Relaxed) > 400).then_some(())).await;
        // Not always at the same point of a frame.
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        engine.kill();
        journals = Vec::new();
        for writer in writing {
            let journal = writer.await.expect("a writer ends when the engine does");
            in_flight += journal.sent - journal.acknowledged.len();
            journals.push(journal);
        }
        engine.restart().await;
        let client = engine.client().await;
        for journal in &journals {
            journal.check(&client).await;
        }
        let walked = client.verify().await;
        let acknowledged: usize = journals.iter().map(|journal| journal.acknowledged.len()).sum();
        assert!(walked.events >= acknowledged as u64 && walked.payloads >= acknowledged as u64, "{walked:?}");
    }
    assert!(in_flight > 0, "the kill came in the middle of something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thin_client_sends_again_what_was_not_answered() {
    let mut engine = Engine::quick().await;
    let mut client = engine.client().await;
    let asked = v1::StartSessionRequest { dedupe_id: vec![7; 16].into(), ..channel::start("") };
    let leased = v1::StartSessionRequest { instance: channel::instance(), ..asked.clone() };
    let started = client.engine().start_session(leased).await.unwrap().into_inner();
    let session = started.session.unwrap().session_id;
    let commit = |n: usize| v1::CommitStepRequest {
        session_id: session.clone(),
        epoch: 1,
        outcome: match completed(&Journal::name(n), payload::bytes(payload::noise(n as u64, 9_000))) {
            v1::append::Op::StepCompleted(step) => Some(v1::commit_step_request::Outcome::Completed(step)),
            _ => None,
        },
        ..v1::CommitStepRequest::default()
    };
    let mut seqs = Vec::new();
    for n in 0..30 {
        if n % 10 == 9 {
            engine.kill_and_restart().await;
            client = engine.client().await;
            let again = client.engine().start_session(asked.clone()).await.unwrap().into_inner();
            assert_eq!(again.session.unwrap().session_id, session, "a start is repeated by its dedupe id");
        }
        seqs.push(client.engine().commit_step(commit(n)).await.unwrap().into_inner().seq);
    }
    for (n, seq) in seqs.iter().enumerate() {
        let again = client.engine().commit_step(commit(n)).await.unwrap().into_inner();
        assert_eq!(
            (again.duplicate, again.seq),
            (true, *seq),
            "the same epoch goes on, and the same answer comes"
        );
    }
    let all = events::all(&client, &session).await;
    assert_eq!(all.iter().filter(|event| events::kind(event) == "step_completed").count(), 30);
}

/// A daemon that was killed after some small commits, its events, and its newest log.
async fn killed_with_a_log() -> (Engine, String, Vec<Event>, PathBuf) {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("damaged").await;
    for n in 0..40 {
        let bytes = payload::bytes(payload::noise(n, 500));
        worker.append(&session, 1, completed(&format!("step-{n}"), bytes)).await.unwrap();
    }
    let recorded = events::all(&client, &session).await;
    engine.kill();
    let db = engine.data().join("ledger").join("db");
    let logs = fs::read_dir(db).unwrap().map(|entry| entry.unwrap().path());
    let log =
        logs.filter(|path| path.extension().is_some_and(|end| end == "log")).max_by_key(|path| length(path));
    let log = log.expect("a killed ledger has a log");
    assert!(length(&log) > 40 * 500, "the commits are in this log");
    (engine, session, recorded, log)
}

fn length(log: &Path) -> usize {
    usize::try_from(fs::metadata(log).unwrap().len()).unwrap()
}

/// Everything in the ledger's folder, but for who has it locked.
fn contents(engine: &Engine) -> BTreeMap<PathBuf, Vec<u8>> {
    let ledger = engine.data().join("ledger");
    let folders = [ledger.clone(), ledger.join("db")];
    let paths =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let files = paths.filter(|path| path.is_file() && !path.ends_with("lock"));
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The marked and the found frame in a refusal to start.
fn both_numbers(said: &str) -> (u64, u64) {
    let after = |words: &str| {
        let (_, rest) = said.split_once(words).unwrap_or_else(|| panic!("{words:?} is not in {said}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number follows {words:?} in {said}"))
    };
    assert!(said.contains("lost acknowledged frames"), "{said}");
    assert!(said.contains("cellaflow ledger accept-loss"), "it says what to do: {said}");
    (after("marked up to "), after("found: frame "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_log_is_refused_by_name_and_only_accept_loss_goes_on() {
    let (mut engine, session, recorded, log) = killed_with_a_log().await;
    let mut bytes = fs::read(&log).unwrap();
    let middle = length(&log) / 2;
    bytes[middle] ^= 0x10;
    fs::write(&log, bytes).unwrap();

    let before = contents(&engine);
    let (code, said) = engine.restart_refused().await;
    assert_eq!(code, Some(1));
    let (marked, found) = both_numbers(&said);
    assert!(found < marked, "{said}");
    assert!(contents(&engine) == before, "a ledger that is refused is left as it was");
    let (_, again) = engine.restart_refused().await;
    assert_eq!(both_numbers(&again), (marked, found), "asking twice changes nothing");

    let accepted = engine.cli(&["ledger", "accept-loss", "--yes", "--json"]).await.json();
    let numbers = (&accepted["marked_frame"], &accepted["recovered_frame"]);
    assert_eq!(numbers, (&marked.into(), &found.into()), "it tells what it lets go");
    engine.restart().await;
    let client = engine.client().await;
    let left = events::all(&client, &session).await;
    assert!(
        (3..recorded.len()).contains(&left.len()),
        "{} of {} events are left",
        left.len(),
        recorded.len()
    );
    assert_eq!(left, recorded[..left.len()], "what is left is a prefix");
    client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_starts_and_a_torn_acknowledgement_does_not() {
    let (mut engine, session, recorded, log) = killed_with_a_log().await;
    // A frame that was being written when the power went, beyond what anybody was told of: the beginning of a record.
    let mut torn = fs::read(&log).unwrap();
    torn.extend_from_within(..20);
    fs::write(&log, torn).unwrap();
    engine.restart().await;
    let client = engine.client().await;
    assert_eq!(events::all(&client, &session).await, recorded);
    client.verify().await;

    let (mut engine, _, _, log) = killed_with_a_log().await;
    let cut = length(&log) - 5;
    fs::File::options().write(true).open(&log).unwrap().set_len(cut as u64).unwrap();
    let (code, said) = engine.restart_refused().await;
    let (marked, found) = both_numbers(&said);
    assert_eq!((code, marked - found), (Some(1), 1), "the last frame had been acknowledged: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_was_asked_for_answers_what_it_took() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("stopped").await;
    let instance = worker.instance.clone();
    let journal = Journal { instance, session, seed: 9, sent: 0, acknowledged: BTreeMap::new() };
    let acks = Arc::<AtomicUsize>::default();
    let writing = tokio::spawn(journal.write(worker, Arc::clone(&acks)));
    wait::until("commits", async || (acks.load(Ordering::Relaxed) > 200).then_some(())).await;
    assert_eq!(engine.stop().await, Some(0), "{}", engine.log());
    let journal = writing.await.expect("a writer ends when the engine does");
    engine.restart().await;
    let client = engine.client().await;
    journal.check(&client).await;
    client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_killed_anywhere_starts_again() {
    for step in 0..20 {
        let mut engine = Engine::unborn();
        engine.restart_and_kill_after(Duration::from_millis(3 * step)).await;
        engine.restart().await;
        let client = engine.client().await;
        assert_eq!(Worker::connect(&client).await.begin("first").await.len(), 36, "after {} ms", 3 * step);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_engine_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let mut engine = Engine::quick().await;
    let worker = Worker::connect(&engine.client().await).await;
    let session = worker.begin("alone").await;
    let second = engine.cli(&["dev", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(
        second.stderr.contains("another `cellaflow dev`")
            || second.stdout.contains("another `cellaflow dev`"),
        "{second:?}"
    );
    worker.append(&session, 1, completed("on", payload::literal("1"))).await.expect("the first goes on");
    engine.kill_and_restart().await;
    assert_eq!(engine.client().await.session(&session).await.seq, 3);
}
