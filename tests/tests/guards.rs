//! Promise: **at most once, whoever asks**. An idempotency key names one effect of a namespace: of all steps and sessions
//! that ask for it, one calls, and the others get what it recorded. Over the raw protocol, across kills of the engine and
//! of the worker that calls.

use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::guard_reconciliation::Finding;
use cellaflow_proto::v1::{
    Ack, GuardIntent, GuardPolicy, GuardReconciliation, Payload, ResolveStepRequest, SessionStatus,
    StepCompleted, resolve_step_request,
};
use cellaflow_tests::channel::{Alive, Answered, Worker, session_completed};
use cellaflow_tests::client::Client;
use cellaflow_tests::counter::Counter;
use cellaflow_tests::process::Process;
use cellaflow_tests::{Engine, Options, events, payload, wait};

const STEP: &str = "charge#1";
const GRACE_MS: u64 = 100;

fn intent(attempt_ms: u64) -> GuardIntent {
    GuardIntent {
        step_key: STEP.into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        attempt_ms,
        grace_ms: GRACE_MS,
        policy: GuardPolicy::Pause.into(),
        idempotency_key: Some(payload::bytes("invoice-7")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    }
}

fn charged(output: Payload) -> Op {
    Op::StepCompleted(StepCompleted {
        step_key: STEP.into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        output: Some(output),
        guarded: true,
        ..StepCompleted::default()
    })
}

fn not_applied() -> Op {
    let finding = Some(Finding::NotApplied(payload::failure("declined")));
    let step_key = STEP.into();
    Op::GuardReconciliation(GuardReconciliation { step_key, attempt: 1, finding, reconciled: false })
}

/// Two orders that pay the same invoice, each run by a worker of its own.
struct Scene {
    engine: Engine,
    client: Client,
    workers: [Worker; 2],
    sessions: [String; 2],
    alive: Vec<Alive>,
}

impl Scene {
    async fn start(engine: Engine) -> Self {
        let client = engine.client().await;
        let workers = [Worker::connect(&client).await, Worker::connect(&client).await];
        let sessions = [workers[0].begin("order-1").await, workers[1].begin("order-2").await];
        let alive = workers.iter().map(Worker::stay_alive).collect();
        Self { engine, client, workers, sessions, alive }
    }

    async fn append(&self, who: usize, op: Op) -> Answered<Ack> {
        self.workers[who].append(&self.sessions[who], 1, op).await
    }

    async fn ask(&self, who: usize) -> Answered<Ack> {
        self.append(who, Op::GuardIntent(intent(30_000))).await
    }

    /// Everything dies but the ledger, and comes back.
    async fn kill_and_restart(&mut self) {
        self.alive.clear();
        self.engine.kill_and_restart().await;
        self.client = self.engine.client().await;
        for who in [0, 1] {
            self.workers[who] = Worker::reconnect(&self.client, &self.workers[who].instance).await;
            self.workers[who].attach(&self.sessions[who], 1).await.unwrap();
        }
        self.alive = self.workers.iter().map(Worker::stay_alive).collect();
    }

    async fn kinds(&self, who: usize) -> Vec<&'static str> {
        events::kinds(&events::all(&self.client, &self.sessions[who]).await)
    }
}

