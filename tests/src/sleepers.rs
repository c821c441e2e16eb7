//! Many sessions that sleep: how much they cost while they do, and how well they are woken.
//!
//! Everything is measured from outside: sessions and memory by what the engine answers, timers by the events that it
//! recorded. Time in which the engine was down, killed and not ready yet, is no lateness.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{GetStatusRequest, ListSessionsRequest, SessionStatus, StartSessionRequest};
use tokio::task::JoinSet;

use crate::channel::{Introduction, Worker, session_completed, timer_at};
use crate::client::Client;
use crate::{Engine, events, payload, wait};

/// Sessions that are put to sleep at a time.
const AT_ONCE: usize = 64;
/// Sessions the worker that takes the woken ones runs at a time.
const CAPACITY: u32 = 64;
/// How long before the first timer the engine's memory is looked at again, in ms.
const SETTLED_BEFORE_MS: u64 = 1_000;
/// Workflow that they run.
const WORKFLOW: &str = "sleeper";

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many sleep.
    pub sessions: usize,
    /// Over which time their timers are spread, in ms; 0: all fire at once.
    pub window_ms: u64,
    /// How long to put them to sleep may take at most, in ms; the first timer fires after it.
    pub setup_ms: u64,
    /// How often the engine is killed while timers fire.
    pub kills: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// How many slept.
    pub sessions: usize,
    /// Sessions that held a worker while all slept.
    pub workers_held: usize,
    /// Resident memory of the engine when the last one had just been put to sleep, in bytes.
    pub rss_bytes: u64,
    /// Resident memory of the engine after some seconds of sleep, in bytes.
    pub rss_settled_bytes: u64,
    /// Sessions whose timer fired.
    pub fired: usize,
    /// Timers that fired more than once.
    pub duplicates: usize,
    /// Timers that fired after one that was due later.
    pub out_of_order: usize,
    /// Timers that fired before they were due.
    pub early: usize,
    /// Longest time between due and fired, in ms.
    pub late_ms_max: u64,
    /// 99th of a hundred.
    pub late_ms_p99: u64,
    /// Sessions that a worker took and completed afterwards.
    pub completed: usize,
    /// How often the engine was killed while timers fired.
    pub restarts: u64,
}

/// A timer: whose, and when it is due.
type Sleeper = (String, u64);

/// Carries out a plan on an engine that runs.
pub async fn run(engine: &mut Engine, plan: Plan) -> Report {
    let first_ms = now_ms() + plan.setup_ms;
    let sleepers = put_to_sleep(engine, plan, first_ms).await;
    assert!(now_ms() < first_ms, "not all slept in {} ms: allow more time", plan.setup_ms);
    let mut report = Report { sessions: sleepers.len(), ..Report::default() };
    (report.workers_held, report.rss_bytes) = asleep(engine, sleepers.len()).await;
    let settled_ms = first_ms.saturating_sub(SETTLED_BEFORE_MS);
    tokio::time::sleep(Duration::from_millis(settled_ms.saturating_sub(now_ms()))).await;
    report.rss_settled_bytes = rss_bytes(engine).await;

    let mut down = Vec::new();
    let mut takes = Takes::begin(engine).await;
    for kill in 1..=plan.kills {
        let at_ms = first_ms + plan.window_ms * kill / (plan.kills + 1);
        tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms()))).await;
        let from_ms = now_ms();
        engine.kill_and_restart().await;
        down.push((from_ms, now_ms()));
        report.restarts += 1;
        takes = Takes::begin(engine).await;
    }
    let client = engine.client().await;
    all_ended(&client, &sleepers).await;
    drop(takes);
    judge(&client, sleepers, &down, &mut report).await;
    report
}

async fn put_to_sleep(engine: &Engine, plan: Plan, first_ms: u64) -> Vec<Sleeper> {
    let worker = Arc::new(Worker::connect(&engine.client().await).await);
    let _alive = worker.stay_alive();
    let due = move |n: usize| first_ms + plan.window_ms * n as u64 / plan.sessions.max(1) as u64;
    let mut asleep = Vec::with_capacity(plan.sessions);
    let mut going = JoinSet::new();
    for n in 0..plan.sessions {
        if going.len() >= AT_ONCE {
            asleep.extend(going.join_next().await.map(|slept| slept.expect("it was put to sleep")));
        }
        let worker = Arc::clone(&worker);
        going.spawn(async move { sleep(&worker, due(n)).await });
    }
    asleep.extend(going.join_all().await);
    asleep
}

/// Starts one session that sleeps; nobody holds it afterwards.
async fn sleep(worker: &Worker, due_ms: u64) -> Sleeper {
    let request = StartSessionRequest {
        workflow: WORKFLOW.into(),
        version: "1".into(),
        input: Some(payload::literal("{}")),
        ..StartSessionRequest::default()
    };
    let assigned = worker.start(request).await.expect("a session is started");
    let session = assigned.session.expect("an assignment has it").session_id;
    let ack = worker.append(&session, assigned.epoch, timer_at("nap", due_ms)).await;
    let seq = ack.expect("a timer is started").seq;
    worker.release_waiting(&session, assigned.epoch, seq).await.expect("it only waits");
    (session, due_ms)
}

