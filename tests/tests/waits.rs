//! Promise: **a run waits without a worker**. A session that waits for timers, signals or approvals is held by nobody,
//! for as long as it takes; what it waits for comes once, whatever is killed meanwhile.

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{self, append::Op};
use cellaflow_proto::v1::{
    ApprovalDecision, Event, PauseReason, ReleaseReason, SessionStatus, WaitDropped, WaitKind,
};
use cellaflow_tests::channel::{Introduction, Worker, approval, awaited, decision, timer};
use cellaflow_tests::client::{Client, refusal};
use cellaflow_tests::sleepers::{self, Plan};
use cellaflow_tests::{Engine, Options, events, payload};

/// A worker that serves the workflow of `begin`, and takes what is dispatched.
async fn serving(client: &Client) -> Worker {
    let introduction = Introduction { serves: vec![("test", "1")], capacity: 4, ..Introduction::default() };
    Worker::introduce(client, introduction).await
}

async fn append(worker: &Worker, session: &str, epoch: u64, op: Op) -> u64 {
    worker.append(session, epoch, op).await.expect("a run may wait").seq
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| events::kind(event) == kind).count()
}

fn position(events: &[Event], kind: &str) -> usize {
    let found = events.iter().position(|event| events::kind(event) == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {:?}", events::kinds(events)))
}

async fn code<T: std::fmt::Debug>(refused: impl Future<Output = Result<T, tonic::Status>>) -> String {
    refusal(&refused.await.expect_err("it is refused")).code
}

// W2, W3, M1, M2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_session_outlives_the_engine_and_is_given_to_a_worker_when_its_timer_fires() {
    let mut engine = Engine::start().await;
    let client = engine.client().await;
    let worker = serving(&client).await;
    let session = worker.begin("sleeps").await;
    let seq = append(&worker, &session, 1, timer("nap", 1_500)).await;
    let ack = worker.release_waiting(&session, 1, seq).await.expect("it only waits");

    let asleep = client.session(&session).await;
    assert_eq!((asleep.status(), asleep.instance.as_str()), (SessionStatus::Waiting, ""));
    assert!(asleep.waiting_for.starts_with("timer nap, until "), "{}", asleep.waiting_for);
    assert_eq!((asleep.waits[0].kind(), asleep.waits[0].seq), (WaitKind::Timer, seq));
    // Nobody can take it before its time.
    let bound = worker.attach(&session, 0).await.expect("a waiting session is shown");
    assert_eq!(bound.epoch, 0);

    drop(worker);
    engine.kill_and_restart().await;
    let client = engine.client().await;
    let worker = serving(&client).await;
    let given = worker.dispatched().await;
    let woken = given.session.as_ref().unwrap();
    assert_eq!((woken.session_id.as_str(), given.epoch), (session.as_str(), 2));
    assert_eq!((woken.status(), woken.waits.len()), (SessionStatus::Running, 0));

    let recorded = events::all(&client, &session).await;
    let Some(Body::TimerStarted(started)) = &recorded[2].body else { panic!("{:?}", recorded[2]) };
    let released = &recorded[3];
    assert_eq!((recorded[2].seq, released.seq), (seq, ack.seq));
    let Some(Body::LeaseReleased(release)) = &released.body else { panic!("{released:?}") };
    assert_eq!(release.reason(), ReleaseReason::Waiting);
    let fired = &recorded[4];
    assert_eq!(events::kind(fired), "timer_fired");
    assert!(fired.time_ms >= started.due_ms, "never early"); // M2
    assert_eq!(started.due_ms, recorded[2].time_ms + 1_500); // M1
    assert_eq!(count(&recorded, "timer_fired"), 1);
    client.verify().await;
}

// W2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_refused_when_something_came_in_between() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("races").await;
    let seq = append(&worker, &session, 1, awaited("answer#1", "answer", 0)).await;
    // The signal is decided before the release, which the run sent without knowing of it.
    assert!(client.signal(&session, "answer", "42", "a").await.unwrap().delivered);
    let refused = worker.release_waiting(&session, 1, seq).await.unwrap_err();
    assert_eq!(refused.code(), "not_idle");
    let pushed = worker.events_to(&session, seq + 2).await;
    assert_eq!(events::kinds(&pushed[pushed.len() - 2..]), ["signal_received", "signal_delivered"]);
    // Having seen it, the run has nothing to wait for any more.
    let refused = worker.release_waiting(&session, 1, seq + 2).await.unwrap_err();
    assert_eq!(refused.code(), "not_idle");
    let session = client.session(&session).await;
    assert_eq!((session.status(), session.instance), (SessionStatus::Running, worker.instance.clone()));
}

