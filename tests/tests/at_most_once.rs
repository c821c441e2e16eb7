//! Promise: **at most once**. A guarded effect is never started twice while its outcome is unknown; unknown is said,
//! never guessed. Over the raw protocol: what the engine lets a worker start.

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::guard_reconciliation::Finding;
use cellaflow_proto::v1::{
    self, Author, Event, GuardIntent, GuardPolicy, GuardReconciliation, GuardResolved, PauseReason, Payload,
    Resolution, ResolveStepRequest, ResumeSessionRequest, RevokeReason, SessionStatus, StepCompleted,
    StepFailed, UnknownReason, resolve_step_request,
};
use cellaflow_tests::Engine;
use cellaflow_tests::channel::{Alive, Worker, session_completed};
use cellaflow_tests::client::{Client, refusal};
use cellaflow_tests::events;
use cellaflow_tests::payload;

const STEP: &str = "charge#1";
/// Time of an attempt in these tests, and the grace after it, in ms.
const ATTEMPT_MS: u64 = 200;
const GRACE_MS: u64 = 200;

fn guard(attempt: u32, policy: GuardPolicy) -> GuardIntent {
    GuardIntent {
        step_key: STEP.into(),
        name: "charge".into(),
        attempt,
        input_digest: vec![1; 32].into(),
        attempt_ms: ATTEMPT_MS,
        grace_ms: GRACE_MS,
        policy: policy.into(),
        idempotency_key: Some(payload::bytes("order-7")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    }
}

fn intent(attempt: u32, policy: GuardPolicy) -> Op {
    Op::GuardIntent(guard(attempt, policy))
}

fn outcome(attempt: u32, output: &str) -> Op {
    Op::StepCompleted(StepCompleted {
        step_key: STEP.into(),
        name: "charge".into(),
        attempt,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal(output)),
        guarded: true,
        ..StepCompleted::default()
    })
}

fn threw(attempt: u32) -> Op {
    let failure = Some(payload::failure("socket_closed"));
    let reason = UnknownReason::Threw.into();
    Op::GuardUnknown(v1::GuardUnknown { step_key: STEP.into(), attempt, reason, failure })
}

fn found(attempt: u32, finding: Finding, reconciled: bool) -> Op {
    let finding = Some(finding);
    Op::GuardReconciliation(GuardReconciliation { step_key: STEP.into(), attempt, finding, reconciled })
}

fn nothing() -> Payload {
    Payload { body: Some(v1::payload::Body::Absent(true)), ..Payload::default() }
}

/// A daemon with one session and the worker that runs it.
struct Scene {
    engine: Engine,
    client: Client,
    worker: Worker,
    session: String,
    alive: Option<Alive>,
}

impl Scene {
    async fn start() -> Self {
        let engine = Engine::quick().await;
        let client = engine.client().await;
        let worker = Worker::connect(&client).await;
        let session = worker.begin("order-7").await;
        let alive = Some(worker.stay_alive());
        Self { engine, client, worker, session, alive }
    }

    async fn append(&self, op: Op) -> cellaflow_tests::channel::Answered<v1::Ack> {
        self.worker.append(&self.session, 1, op).await
    }

    async fn refused(&self, op: Op) -> String {
        self.append(op).await.expect_err("this must be refused").code().to_owned()
    }

    async fn events(&self) -> Vec<Event> {
        events::all(&self.client, &self.session).await
    }

    /// Waits until the ledger says so.
    async fn happened(&self, kind: &str) -> Event {
        cellaflow_tests::wait::until(kind, async || {
            self.events().await.into_iter().find(|event| events::kind(event) == kind)
        })
        .await
    }

    async fn resolve(
        &self,
        resolution: resolve_step_request::Resolution,
        resume: bool,
    ) -> Result<(), tonic::Status> {
        let request = ResolveStepRequest {
            session_id: self.session.clone(),
            step_key: STEP.into(),
            resolution: Some(resolution),
            resume,
            ..ResolveStepRequest::default()
        };
        self.client.operator().resolve_step(request).await.map(drop)
    }

    async fn status(&self) -> SessionStatus {
        self.client.session(&self.session).await.status()
    }
}

fn resolved(event: &Event) -> &GuardResolved {
    match &event.body {
        Some(Body::GuardResolved(resolved)) => resolved,
        other => panic!("not a resolution: {other:?}"),
    }
}

