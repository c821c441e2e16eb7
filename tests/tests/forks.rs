//! Promise: **forked**. A session that goes on from the middle of another one, with edits, and never touches it. Over the
//! raw protocol: what a fork inherits, what of it is its own, and that the parent's bytes stay what they were.

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::fork_edit::Edit;
use cellaflow_proto::v1::{
    self, Event, ForkEdit, ForkSessionRequest, GuardPolicy, SessionStatus, resolve_step_request,
};
use cellaflow_tests::Engine;
use cellaflow_tests::channel::{Worker, completed, session_completed};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::events;
use cellaflow_tests::payload;

/// A daemon with a worker whose leases stay.
struct Scene {
    engine: Engine,
    client: Client,
    worker: Worker,
}

impl Scene {
    async fn start() -> Self {
        let engine = Engine::quick().await;
        let client = engine.client().await;
        let worker = Worker::connect(&client).await;
        Self { engine, client, worker }
    }

    async fn run(&self, session: &str, op: Op) -> v1::Ack {
        self.worker.append(session, 1, op).await.expect("the run may append")
    }

    async fn events(&self, session: &str) -> Vec<Event> {
        events::all(&self.client, session).await
    }

    /// Forks and takes the lease.
    async fn fork(&self, request: ForkSessionRequest) -> v1::Session {
        let forked = fork(&self.client, request).await.expect("this may be forked");
        let bound = self.worker.attach(&forked.session_id, 0).await.expect("a fork can be run");
        assert_eq!(bound.epoch, u64::from(forked.status() == SessionStatus::Pending), "epochs start anew");
        forked
    }

    /// Two steps, then a guarded one with its outcome, then the end: nine events.
    async fn whole(&self, key: &str) -> String {
        let session = self.worker.begin(key).await;
        self.run(&session, completed("one", payload::literal("1"))).await; // 3
        self.run(&session, completed("two", payload::noise_literal(20_000))).await; // 4: chunks
        self.run(&session, intent("pay#1", 1, GuardPolicy::Pause)).await; // 5
        self.run(&session, paid("pay#1", 1, "\"paid\"")).await; // 6
        self.run(&session, completed("three", payload::literal("3"))).await; // 7
        self.run(&session, session_completed(payload::literal("\"done\""))).await; // 8
        session
    }
}

async fn fork(client: &Client, request: ForkSessionRequest) -> Result<v1::Session, tonic::Status> {
    let answer = client.sessions().fork_session(request).await?.into_inner();
    Ok(answer.session.expect("an answer has it"))
}

fn from(session: &str, from_seq: u64) -> ForkSessionRequest {
    ForkSessionRequest { session: by_id(session), from_seq, ..ForkSessionRequest::default() }
}

fn edited(session: &str, step: &str, output: &str) -> ForkSessionRequest {
    let edit = Some(Edit::Output(payload::literal(output)));
    ForkSessionRequest { edits: vec![ForkEdit { step_key: step.into(), edit }], ..from(session, 0) }
}

fn intent(step: &str, attempt: u32, policy: GuardPolicy) -> Op {
    Op::GuardIntent(v1::GuardIntent {
        step_key: step.into(),
        name: "pay".into(),
        attempt,
        input_digest: vec![1; 32].into(),
        attempt_ms: 60_000,
        grace_ms: 1_000,
        policy: policy.into(),
        idempotency_key: Some(payload::bytes(step)),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    })
}

fn paid(step: &str, attempt: u32, output: &str) -> Op {
    Op::StepCompleted(v1::StepCompleted {
        step_key: step.into(),
        name: "pay".into(),
        attempt,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal(output)),
        guarded: true,
        ..v1::StepCompleted::default()
    })
}