/// How many sessions hold a worker, and what the engine takes.
async fn asleep(engine: &Engine, expected: usize) -> (usize, u64) {
    let client = engine.client().await;
    let (mut waiting, mut held, mut page_token) = (0, 0, String::new());
    loop {
        let request = ListSessionsRequest {
            workflow: WORKFLOW.into(),
            statuses: vec![SessionStatus::Waiting.into()],
            page_size: 1_000,
            page_token,
            ..ListSessionsRequest::default()
        };
        let page = client.sessions().list_sessions(request).await.expect("they are listed").into_inner();
        waiting += page.sessions.len();
        held += page.sessions.iter().filter(|session| !session.instance.is_empty()).count();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(waiting, expected, "all sleep");
    (held, rss_bytes(engine).await)
}

async fn rss_bytes(engine: &Engine) -> u64 {
    let client = engine.client().await;
    let status = client.operator().get_status(GetStatusRequest {}).await.expect("the engine is well");
    status.into_inner().rss_bytes
}

/// A worker that takes woken sessions and completes them.
struct Takes(tokio::task::JoinHandle<()>);

impl Takes {
    async fn begin(engine: &Engine) -> Self {
        let serves = vec![(WORKFLOW, "1")];
        let introduction = Introduction { serves, capacity: CAPACITY, ..Introduction::default() };
        let worker = Worker::introduce(&engine.client().await, introduction).await;
        Self(tokio::spawn(async move {
            let _alive = worker.stay_alive();
            let mut going = VecDeque::new();
            while let Some(assigned) = worker.dispatched_later().await {
                let session = assigned.session.as_ref().expect("an assignment has it").session_id.clone();
                let end = session_completed(payload::literal("1"));
                going.push_back(worker.send_append(crate::channel::append(&session, assigned.epoch, end)));
                while going.len() as u32 >= CAPACITY / 2 {
                    // An engine that is being killed does not answer.
                    let _ = going.pop_front().expect("it is not empty").answer().await;
                }
                worker.takes(CAPACITY - going.len() as u32);
            }
        }))
    }
}

impl Drop for Takes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn all_ended(client: &Client, sleepers: &[Sleeper]) {
    let patience = Duration::from_secs(120);
    let began = std::time::Instant::now();
    for (session, due_ms) in sleepers {
        tokio::time::sleep(Duration::from_millis(due_ms.saturating_sub(now_ms()))).await;
        while client.session(session).await.ended_ms == 0 {
            assert!(began.elapsed() < patience + wait::PATIENCE, "session {session} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads from the ledger when every timer fired.
async fn judge(client: &Client, sleepers: Vec<Sleeper>, down: &[(u64, u64)], report: &mut Report) {
    let mut fired = Vec::with_capacity(sleepers.len());
    let mut going = JoinSet::new();
    for (session, due_ms) in sleepers {
        if going.len() >= AT_ONCE {
            fired.extend(going.join_next().await.map(|read| read.expect("a session is read")));
        }
        let client = client.clone();
        going.spawn(async move { (due_ms, events::all(&client, &session).await) });
    }
    fired.extend(going.join_all().await);
    fired.sort_by_key(|(due_ms, _)| *due_ms);
    let (mut latest_ms, mut late) = (0, Vec::new());
    for (due_ms, events) in fired {
        let times: Vec<u64> = events
            .iter()
            .filter(|event| matches!(event.body, Some(Body::TimerFired(_))))
            .map(|event| event.time_ms)
            .collect();
        report.completed +=
            usize::from(events.iter().any(|event| events::kind(event) == "session_completed"));
        let Some(first_ms) = times.first() else { continue };
        report.fired += 1;
        report.duplicates += times.len() - 1;
        report.out_of_order += usize::from(*first_ms < latest_ms);
        report.early += usize::from(*first_ms < due_ms);
        latest_ms = latest_ms.max(*first_ms);
        late.push(first_ms.saturating_sub(due_ms).saturating_sub(outage_ms(due_ms, *first_ms, down)));
    }
    late.sort_unstable();
    report.late_ms_max = late.last().copied().unwrap_or(0);
    report.late_ms_p99 = late.get(late.len() * 99 / 100).copied().unwrap_or(0);
}

/// How long the engine was down between two times.
fn outage_ms(from_ms: u64, to_ms: u64, down: &[(u64, u64)]) -> u64 {
    let within =
        |(down_ms, ready_ms): &(u64, u64)| (*ready_ms).min(to_ms).saturating_sub((*down_ms).max(from_ms));
    down.iter().map(within).sum()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_millis()).expect("it is before the end of time")
}
