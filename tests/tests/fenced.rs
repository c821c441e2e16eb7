//! Promise: **fenced**. Of two workers on one session, the one with the older lease epoch gets every append refused.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{
    Author, Event, GuardIntent, GuardPolicy, PauseReason, RevokeReason, SessionStatus, StepCompleted,
};
use cellaflow_tests::channel::{self, Answered, Worker, completed};
use cellaflow_tests::counter::{self, Counter};
use cellaflow_tests::process::Process;
use cellaflow_tests::{Engine, events, payload, wait};
use rustix::process::Signal;

/// Commits that each of two workers attempts.
const COMMITS: usize = 10_000;
/// Appends a worker has in flight.
const IN_FLIGHT: usize = 256;

/// By the ledger: every grant has a larger epoch than all before, and every worker's append the epoch in force.
fn assert_one_holder_at_a_time(events: &[Event]) {
    let mut epoch = 0;
    for event in events {
        if let Some(Body::LeaseGranted(granted)) = &event.body {
            assert!(
                granted.epoch > epoch,
                "event {} grants epoch {} after {epoch}",
                event.seq,
                granted.epoch
            );
            epoch = granted.epoch;
        } else if event.author() == Author::Worker {
            assert_eq!(event.epoch, epoch, "event {} was appended by another than the holder", event.seq);
        }
    }
}

fn takeover(events: &[Event]) -> u64 {
    let taken = |event: &&Event| matches!(&event.body, Some(Body::LeaseGranted(granted)) if granted.takeover);
    events.iter().find(taken).expect("a takeover is an event").seq
}