fn own(events: &[Event], cut: u64) -> Vec<&'static str> {
    events.iter().filter(|event| event.seq > cut).map(events::kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_reads_its_parents_events_and_then_its_own_and_the_parent_is_untouched() {
    let mut scene = Scene::start().await;
    let parent = scene.whole("parent").await;
    let before = scene.events(&parent).await;
    let forked = scene.fork(from(&parent, 4)).await;
    let fork = &forked.session_id;
    assert_eq!((&forked.forked_from_session, forked.forked_from_seq), (&parent, 4));
    assert_eq!((forked.root_id.as_str(), forked.lineage_id == *fork), (parent.as_str(), false));
    assert_eq!((forked.key.as_str(), forked.steps, forked.inherited_steps), ("", 2, 2), "sums go on"); // F4, F9
    assert_eq!(fork.get(14..18), parent.get(14..18), "the tree's bits are the same");

    scene.run(fork, completed("other", payload::noise_literal(20_000))).await;
    scene.run(fork, session_completed(payload::literal("\"otherwise\""))).await;
    let chain = scene.events(fork).await;
    assert_eq!(chain[..4], before[..4], "inherited events are the parent's, hashes included"); // F1
    assert_eq!(own(&chain, 4), ["session_started", "lease_granted", "step_completed", "session_completed"]);
    assert_eq!(scene.events(&parent).await, before, "the parent's bytes are what they were"); // F2
    let late = v1::ReplayRequest { session_id: fork.clone(), from_seq: 3, ..v1::ReplayRequest::default() };
    assert_eq!(events::replay(&scene.client, late).await.unwrap().events, chain[2..], "from the middle, too");

    // A fork of the fork, cut in its own part and in what it inherited.
    let second = scene.fork(from(fork, 7)).await;
    assert_eq!((&second.forked_from_session, second.forked_from_seq), (fork, 7));
    let third = scene.fork(from(fork, 3)).await;
    assert_eq!((&third.forked_from_session, third.forked_from_seq), (&parent, 3), "the owner of the event");
    let chained = scene.events(&second.session_id).await;
    assert_eq!(chained[..7], chain[..7]);

    scene.client.verify().await;
    scene.engine.kill_and_restart().await;
    let client = scene.engine.client().await;
    assert_eq!(events::all(&client, &parent).await, before, "kill -9 changes nothing");
    assert_eq!(events::all(&client, fork).await, chain);
    assert_eq!(events::all(&client, &second.session_id).await, chained);
    let again = Worker::reconnect(&client, &scene.worker.instance).await;
    assert_eq!(again.attach(&second.session_id, 1).await.unwrap().epoch, 1, "its lease goes on");
    assert_eq!(again.events_to(&second.session_id, 9).await, chained, "a worker is replayed the chain");
    again.append(&second.session_id, 1, completed("more", payload::literal("1"))).await.unwrap();
    client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_the_forks_first_event_and_moves_the_cut_before_what_it_replaces() {
    let scene = Scene::start().await;
    let parent = scene.whole("parent").await;
    let forked = scene.fork(edited(&parent, "two", "22")).await;
    assert_eq!(forked.forked_from_seq, 3, "before the outcome of the edited step"); // F7
    let chain = scene.events(&forked.session_id).await;
    assert_eq!(own(&chain, 3), ["session_started", "fork_edited", "lease_granted"]);
    let Some(Body::ForkEdited(edit)) = &chain[4].body else { panic!("{:?}", chain[4]) };
    assert_eq!((edit.step_key.as_str(), edit.replaces_seq), ("two", 4));
    let again = scene.worker.append(&forked.session_id, 1, completed("two", payload::literal("2"))).await;
    assert_eq!(again.unwrap_err().code(), "step_conflict", "an edited step has its outcome");
    let again = scene.worker.append(&forked.session_id, 1, completed("one", payload::literal("5"))).await;
    assert_eq!(again.unwrap_err().code(), "step_conflict", "so has an inherited one");
    scene.run(&forked.session_id, completed("three", payload::literal("3"))).await;
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_at_the_cut_is_followed_by_the_next_one_whatever_the_parent_did() {
    let scene = Scene::start().await;
    let parent = scene.worker.begin("parent").await;
    let failed = |attempt| {
        Op::StepFailed(v1::StepFailed {
            step_key: "flaky".into(),
            name: "flaky".into(),
            attempt,
            failure: Some(payload::failure("overloaded")),
            ..v1::StepFailed::default()
        })
    };
    scene.run(&parent, failed(1)).await; // 3
    let done = v1::StepCompleted {
        step_key: "flaky".into(),
        name: "flaky".into(),
        attempt: 2,
        output: Some(payload::literal("1")),
        ..v1::StepCompleted::default()
    };
    scene.run(&parent, Op::StepCompleted(done.clone())).await; // 4
    let forked = scene.fork(from(&parent, 3)).await;
    let first = scene.worker.append(&forked.session_id, 1, failed(1)).await;
    assert_eq!(first.unwrap_err().code(), "step_conflict", "the first attempt is inherited");
    scene.run(&forked.session_id, Op::StepCompleted(done)).await;
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_lies_outside_of_zones_and_before_the_end() {
    let scene = Scene::start().await;
    let parent = scene.worker.begin("parent").await;
    scene.run(&parent, completed("one", payload::literal("1"))).await; // 3
    let entered = v1::ZoneEntered {
        zone_key: "audit#1".into(),
        name: "audit".into(),
        attempt: 1,
        ..v1::ZoneEntered::default()
    };
    scene.run(&parent, Op::ZoneEntered(entered.clone())).await; // 4
    scene.run(&parent, completed("beside", payload::literal("2"))).await; // 5
    let forked = scene.fork(from(&parent, 5)).await; // the parent still runs
    assert_eq!(forked.forked_from_seq, 3, "before the zone's entry"); // F3
    scene.run(&forked.session_id, Op::ZoneEntered(entered)).await;

    let ended = scene.whole("ended").await;
    assert_eq!(scene.fork(from(&ended, 0)).await.forked_from_seq, 7, "before the end");
    assert_eq!(scene.fork(from(&ended, 8)).await.forked_from_seq, 7);
    let beyond = refusal(&fork(&scene.client, from(&ended, 9)).await.unwrap_err());
    assert_eq!(beyond.code, "invalid_argument", "{}", beyond.message);
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_in_flight_at_the_cut_takes_the_parents_later_outcome_or_is_unknown() {
    let scene = Scene::start().await;
    let parent = scene.whole("parent").await;
    let forked = scene.fork(from(&parent, 5)).await;
    let chain = scene.events(&forked.session_id).await;
    assert_eq!(own(&chain, 5), ["session_started", "guard_resolved", "lease_granted"]); // F5
    let Some(Body::GuardResolved(resolved)) = &chain[6].body else { panic!("{:?}", chain[6]) };
    assert_eq!((payload::text(resolved.output.as_ref().unwrap()), &*resolved.by), ("\"paid\"", "parent"));

    let open = scene.worker.begin("open").await;
    scene.run(&open, intent("hold#1", 1, GuardPolicy::Pause)).await;
    let forked = scene.fork(from(&open, 3)).await;
    assert_eq!(forked.status(), SessionStatus::Paused);
    let chain = scene.events(&forked.session_id).await;
    assert_eq!(own(&chain, 3), ["session_started", "guard_unknown", "session_paused"]);
    let request = v1::ResolveStepRequest {
        session_id: forked.session_id.clone(),
        step_key: "hold#1".into(),
        resolution: Some(resolve_step_request::Resolution::Output(payload::literal("1"))),
        resume: true,
        ..v1::ResolveStepRequest::default()
    };
    scene.client.operator().resolve_step(request).await.expect("a person may answer at once");
    assert_eq!(scene.client.session(&forked.session_id).await.status(), SessionStatus::Pending);
    assert_eq!(scene.client.session(&open).await.open_intents.len(), 1, "the parent's is still in flight");
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_performs_no_effect_but_takes_what_the_lineage_recorded_or_asks() {
    let scene = Scene::start().await;
    let parent = scene.whole("parent").await;
    let forked = scene.fork(edited(&parent, "one", "11")).await;
    let fork = &forked.session_id;
    let answer = scene.run(fork, intent("pay#1", 1, GuardPolicy::Retry)).await;
    let Some(Body::StepCompleted(stubbed)) = answer.recorded.and_then(|event| event.body) else { panic!() };
    assert_eq!(payload::text(stubbed.output.as_ref().unwrap()), "\"paid\""); // F8
    assert_eq!(stubbed.deduplicated_from, format!("{parent}:6"), "it says where it was recorded");
    let again = scene.run(fork, intent("pay#1", 1, GuardPolicy::Retry)).await;
    assert!(again.recorded.is_some(), "a re-sent intent is answered alike");

    let unknown = scene.run(fork, intent("ship#1", 1, GuardPolicy::Retry)).await;
    assert!(unknown.recorded.is_none());
    let paused = scene
        .client
        .session_when("the pause", fork, |session| session.status() == SessionStatus::Paused)
        .await;
    assert!(paused.waiting_for.contains("this fork does not perform"), "{}", paused.waiting_for);

    // Live: performed, but not what the parent has done under the same key already.
    let live = ForkSessionRequest { effects_live: true, ..edited(&parent, "one", "11") };
    let live = scene.fork(live).await;
    let answer = scene.run(&live.session_id, intent("pay#1", 1, GuardPolicy::Pause)).await;
    let Some(Body::StepCompleted(taken)) = answer.recorded.and_then(|event| event.body) else { panic!() };
    assert_eq!(taken.deduplicated_from, format!("{parent}:6"));
    let own = scene.run(&live.session_id, intent("ship#1", 1, GuardPolicy::Pause)).await;
    assert!(own.recorded.is_none(), "nobody else has done this one");
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_waits_and_buffered_signals_are_the_forks_own() {
    let scene = Scene::start().await;
    let parent = scene.worker.begin("parent").await;
    let timer = |step: &str, delay_ms| {
        Op::TimerStarted(v1::TimerStarted {
            step_key: step.into(),
            name: "nap".into(),
            delay_ms,
            ..v1::TimerStarted::default()
        })
    };
    scene.run(&parent, timer("nap#1", 600)).await; // 3
    let signal = v1::SignalSessionRequest {
        session: by_id(&parent),
        name: "go".into(),
        value: Some(payload::literal("1")),
        ..v1::SignalSessionRequest::default()
    };
    scene.client.sessions().signal_session(signal).await.unwrap(); // 4
    let due = scene.client.session(&parent).await.waits[0].due_ms;
    let forked = scene.fork(from(&parent, 4)).await;
    let fork = &forked.session_id;
    assert_eq!(forked.waits[0].due_ms, due, "a timer keeps its time"); // F6
    let awaited = Op::SignalAwaited(v1::SignalAwaited {
        step_key: "go#1".into(),
        name: "go".into(),
        ..v1::SignalAwaited::default()
    });
    scene.run(fork, awaited).await;
    let fired = cellaflow_tests::wait::until("both timers", async || {
        let (a, b) = (scene.events(&parent).await, scene.events(fork).await);
        let fired = |events: &[Event]| events.iter().filter(|e| events::kind(e) == "timer_fired").count();
        (fired(&a) == 1 && fired(&b) == 1).then_some(b)
    })
    .await;
    assert!(own(&fired, 4).contains(&"signal_delivered"), "a signal that had arrived stays: {fired:?}");
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_forks_looks_back_and_compares() {
    let scene = Scene::start().await;
    let parent = scene.whole("parent").await;
    let forked = scene
        .engine
        .cli(&["sessions", "fork", &parent, "--step", "one", "--output", "11", "--json"])
        .await
        .json();
    let fork = forked["session_id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&forked["forked_from_session"], &forked["forked_from_seq"]),
        (&parent.as_str().into(), &2.into())
    );
    scene.worker.attach(&fork, 0).await.unwrap();
    scene.run(&fork, completed("two", payload::literal("2"))).await;

    let state = scene.engine.cli(&["sessions", "state", &parent, "--at", "3", "--json"]).await.json();
    assert_eq!(
        state["outcomes"],
        serde_json::json!([{ "step_key": "one", "seq": 3, "output": 1, "edited": false }])
    );
    let diff = scene.engine.cli(&["sessions", "diff", &parent, &fork, "--json"]).await.json();
    assert_eq!((&diff["common_seq"], &diff["same"]), (&2.into(), &0.into()));
    let steps: Vec<&str> =
        diff["steps"].as_array().unwrap().iter().map(|step| step["step_key"].as_str().unwrap()).collect();
    assert_eq!(steps, ["one", "two", "pay#1", "three"]);
    let text = scene.engine.cli(&["sessions", "diff", &parent, &fork]).await.ok();
    assert!(text.contains("events 1 to 2 in common") && text.contains("11 (edited)"), "{text}");
    let shown = scene.engine.cli(&["sessions", "show", &fork]).await.ok();
    assert!(shown.contains(&format!("{parent} up to event 2")), "{shown}");
    let wrong = scene.engine.cli(&["sessions", "fork", &parent, "--from", "99"]).await;
    assert!(wrong.code != Some(0) && wrong.stderr.contains("has 8 events"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nondeterminism_is_accepted_where_the_session_is_paused_for_it() {
    let scene = Scene::start().await;
    let session = scene.worker.begin("diverged").await;
    scene.run(&session, completed("ask", payload::literal("1"))).await;
    let accept = v1::AcceptDivergenceRequest {
        session_id: session.clone(),
        step_key: "ask".into(),
        input_digest: vec![7; 32].into(),
        dedupe_id: vec![9; 16].into(),
        ..v1::AcceptDivergenceRequest::default()
    };
    let early = scene.client.operator().accept_divergence(accept.clone()).await.unwrap_err();
    assert_eq!(refusal(&early).code, "session_not_paused"); // F10
    let pause = v1::SessionPaused {
        reason: v1::PauseReason::Nondeterminism.into(),
        step_key: "ask".into(),
        ..v1::SessionPaused::default()
    };
    scene.run(&session, Op::SessionPaused(pause)).await;
    let other = v1::AcceptDivergenceRequest { step_key: "other".into(), ..accept.clone() };
    assert_eq!(
        refusal(&scene.client.operator().accept_divergence(other).await.unwrap_err()).code,
        "invalid_argument"
    );
    for _ in 0..2 {
        scene.client.operator().accept_divergence(accept.clone()).await.expect("it is paused for this step");
    }
    let events = scene.events(&session).await;
    assert_eq!(own(&events, 4), ["divergence_accepted", "session_resumed"], "once, however often it is sent");
    scene.client.verify().await;
}
