//! A worker process for `tests/fenced.rs`: starts a session, declares one guarded call, makes it, and says what became
//! of it, one line per thing on stdout. It does what the protocol asks of every worker: it counts the attempt's time
//! from before it sends the intent, calls only if time is left, and stops at its end.
//!
//! Arguments: connection file, address of the counting server, policy (a GuardPolicy by name), attempt time in ms, and
//! a file to wait for before the call (optional).

use std::path::Path;
use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::{GuardIntent, GuardPolicy, GuardUnknown, StepCompleted, UnknownReason};
use cellaflow_tests::channel::{Answered, Worker};
use cellaflow_tests::client::Client;
use cellaflow_tests::{Connection, counter, payload};
use rustix::time::{ClockId, clock_gettime};

/// The guarded step, its key and its grace in ms, as the test knows them.
const STEP: &str = "charge#1";
const GRACE_MS: u64 = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [connection, counter, policy, attempt_ms, wait_for @ ..] = &arguments[..] else {
        panic!("connection file, counter, policy, attempt_ms, [file to wait for]");
    };
    let attempt_ms: u64 = attempt_ms.parse().expect("a number of ms");
    let policy = GuardPolicy::from_str_name(policy).expect("a policy");
    let (connection, _) = Connection::read(Path::new(connection)).expect("a connection file");
    let worker = Worker::connect(&Client::connect(&connection).await).await;
    let session = worker.begin("sleeper").await;
    let _alive = worker.stay_alive();
    println!("session {session}");

    let began_ms = now_ms();
    worker.append(&session, 1, intent(policy, attempt_ms)).await.expect("the first intent is accepted");
    println!("intent");
    if let [file, ..] = wait_for {
        while !Path::new(file).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let left_ms = attempt_ms.saturating_sub(now_ms() - began_ms);
    if left_ms == 0 {
        println!("too late");
        return;
    }
    println!("calling");
    let called = tokio::time::timeout(Duration::from_millis(left_ms), counter::call(counter, "charge")).await;
    let answer = match called {
        Ok(Ok(())) => worker.append(&session, 1, outcome()).await,
        Ok(Err(_)) => worker.append(&session, 1, unknown(UnknownReason::Threw)).await,
        Err(_) => worker.append(&session, 1, unknown(UnknownReason::TimedOut)).await,
    };
    println!("answer {}", word(&answer));
}

fn word<T>(answer: &Answered<T>) -> &str {
    match answer {
        Ok(_) => "ack",
        Err(refused) => refused.code(),
    }
}

fn now_ms() -> u64 {
    // Runs while the machine sleeps, too.
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

fn intent(policy: GuardPolicy, attempt_ms: u64) -> Op {
    Op::GuardIntent(GuardIntent {
        step_key: STEP.into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        attempt_ms,
        grace_ms: GRACE_MS,
        policy: policy.into(),
        idempotency_key: Some(payload::bytes("sleeper")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    })
}

fn outcome() -> Op {
    Op::StepCompleted(StepCompleted {
        step_key: STEP.into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal("\"charged\"")),
        guarded: true,
        ..StepCompleted::default()
    })
}

fn unknown(reason: UnknownReason) -> Op {
    Op::GuardUnknown(GuardUnknown { step_key: STEP.into(), attempt: 1, reason: reason.into(), failure: None })
}