/// Attempts every commit under one epoch; returns the answers in order.
async fn attempt_all(
    worker: &Worker,
    session: &str,
    epoch: u64,
    numbers: std::ops::Range<usize>,
) -> Vec<Answered<u64>> {
    let mut answers = Vec::with_capacity(numbers.len());
    let mut flying = VecDeque::new();
    for n in numbers {
        let op = completed(&format!("step-{n}"), payload::literal("{}"));
        flying.push_back(worker.send_append(channel::append(session, epoch, op)));
        if flying.len() >= IN_FLIGHT {
            answers.push(flying.pop_front().expect("it is full").answer().await.map(|ack| ack.seq));
        }
    }
    for pending in flying {
        answers.push(pending.answer().await.map(|ack| ack.seq));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_commits_by_two_workers_none_of_the_losers_is_accepted_after_the_takeover() {
    let engine = Engine::quick().await;
    let loser = Worker::connect(&engine.client().await).await;
    let winner = Worker::connect(&engine.client().await).await;
    let session = loser.begin("contended").await;
    // The loser commits some, and falls silent: the winner takes over as soon as it may, while the loser wakes up and
    // goes on as if nothing had happened.
    const EARLY: usize = COMMITS / 10;
    let mut answers = attempt_all(&loser, &session, 1, 0..EARLY).await;
    assert!(answers.iter().all(Result::is_ok), "the holder's commits are accepted");
    let mut at = EARLY;
    let (epoch, rest) = tokio::join!(winner.take_over(&session), async {
        let mut answers = Vec::new();
        let mut ttls = 0.95;
        while at < COMMITS {
            // Around the TTL: a wake-up in time keeps the lease, a later one meets the takeover in flight.
            tokio::time::sleep(engine.lease_ttl().mul_f32(ttls)).await;
            ttls += 0.02;
            let until =
                if answers.iter().any(Answered::is_err) { COMMITS } else { (at + EARLY / 10).min(COMMITS) };
            answers.extend(attempt_all(&loser, &session, 1, at..until).await);
            at = until;
        }
        answers
    });
    answers.extend(rest);
    assert_eq!((epoch, answers.len()), (2, COMMITS), "both attempt all commits");
    let _alive = winner.stay_alive();
    let all = attempt_all(&winner, &session, epoch, 0..COMMITS).await;

    let recorded = events::all(&engine.client().await, &session).await;
    let takeover = takeover(&recorded);
    assert_one_holder_at_a_time(&recorded);
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let late = accepted.iter().filter(|answer| answer.as_ref().is_ok_and(|seq| *seq > takeover)).count();
    assert_eq!(late, 0, "commits accepted from the loser after the takeover");
    assert!(!refused.is_empty(), "the loser went on after the takeover");
    assert!(refused.iter().all(|answer| answer.as_ref().is_err_and(|refused| refused.code() == "fenced")));
    // What the loser had committed is a conflict for the winner, who would have replayed it; all else is its own.
    let of = |epoch: u64| {
        recorded.iter().filter(|event| event.author() == Author::Worker && event.epoch == epoch).count()
    };
    let won = all.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((of(1), of(2)), (accepted.len(), won));
    assert_eq!(won, COMMITS - accepted.len());
    assert_eq!(loser.revoked(&session).await.reason(), RevokeReason::Fenced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_changes_hands_often_is_held_by_one_at_a_time() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let mut holder = Worker::connect(&client).await;
    let session = holder.begin("relay").await;
    let mut epoch = 1;
    for n in 0..4 {
        holder
            .append(&session, epoch, completed(&format!("step-{n}"), payload::literal("{}")))
            .await
            .unwrap();
        let next = Worker::connect(&client).await;
        epoch = next.take_over(&session).await;
        let late = holder.append(&session, epoch - 1, completed("late", payload::literal("{}"))).await;
        assert_eq!(late.unwrap_err().code(), "fenced");
        let again = holder.attach(&session, epoch - 1).await;
        assert_eq!(again.unwrap_err().code(), "fenced", "an epoch that was lost is not given back");
        holder = next;
    }
    // The holder gives it back: nobody has it, so nobody appends, and the next one takes it without a takeover.
    holder.release(&session, epoch).await.unwrap();
    let late = holder.append(&session, epoch, completed("late", payload::literal("{}"))).await;
    assert_eq!(late.unwrap_err().code(), "fenced");
    let bound = holder.attach(&session, 0).await.unwrap();
    assert_eq!(bound.epoch, epoch + 1);
    let recorded = events::all(&client, &session).await;
    assert_one_holder_at_a_time(&recorded);
    assert!(matches!(&recorded.last().unwrap().body, Some(Body::LeaseGranted(granted)) if !granted.takeover));
    let totals = client.session(&session).await.totals.unwrap();
    assert_eq!(totals.takeovers, 4, "a lease that was given back is no takeover");
}

/// A worker process in a guarded call, and where it says how far it is.
struct Sleeper {
    process: Process,
    said: PathBuf,
}

impl Sleeper {
    fn start(
        engine: &Engine,
        counter: &Counter,
        policy: GuardPolicy,
        attempt_ms: u64,
        wait_for: Option<&PathBuf>,
    ) -> Self {
        let said = engine.data().with_file_name("sleeper.out");
        let mut command = Command::new(env!("CARGO_BIN_EXE_guarded-worker"));
        command.arg(engine.data().join("connection.json")).arg(&counter.address);
        command.arg(policy.as_str_name()).arg(attempt_ms.to_string()).args(wait_for);
        command.stdout(File::create(&said).unwrap());
        Self { process: Process::start(&mut command), said }
    }

    async fn says(&self, word: &str) -> String {
        wait::until(word, async || {
            let text = std::fs::read_to_string(&self.said).ok()?;
            text.lines().find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stopped_inside_a_guarded_call_is_followed_by_no_second_call() {
    let engine = Engine::quick().await;
    let counter = Counter::start(false).await;
    let sleeper = Sleeper::start(&engine, &counter, GuardPolicy::Pause, 3_000, None);
    let session = sleeper.says("session ").await;
    sleeper.says("calling").await;
    wait::until("the call", async || (counter.count("charge") == 1).then_some(())).await;
    sleeper.process.signal(Signal::STOP);

    let client = engine.client().await;
    let other = Worker::connect(&client).await;
    let epoch = other.take_over(&session).await;
    let _alive = other.stay_alive();
    let intent = GuardIntent {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        attempt_ms: 3_000,
        grace_ms: 300,
        policy: GuardPolicy::Pause.into(),
        idempotency_key: Some(payload::bytes("sleeper")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    };
    // The run that takes over sees an intent without an outcome, and is not allowed to call.
    let refused = other.append(&session, epoch, Op::GuardIntent(intent)).await.unwrap_err();
    assert_eq!(refused.code(), "guard_unresolved");

    counter.open();
    sleeper.process.signal(Signal::CONT);
    assert_eq!(sleeper.says("answer ").await, "fenced", "the call is over, its worker too");
    let paused = client.session_when("the pause", &session, |it| it.status() == SessionStatus::Paused).await;
    assert_eq!(paused.pause_reason(), PauseReason::EffectUnknown, "unknown is said, never guessed");
    assert_eq!(counter.count("charge"), 1);
    assert_one_holder_at_a_time(&events::all(&client, &session).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stopped_before_its_call_does_not_make_it_after_its_time() {
    const ATTEMPT_MS: u64 = 1_500;
    let engine = Engine::quick().await;
    let counter = Counter::start(true).await;
    let go = engine.data().with_file_name("go");
    let sleeper = Sleeper::start(&engine, &counter, GuardPolicy::Retry, ATTEMPT_MS, Some(&go));
    let session = sleeper.says("session ").await;
    sleeper.says("intent").await;
    sleeper.process.signal(Signal::STOP);
    File::create(&go).unwrap();

    let client = engine.client().await;
    let other = Worker::connect(&client).await;
    let epoch = other.take_over(&session).await;
    let _alive = other.stay_alive();
    let second = || GuardIntent {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt: 2,
        input_digest: vec![1; 32].into(),
        attempt_ms: 3_000,
        grace_ms: 300,
        policy: GuardPolicy::Retry.into(),
        idempotency_key: Some(payload::bytes("sleeper")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    };
    wait::until("the policy to allow a second attempt", async || {
        other.append(&session, epoch, Op::GuardIntent(second())).await.ok()
    })
    .await;
    counter::call(&counter.address, "charge").await.unwrap();
    let done = StepCompleted {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt: 2,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal("1")),
        guarded: true,
        ..StepCompleted::default()
    };
    other.append(&session, epoch, Op::StepCompleted(done)).await.unwrap();

    sleeper.process.signal(Signal::CONT);
    sleeper.says("too late").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(counter.count("charge"), 1, "the time of the first attempt was over when its worker woke up");
}