/// An effect is due no earlier than attempt time and grace after its intent.
fn assert_due(events: &[Event], then: &Event) {
    let intent = events.iter().find(|event| events::kind(event) == "guard_intent").unwrap();
    let waited = then.time_ms - intent.time_ms;
    assert!(waited >= ATTEMPT_MS + GRACE_MS, "the policy spoke after {waited} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intent_is_answered_once_and_its_outcome_closes_it() {
    let scene = Scene::start().await;
    assert_eq!(scene.refused(outcome(1, "1")).await, "guard_not_open", "no effect without an intent");
    let seq = scene.append(intent(1, GuardPolicy::Pause)).await.unwrap().seq;
    let again = scene.append(intent(1, GuardPolicy::Pause)).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (seq, true), "the same intent re-sent is the same attempt");
    assert_eq!(
        scene.refused(intent(2, GuardPolicy::Pause)).await,
        "guard_unresolved",
        "one attempt at a time"
    );
    assert_eq!(scene.refused(session_completed(payload::literal("1"))).await, "open_intents", "an end waits");
    let open = scene.client.session(&scene.session).await.open_intents;
    assert_eq!((open.len(), &*open[0].step_key, open[0].unknown), (1, STEP, false));
    let done = scene.append(outcome(1, "\"paid\"")).await.unwrap();
    assert_eq!(done.seq, seq + 1);
    let repeated = scene.append(intent(1, GuardPolicy::Pause)).await.unwrap();
    let recorded = repeated.recorded.expect("a step that has its outcome answers with it");
    assert_eq!((repeated.seq, recorded.seq), (done.seq, done.seq));
    let Some(Body::StepCompleted(step)) = &recorded.body else { panic!("{recorded:?}") };
    assert_eq!(payload::data(step.output.as_ref().unwrap()), b"\"paid\"");
    scene.append(session_completed(payload::literal("1"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_says_unknown_when_it_is_due_and_takes_a_late_outcome() {
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Pause)).await.unwrap();
    let unknown = scene.happened("guard_unknown").await;
    let all = scene.events().await;
    assert_due(&all, &unknown);
    assert_eq!(unknown.author(), Author::Driver);
    assert!(
        matches!(&unknown.body, Some(Body::GuardUnknown(said)) if said.reason() == UnknownReason::NoOutcome)
    );
    let paused = scene.happened("session_paused").await;
    let Some(Body::SessionPaused(why)) = &paused.body else { panic!("{paused:?}") };
    assert_eq!((why.reason(), &*why.step_key), (PauseReason::EffectUnknown, STEP));
    assert_eq!(scene.worker.revoked(&scene.session).await.reason(), RevokeReason::Paused);
    assert_eq!(scene.refused(intent(2, GuardPolicy::Pause)).await, "guard_unresolved");
    let other = GuardIntent {
        step_key: "other#1".into(),
        idempotency_key: Some(payload::bytes("order-8")),
        ..guard(1, GuardPolicy::Pause)
    };
    assert_eq!(scene.refused(Op::GuardIntent(other)).await, "session_paused", "nothing new is started");
    let resume =
        ResumeSessionRequest { session_id: scene.session.clone(), ..ResumeSessionRequest::default() };
    let early = scene.client.operator().resume_session(resume.clone()).await.unwrap_err();
    assert_eq!(refusal(&early).code, "guard_unresolved", "the run could only pause again");

    let late = scene.append(outcome(1, "\"paid after all\"")).await.unwrap();
    assert_eq!((late.seq, late.duplicate, late.recorded), (paused.seq + 1, false, None), "however late");
    scene.client.operator().resume_session(resume).await.unwrap();
    assert_eq!(scene.status().await, SessionStatus::Running);
    assert_eq!(scene.client.session(&scene.session).await.open_intents, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_resolves_what_is_due_and_the_resolution_stands() {
    use resolve_step_request::Resolution::{NotApplied, Output};
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Pause)).await.unwrap();
    scene.append(threw(1)).await.unwrap();
    let early = refusal(&scene.resolve(Output(payload::literal("1")), true).await.unwrap_err());
    assert_eq!((&*early.code, early.retryable), ("guard_not_due", true), "the attempt may still report");
    assert!((1..=ATTEMPT_MS + GRACE_MS).contains(&early.retry_after_ms));

    scene.happened("session_paused").await;
    scene.resolve(NotApplied(true), true).await.unwrap();
    let first = scene.happened("guard_resolved").await;
    assert_due(&scene.events().await, &first);
    assert_eq!((resolved(&first).resolution(), &*resolved(&first).by), (Resolution::NotApplied, "dev"));
    assert_eq!(first.author(), Author::Operator);
    assert_eq!(scene.status().await, SessionStatus::Running, "resolved and resumed");
    assert_eq!(
        scene.refused(outcome(1, "\"late\"")).await,
        "guard_not_open",
        "attempt 1 did not happen, it was said"
    );

    let retried = scene.append(intent(2, GuardPolicy::Pause)).await.unwrap().seq;
    cellaflow_tests::wait::until("attempt 2 to be due", async || {
        scene.resolve(Output(payload::literal("\"by hand\"")), true).await.ok()
    })
    .await;
    let late = scene.append(outcome(2, "\"late\"")).await.unwrap();
    let stands = late.recorded.expect("the first outcome stands");
    assert!(stands.seq > retried);
    assert_eq!(payload::data(resolved(&stands).output.as_ref().unwrap()), b"\"by hand\"");
    let again = scene.resolve(Output(payload::literal("2")), true).await.unwrap_err();
    assert_eq!(refusal(&again).code, "guard_not_open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_makes_the_unknown_a_failure() {
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Fail)).await.unwrap();
    let settled = scene.happened("guard_resolved").await;
    assert_due(&scene.events().await, &settled);
    assert_eq!((resolved(&settled).resolution(), &*resolved(&settled).by), (Resolution::Failure, "policy"));
    assert_eq!(scene.status().await, SessionStatus::Running);
    let late = scene.append(outcome(1, "\"late\"")).await.unwrap();
    assert_eq!(late.recorded.map(|event| event.seq), Some(settled.seq), "the outcome stands");
    let again = scene.append(intent(1, GuardPolicy::Fail)).await.unwrap();
    assert_eq!(again.recorded.map(|event| event.seq), Some(settled.seq), "it is not started again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_starts_again_only_when_it_is_due() {
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Retry)).await.unwrap();
    scene.append(threw(1)).await.unwrap();
    assert_eq!(
        scene.refused(intent(2, GuardPolicy::Retry)).await,
        "guard_unresolved",
        "the call may still be going on"
    );
    let settled = scene.happened("guard_resolved").await;
    assert_due(&scene.events().await, &settled);
    assert_eq!((resolved(&settled).resolution(), &*resolved(&settled).by), (Resolution::Retry, "policy"));
    assert_eq!(
        scene.refused(intent(3, GuardPolicy::Retry)).await,
        "step_conflict",
        "attempts count without gaps"
    );
    scene.append(intent(2, GuardPolicy::Retry)).await.unwrap();
    scene.append(outcome(2, "\"paid\"")).await.unwrap();
    let kinds = events::kinds(&scene.events().await);
    assert_eq!(
        kinds[2..],
        [
            "guard_intent",
            "guard_unknown",
            "guard_unknown",
            "guard_resolved",
            "guard_intent",
            "step_completed"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconcile_asks_the_tool_once_it_is_due() {
    let scene = Scene::start().await;
    let applied = || Finding::Applied(payload::literal("\"found\""));
    scene.append(intent(1, GuardPolicy::Reconcile)).await.unwrap();
    assert_eq!(scene.refused(found(1, applied(), true)).await, "guard_not_due");
    let unknown = scene.happened("guard_unknown").await;
    assert_due(&scene.events().await, &unknown);
    assert_eq!(scene.status().await, SessionStatus::Running, "the run is to ask");

    scene.append(found(1, Finding::NotApplied(nothing()), true)).await.unwrap();
    scene.append(intent(2, GuardPolicy::Reconcile)).await.unwrap();
    scene.append(threw(2)).await.unwrap();
    let wait = async || scene.append(found(2, applied(), true)).await.ok();
    let ack = cellaflow_tests::wait::until("attempt 2 to be due", wait).await;
    let all = scene.events().await;
    let last = all.last().unwrap();
    assert_eq!((last.seq, last.author()), (ack.seq, Author::Worker));
    assert_eq!((resolved(last).resolution(), &*resolved(last).by), (Resolution::Output, "reconcile"));
    assert_eq!(payload::data(resolved(last).output.as_ref().unwrap()), b"\"found\"");
    assert_eq!(scene.client.session(&scene.session).await.open_intents, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconciliation_that_finds_nothing_out_pauses() {
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Reconcile)).await.unwrap();
    scene.happened("guard_unknown").await;
    scene.append(found(1, Finding::Unknown(true), true)).await.unwrap();
    let session = scene.client.session(&scene.session).await;
    assert_eq!(
        (session.status(), session.pause_reason()),
        (SessionStatus::Paused, PauseReason::EffectUnknown)
    );
    assert!(session.open_intents[0].unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_says_not_applied_is_retried_and_finally_fails() {
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Pause)).await.unwrap();
    scene.append(found(1, Finding::NotApplied(payload::failure("busy")), false)).await.unwrap();
    let said = scene.happened("guard_resolved").await;
    assert_eq!((resolved(&said).resolution(), &*resolved(&said).by), (Resolution::NotApplied, "tool"));
    scene.append(intent(2, GuardPolicy::Pause)).await.unwrap();
    let fails = || {
        Op::StepFailed(StepFailed {
            step_key: STEP.into(),
            name: "charge".into(),
            attempt: 2,
            input_digest: vec![1; 32].into(),
            failure: Some(payload::failure("busy")),
            r#final: true,
            guarded: true,
            ..StepFailed::default()
        })
    };
    assert_eq!(scene.refused(fails()).await, "guard_unresolved", "unknown is no failure");
    scene.append(found(2, Finding::NotApplied(payload::failure("busy")), false)).await.unwrap();
    scene.append(fails()).await.unwrap();
    scene.append(session_completed(payload::literal("null"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_names_one_effect_with_one_input() {
    let scene = Scene::start().await;
    scene.append(intent(1, GuardPolicy::Pause)).await.unwrap();
    scene.append(found(1, Finding::NotApplied(nothing()), false)).await.unwrap();
    let other_input = GuardIntent { input_hash: vec![9; 32].into(), ..guard(2, GuardPolicy::Pause) };
    assert_eq!(scene.refused(Op::GuardIntent(other_input)).await, "guard_input_conflict");
    // Another name is another scope.
    let other_name =
        GuardIntent { step_key: "refund#1".into(), name: "refund".into(), ..guard(1, GuardPolicy::Pause) };
    scene.append(Op::GuardIntent(other_name)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_dies_between_intent_and_outcome_forgets_nothing() {
    let mut scene = Scene::start().await;
    let seq = scene.append(intent(1, GuardPolicy::Pause)).await.unwrap().seq;
    scene.alive = None;
    scene.engine.kill_and_restart().await;
    scene.client = scene.engine.client().await;
    let again = Worker::reconnect(&scene.client, &scene.worker.instance).await;
    again.attach(&scene.session, 1).await.unwrap();
    let resent = again.append(&scene.session, 1, intent(1, GuardPolicy::Pause)).await.unwrap();
    assert_eq!((resent.seq, resent.duplicate), (seq, true), "a re-sent intent starts nothing new");
    // The driver of the new process finds what is due.
    let unknown = scene.happened("guard_unknown").await;
    assert_due(&scene.events().await, &unknown);
    let late = again.append(&scene.session, 1, outcome(1, "\"paid\"")).await.unwrap();
    assert!(late.recorded.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_takes_over_does_not_start_it_again() {
    let mut scene = Scene::start().await;
    let long = GuardIntent { attempt_ms: 2_000, ..guard(1, GuardPolicy::Pause) };
    scene.append(Op::GuardIntent(long.clone())).await.unwrap();
    scene.alive = None;
    let other = Worker::connect(&scene.client).await;
    let epoch = other.take_over(&scene.session).await;
    let _alive = other.stay_alive();
    let recovered = other.events_to(&scene.session, 4).await;
    assert_eq!(
        events::kinds(&recovered),
        ["session_started", "lease_granted", "guard_intent", "lease_granted"]
    );
    for attempt in [1, 2] {
        let refused = other
            .append(&scene.session, epoch, Op::GuardIntent(GuardIntent { attempt, ..long.clone() }))
            .await;
        assert_eq!(refused.unwrap_err().code(), "guard_unresolved", "attempt {attempt}");
    }
    assert_eq!(scene.refused(outcome(1, "\"paid\"")).await, "fenced", "the loser's outcome comes too late");
    // Nobody knows, and that is what the ledger says.
    let paused = scene
        .client
        .session_when("the pause", &scene.session, |it| it.status() == SessionStatus::Paused)
        .await;
    assert_eq!(paused.pause_reason(), PauseReason::EffectUnknown);
    let told = events::kinds(&scene.events().await);
    let intents = told.into_iter().filter(|kind| *kind == "guard_intent").count();
    assert_eq!(intents, 1);
}