// S1, S2, S3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_signal_is_buffered_once_and_delivered_in_order() {
    let mut engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("early").await;
    let first = client.signal(&session, "answer", "1", "a").await.unwrap();
    assert!(!first.delivered && !first.duplicate);
    client.signal(&session, "answer", "2", "b").await.unwrap();
    client.signal(&session, "other", "3", "").await.unwrap();
    let again = client.signal(&session, "answer", "1", "a").await.unwrap();
    assert_eq!((again.seq, again.duplicate), (first.seq, true)); // S3
    assert_eq!(code(client.signal(&session, "answer", "9", "a")).await, "signal_conflict");
    assert_eq!(code(client.signal(&session, "renamed", "1", "a")).await, "signal_conflict");

    drop(worker);
    engine.kill_and_restart().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let epoch = worker.take_over(&session).await;
    let again = client.signal(&session, "answer", "1", "a").await.unwrap();
    assert_eq!((again.seq, again.duplicate), (first.seq, true), "ids are remembered over restarts");
    let one = append(&worker, &session, epoch, awaited("answer#1", "answer", 0)).await;
    let two = append(&worker, &session, epoch, awaited("answer#2", "answer", 0)).await;
    // The outcome that the append met comes after its ack, in the order of the ledger.
    let seen = worker.events_to(&session, two + 1).await;
    let delivered: Vec<(String, u64)> = seen
        .iter()
        .filter_map(|event| match &event.body {
            Some(Body::SignalDelivered(to)) => Some((to.step_key.clone(), to.signal_seq)),
            _ => None,
        })
        .collect();
    assert_eq!(delivered, [("answer#1".to_owned(), first.seq), ("answer#2".to_owned(), first.seq + 1)]); // S1
    assert_eq!(two, one + 2);
    // Asked again after a lost acknowledgement: what there is.
    let recorded = worker.append(&session, epoch, awaited("answer#1", "answer", 0)).await.unwrap();
    assert_eq!(events::kind(&recorded.recorded.unwrap()), "signal_delivered"); // W1
    let end = cellaflow_tests::channel::session_completed(payload::literal("0"));
    worker.append(&session, epoch, end).await.unwrap();
    assert_eq!(code(client.signal(&session, "answer", "5", "c")).await, "session_ended");
    assert!(client.signal(&session, "answer", "2", "b").await.unwrap().duplicate, "for the session's life");
    client.verify().await;
}

// W3, S5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_wakes_a_waiting_session_and_time_runs_out_without_one() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = serving(&client).await;
    let session = worker.begin("woken").await;
    append(&worker, &session, 1, awaited("never#1", "never", 300)).await;
    let seq = append(&worker, &session, 1, awaited("answer#1", "answer", 0)).await;
    worker.release_waiting(&session, 1, seq).await.unwrap();
    // Another name wakes nobody.
    client.signal(&session, "other", "0", "").await.unwrap();

    let given = worker.dispatched().await;
    assert_eq!(given.epoch, 2);
    let recorded = events::all(&client, &session).await;
    let out_of_time = &recorded[position(&recorded, "signal_delivered")];
    let Some(Body::SignalDelivered(late)) = &out_of_time.body else { panic!("{out_of_time:?}") };
    assert_eq!((late.step_key.as_str(), late.signal_seq), ("never#1", 0));

    let seq = recorded.last().unwrap().seq;
    worker.release_waiting(&session, 2, seq).await.unwrap();
    assert_eq!(client.session(&session).await.waiting_for, "signal answer: `cellaflow sessions signal`");
    assert!(client.signal(&session, "answer", "1", "").await.unwrap().delivered);
    assert_eq!(worker.dispatched().await.epoch, 3);
}