/// The completion that stands for the effect: where it is from, and its output.
fn taken(answer: &Ack) -> (String, Vec<u8>) {
    let recorded = answer.recorded.as_ref().expect("a completion, no leave to call");
    let Some(Body::StepCompleted(step)) = &recorded.body else { panic!("{recorded:?}") };
    assert!(step.guarded);
    (step.deduplicated_from.clone(), payload::data(step.output.as_ref().unwrap()).to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_session_gets_the_recorded_output_as_an_event_of_its_own() {
    let scene = Scene::start(Engine::quick().await).await;
    scene.ask(0).await.unwrap();
    let done = scene.append(0, charged(payload::literal("\"receipt 1\""))).await.unwrap();
    let from = format!("{}:{}", scene.sessions[0], done.seq);
    let answer = scene.ask(1).await.unwrap();
    assert_eq!(taken(&answer), (from.clone(), b"\"receipt 1\"".to_vec()));
    // Once more: what is recorded, and no event.
    assert_eq!(scene.ask(1).await.unwrap().seq, answer.seq);
    assert_eq!(scene.kinds(1).await, ["session_started", "lease_granted", "step_completed"]);
    // Another step of the owner's session is another step.
    let again = GuardIntent { step_key: "charge#2".into(), ..intent(30_000) };
    assert_eq!(taken(&scene.append(0, Op::GuardIntent(again)).await.unwrap()).0, from);
    // What it says is checked by whoever reads the chain.
    assert_eq!(scene.client.verify().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_output_is_copied_by_value() {
    let scene = Scene::start(Engine::quick().await).await;
    scene.ask(0).await.unwrap();
    let large = payload::noise_literal(300_000);
    scene.append(0, charged(large.clone())).await.unwrap();
    scene.ask(1).await.unwrap();
    let copied = events::all(&scene.client, &scene.sessions[1]).await;
    let Some(Body::StepCompleted(step)) = &copied[2].body else { panic!("{copied:?}") };
    assert_eq!(payload::data(step.output.as_ref().unwrap()), payload::data(&large));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_ask_at_once_one_calls() {
    let scene = Scene::start(Engine::quick().await).await;
    let (first, second) = tokio::join!(scene.ask(0), scene.ask(1));
    let (owner, other, refused) = match (first, second) {
        (Ok(_), Err(refused)) => (0, 1, refused),
        (Err(refused), Ok(_)) => (1, 0, refused),
        both => panic!("one calls: {both:?}"),
    };
    assert_eq!(refused.code(), "guard_in_flight");
    let impatient = GuardIntent { refuse_in_flight: true, ..intent(30_000) };
    let refused = scene.append(other, Op::GuardIntent(impatient)).await.unwrap_err();
    assert_eq!(refused.code(), "in_progress");
    scene.append(owner, charged(payload::literal("1"))).await.unwrap();
    let answer = wait::until("the output", async || scene.ask(other).await.ok()).await;
    assert_eq!(taken(&answer).1, b"1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_names_one_input_and_is_free_if_nothing_happened() {
    let scene = Scene::start(Engine::quick().await).await;
    scene.ask(0).await.unwrap();
    let other_input = GuardIntent { input_hash: vec![9; 32].into(), ..intent(30_000) };
    let refused = scene.append(1, Op::GuardIntent(other_input)).await.unwrap_err();
    assert_eq!(refused.code(), "guard_input_conflict");
    scene.append(0, not_applied()).await.unwrap();
    let called = scene.ask(1).await.unwrap();
    assert!(called.recorded.is_none(), "it calls: {called:?}");
    let second = GuardIntent { attempt: 2, ..intent(30_000) };
    let refused = scene.append(0, Op::GuardIntent(second)).await.unwrap_err();
    assert_eq!(refused.code(), "guard_in_flight", "the key has passed on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_engine_forgets_neither_who_calls_nor_what_came_of_it() {
    let mut scene = Scene::start(Engine::quick().await).await;
    scene.ask(0).await.unwrap();
    scene.kill_and_restart().await;
    assert_eq!(scene.ask(1).await.unwrap_err().code(), "guard_in_flight");
    scene.append(0, charged(payload::literal("\"receipt 1\""))).await.unwrap();
    scene.kill_and_restart().await;
    let answer = scene.ask(1).await.unwrap();
    assert_eq!(taken(&answer).1, b"\"receipt 1\"");
    scene.kill_and_restart().await;
    assert_eq!(scene.ask(1).await.unwrap().seq, answer.seq);
}

/// The worker that calls is a process of its own, killed between its intent and its outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_worker_that_calls_is_killed_nobody_else_calls_and_a_persons_word_reaches_all() {
    const ATTEMPT_MS: u64 = 1_000;
    let counter = Counter::start(false).await; // answers nothing
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let arguments = ["GUARD_POLICY_PAUSE", &ATTEMPT_MS.to_string()].map(str::to_owned);
    let mut calling = Process::start(
        std::process::Command::new(env!("CARGO_BIN_EXE_guarded-worker"))
            .arg(engine.data().join("connection.json"))
            .arg(&counter.address)
            .args(arguments),
    );
    wait::until("the call", async || (counter.count("charge") == 1).then_some(())).await;
    calling.kill();

    let worker = Worker::connect(&client).await;
    let other = worker.begin("order-2").await;
    let _alive = worker.stay_alive();
    let ask = || {
        let same = GuardIntent { idempotency_key: Some(payload::bytes("sleeper")), ..intent(30_000) };
        worker.append(&other, 1, Op::GuardIntent(same))
    };
    assert_eq!(ask().await.unwrap_err().code(), "guard_in_flight");
    let owner = owner_of(&client).await;
    client.session_when("the pause", &owner, |it| it.status() == SessionStatus::Paused).await;
    assert_eq!(ask().await.unwrap_err().code(), "guard_in_flight", "nobody knows: nobody calls");
    let request = ResolveStepRequest {
        session_id: owner.clone(),
        step_key: STEP.into(),
        resolution: Some(resolve_step_request::Resolution::Output(payload::literal("\"found\""))),
        resume: true,
        ..ResolveStepRequest::default()
    };
    client.operator().resolve_step(request).await.unwrap();
    let (from, output) = taken(&wait::until("the output", async || ask().await.ok()).await);
    assert!(from.starts_with(&owner), "{from}");
    assert_eq!(output, b"\"found\"");
    assert_eq!(counter.count("charge"), 1);
}

/// The session that the killed worker had begun.
async fn owner_of(client: &Client) -> String {
    let request = cellaflow_proto::v1::ListSessionsRequest::default();
    let listed = client.sessions().list_sessions(request).await.unwrap().into_inner();
    let mut owners = listed.sessions.into_iter().filter(|session| session.key == "sleeper");
    owners.next().expect("it began").session_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_free_when_its_retention_is_over_and_not_before() {
    let flags = ["--guard-retention-ms", "1500", "--lease-ttl-ms", "60000"].map(str::to_owned).to_vec();
    let scene = Scene::start(Engine::start_with(Options { flags }).await).await;
    scene.ask(0).await.unwrap();
    scene.append(0, charged(payload::literal("1"))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let early =
        scene.append(1, Op::GuardIntent(GuardIntent { refuse_in_flight: true, ..intent(30_000) })).await;
    assert!(early.unwrap().recorded.is_some(), "its owner goes on, so it is kept");
    scene.append(0, session_completed(payload::literal("1"))).await.unwrap();

    // Other keys, so that each asks anew.
    let third = Worker::connect(&scene.client).await;
    let mut asked = 0;
    let freed = wait::until("the key to be free", async || {
        asked += 1;
        let session = third.begin(&format!("order-{}", asked + 2)).await;
        let answer = third.append(&session, 1, Op::GuardIntent(intent(30_000))).await.unwrap();
        answer.recorded.is_none().then_some(session)
    })
    .await;
    assert!(asked > 1, "it was kept after the end");
    let mine = events::all(&scene.client, &freed).await;
    let ended = events::all(&scene.client, &scene.sessions[0]).await;
    let kept_ms = mine.last().unwrap().time_ms - ended.last().unwrap().time_ms;
    assert!(kept_ms >= 1_500, "kept for {kept_ms} ms");
}