// A1, A2, A3, A4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_decided_once_for_exactly_its_arguments() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = serving(&client).await;
    let session = worker.begin("asks").await;
    append(&worker, &session, 1, approval("pay", 0)).await;
    let seq = append(&worker, &session, 1, approval("hurry", 200)).await;
    worker.release_waiting(&session, 1, seq).await.unwrap();

    let approve = |name| decision(&session, name, ApprovalDecision::Approved);
    let other = v1::DecideApprovalRequest { args_digest: vec![8; 32].into(), ..approve("pay") };
    assert_eq!(code(client.decide(other)).await, "approval_mismatch"); // A1
    assert_eq!(code(client.decide(approve("nothing"))).await, "not_found");
    let expire = decision(&session, "pay", ApprovalDecision::Expired);
    assert_eq!(code(client.decide(expire)).await, "invalid_argument");

    let given = worker.dispatched().await;
    let recorded = events::all(&client, &session).await;
    let Some(Body::ApprovalDecided(expired)) = &recorded[position(&recorded, "approval_decided")].body else {
        panic!("nothing was decided")
    };
    assert_eq!((expired.decision(), expired.by.as_str()), (ApprovalDecision::Expired, "")); // A3
    assert_eq!(code(client.decide(approve("hurry"))).await, "approval_decided");
    worker.release_waiting(&session, given.epoch, recorded.last().unwrap().seq).await.unwrap();

    let first = v1::DecideApprovalRequest {
        dedupe_id: vec![1; 16].into(),
        on_behalf_of: "Ada".into(),
        ..approve("pay")
    };
    let decided = client.decide(first.clone()).await.unwrap();
    assert_eq!((decided.status(), decided.waits.len()), (SessionStatus::Running, 0));
    client.decide(first).await.expect("the same decision sent again is a duplicate");
    let second = decision(&session, "pay", ApprovalDecision::Rejected);
    assert_eq!(code(client.decide(second)).await, "approval_decided"); // A2

    assert_eq!(worker.dispatched().await.epoch, 3);
    let recorded = events::all(&client, &session).await;
    let decisions: Vec<_> = recorded
        .iter()
        .filter_map(|event| match &event.body {
            Some(Body::ApprovalDecided(decided)) => Some((decided.decision(), decided.by.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(decisions.len(), 2);
    assert_eq!(decisions[1].0, ApprovalDecision::Approved);
    assert!(decisions[1].1.ends_with(" (on behalf of Ada)"), "{decisions:?}"); // A4
    client.verify().await;
}

// W4, W6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_a_session_is_paused_waits_for_it_and_a_dropped_wait_gets_nothing() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("paused").await;
    append(&worker, &session, 1, timer("nap", 200)).await;
    append(&worker, &session, 1, timer("lost", 100)).await;
    let drop = Op::WaitDropped(WaitDropped { step_key: "lost".into() });
    append(&worker, &session, 1, drop.clone()).await;
    assert!(worker.append(&session, 1, drop).await.unwrap().duplicate);
    let pause = v1::SessionPaused { reason: PauseReason::Nondeterminism.into(), ..Default::default() };
    append(&worker, &session, 1, Op::SessionPaused(pause)).await;
    let refused = worker.append(&session, 1, timer("later", 1)).await.unwrap_err();
    assert_eq!(refused.code(), "session_paused"); // W4
    worker.release(&session, 1).await.unwrap();

    let fired = client.session_when("the timer to fire", &session, |session| session.waits.is_empty()).await;
    assert_eq!(fired.status(), SessionStatus::Paused);
    let request = v1::ResumeSessionRequest { session_id: session.clone(), dedupe_id: Default::default() };
    client.operator().resume_session(request).await.unwrap();
    assert_eq!(client.session(&session).await.status(), SessionStatus::Running);
    let recorded = events::all(&client, &session).await;
    assert_eq!(count(&recorded, "timer_fired"), 1, "{:?}", events::kinds(&recorded)); // W6
}

/// The logic of `make sleepers`, on few sessions: nothing is lost, early, twice or out of order. How late timers are is
/// measured there; here only that they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sleepers_are_woken_in_order_and_once_over_a_kill() {
    let mut engine = Engine::start_with(Options::default()).await;
    let plan = Plan { sessions: 200, window_ms: 1_500, setup_ms: 8_000, kills: 1 };
    let report = sleepers::run(&mut engine, plan).await;
    assert_eq!((report.sessions, report.workers_held), (200, 0));
    assert_eq!((report.fired, report.completed), (200, 200), "{report:?}");
    assert_eq!((report.duplicates, report.out_of_order, report.early), (0, 0, 0), "{report:?}");
    assert_eq!(report.restarts, 1);
}
