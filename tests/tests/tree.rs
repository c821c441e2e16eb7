//! Promise: **a tree of sessions**. A child is started once, reported once and ends before its parent; cancelling runs
//! down the tree, children first; a session that continues itself has one successor, under the same key.

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{
    self, Assigned, AwaitSessionRequest, Event, PauseReason, RevokeReason, SessionStatus, StartSessionRequest,
};
use cellaflow_tests::channel::{Introduction, Worker, completed, session_completed, start};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::{Engine, events, payload};

mod tree {
    pub mod kills;
    pub mod verbs;
}

/// Workflow of the children in these tests.
const CHILD: &str = "child";

/// A worker that serves children and takes what is dispatched.
async fn serving(client: &Client, workflow: &'static str) -> Worker {
    let serves = vec![(workflow, "1")];
    Worker::introduce(client, Introduction { serves, capacity: 64, ..Introduction::default() }).await
}

fn spawn(key: &str, input: &str, abandoned: bool) -> Op {
    Op::ChildSpawned(v1::ChildSpawned {
        step_key: key.into(),
        name: "research".into(),
        workflow: CHILD.into(),
        version: "1".into(),
        input: Some(payload::literal(input)),
        abandoned,
        ..v1::ChildSpawned::default()
    })
}

fn cancel_child(key: &str) -> Op {
    Op::ChildCancelRequested(v1::ChildCancelRequested {
        step_key: key.into(),
        reason: "lost the race".into(),
    })
}

fn cancelled() -> Op {
    Op::SessionCancelled(v1::SessionCancelled {
        reason: "cleaned up".into(),
        ..v1::SessionCancelled::default()
    })
}

fn continue_as(input: &str) -> Op {
    Op::SessionContinued(v1::SessionContinued {
        input: Some(payload::literal(input)),
        state: Some(payload::of(v1::PayloadFormat::StateDelta, "state")),
        conversation: Some(payload::of(v1::PayloadFormat::ConversationDelta, "conversation")),
        ..v1::SessionContinued::default()
    })
}

fn id(assigned: &Assigned) -> &str {
    &assigned.session.as_ref().unwrap().session_id
}

/// The events of a kind.
async fn of_kind(client: &Client, session: &str, kind: &str) -> Vec<Event> {
    let all = events::all(client, session).await;
    all.into_iter().filter(|event| events::kind(event) == kind).collect()
}

/// Waits until a session has so many events of a kind.
async fn happened(client: &Client, session: &str, kind: &str, count: usize) -> Vec<Event> {
    cellaflow_tests::wait::until(kind, async || {
        let found = of_kind(client, session, kind).await;
        (found.len() >= count).then_some(found)
    })
    .await
}

async fn cancel(client: &Client, session: &str) -> Result<v1::Session, tonic::Status> {
    let request = v1::CancelSessionRequest {
        session_id: session.into(),
        reason: "too slow".into(),
        ..v1::CancelSessionRequest::default()
    };
    client.operator().cancel_session(request).await.map(|answer| answer.into_inner().session.unwrap())
}

async fn terminate(client: &Client, session: &str) -> v1::Session {
    let request = v1::TerminateSessionRequest {
        session_id: session.into(),
        reason: "runs away".into(),
        ..v1::TerminateSessionRequest::default()
    };
    client.operator().terminate_session(request).await.unwrap().into_inner().session.unwrap()
}

async fn ended(client: &Client, session: &str) -> v1::Session {
    client.session_when("the end", session, |session| session.ended_ms > 0).await
}

fn child_ended(event: &Event) -> &v1::ChildEnded {
    match &event.body {
        Some(Body::ChildEnded(ended)) => ended,
        other => panic!("not a child's end: {other:?}"),
    }
}

// H1, H2, T1, T2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_started_and_their_results_come_back_by_value() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let parent_worker = Worker::connect(&client).await;
    let parent = parent_worker.begin("joins").await;
    let large = format!("\"{}\"", "x".repeat(300_000));
    let seq = parent_worker.append(&parent, 1, spawn("a", &large, false)).await.unwrap().seq;
    let again = parent_worker.append(&parent, 1, spawn("a", &large, false)).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (seq, true), "one child per spawn"); // H1

    let worker = serving(&client, CHILD).await;
    let given = worker.dispatched().await;
    let child = given.session.clone().unwrap();
    assert_eq!((&child.parent_id, &child.top_id), (&parent, &parent));
    let spawned = of_kind(&client, &parent, "child_spawned").await;
    let Some(Body::ChildSpawned(named)) = &spawned[0].body else { panic!("{spawned:?}") };
    assert_eq!(named.child_id, child.session_id);
    let started = &events::all(&client, &child.session_id).await[0];
    let Some(Body::SessionStarted(begun)) = &started.body else { panic!("{started:?}") };
    assert_eq!(payload::data(begun.input.as_ref().unwrap()), large.as_bytes());
    assert_eq!((&*begun.parent_step_key, begun.depth), ("a", 1));
    // 12 bits of the tree are shared.
    assert_eq!(child.session_id[15..18], parent[15..18]);

    // The parent waits without a worker and is woken by the end.
    parent_worker.release_waiting(&parent, 1, again.seq).await.unwrap();
    let waiting = client.session(&parent).await;
    assert!(waiting.waiting_for.starts_with("child research"), "{}", waiting.waiting_for);
    worker.commit(&given, session_completed(payload::literal(&large))).await.unwrap();
    let told = happened(&client, &parent, "child_ended", 1).await;
    let end = child_ended(&told[0]);
    assert_eq!((end.status(), &end.ended_id), (SessionStatus::Completed, &child.session_id));
    assert_eq!(payload::data(end.output.as_ref().unwrap()), large.as_bytes());
    assert_eq!(client.session(&parent).await.status(), SessionStatus::Running);
    client.verify().await;
}

// H3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_after_its_children_and_abandoned_ones_go_on() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let parent_worker = Worker::connect(&client).await;
    let parent = parent_worker.begin("ends").await;
    parent_worker.append(&parent, 1, spawn("bound", "1", false)).await.unwrap();
    parent_worker.append(&parent, 1, spawn("left", "2", true)).await.unwrap();
    let done = || session_completed(payload::literal("1"));
    let refused = parent_worker.append(&parent, 1, done()).await.unwrap_err();
    assert_eq!(refused.code(), "open_children");
    parent_worker.append(&parent, 1, cancel_child("bound")).await.unwrap();
    // It never ran, so it ends at once.
    let told = happened(&client, &parent, "child_ended", 1).await;
    assert_eq!(child_ended(&told[0]).status(), SessionStatus::Cancelled);
    parent_worker.append(&parent, 1, done()).await.unwrap();
    let worker = serving(&client, CHILD).await;
    let left = worker.dispatched().await;
    worker.commit(&left, done()).await.unwrap();
    assert_eq!(ended(&client, id(&left)).await.status(), SessionStatus::Completed);
    assert_eq!(of_kind(&client, &parent, "child_ended").await.len(), 1);
}

// C1, C2, H4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_runs_down_the_tree_children_first_and_cleanup_runs() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let top_worker = Worker::connect(&client).await;
    let top = top_worker.begin("cancelled").await;
    top_worker.append(&top, 1, spawn("middle", "1", false)).await.unwrap();
    let worker = serving(&client, CHILD).await;
    let middle = worker.dispatched().await;
    worker.commit(&middle, spawn("leaf", "2", false)).await.unwrap();
    let leaf = worker.dispatched().await;

    let asked = cancel(&client, &top).await.unwrap();
    assert!(asked.cancel_requested && asked.ended_ms == 0);
    // Every run learns it from its events; none may end before its child.
    for (worker, session) in [(&top_worker, &*top), (&worker, id(&middle)), (&worker, id(&leaf))] {
        cellaflow_tests::wait::until("the request", async || {
            worker.events(session).iter().find(|e| events::kind(e) == "cancel_requested").map(drop)
        })
        .await;
    }
    assert_eq!(top_worker.append(&top, 1, cancelled()).await.unwrap_err().code(), "open_children");
    assert_eq!(worker.commit(&middle, cancelled()).await.unwrap_err().code(), "open_children");
    let end = session_completed(payload::literal("1"));
    assert_eq!(worker.commit(&leaf, end).await.unwrap_err().code(), "cancel_requested");
    worker.commit(&leaf, completed("undo", payload::literal("1"))).await.unwrap();
    worker.commit(&leaf, cancelled()).await.unwrap();
    happened(&client, id(&middle), "child_ended", 1).await;
    worker.commit(&middle, cancelled()).await.unwrap();
    happened(&client, &top, "child_ended", 1).await;
    top_worker.append(&top, 1, cancelled()).await.unwrap();
    for session in [&*top, id(&middle), id(&leaf)] {
        assert_eq!(client.session(session).await.status(), SessionStatus::Cancelled);
    }
    let requests = of_kind(&client, id(&leaf), "cancel_requested").await;
    let Some(Body::CancelRequested(request)) = &requests[0].body else { panic!("{requests:?}") };
    assert_eq!((&*request.by, &*request.reason), ("parent", "too slow"));
    assert_eq!(refusal(&cancel(&client, &top).await.unwrap_err()).code, "session_ended");
}

// C1, C3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_state_a_session_is_in_cancelling_wakes_or_ends_it() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;

    let request = StartSessionRequest { key: "never leased".into(), ..start("never leased") };
    let pending = client.engine().start_session(request).await.unwrap().into_inner().session.unwrap();
    let gone = cancel(&client, &pending.session_id).await.unwrap();
    assert_eq!(gone.status(), SessionStatus::Cancelled);

    let waiting = worker.begin("waits").await;
    let seq = worker.append(&waiting, 1, cellaflow_tests::channel::timer("nap", 60_000)).await.unwrap().seq;
    worker.release_waiting(&waiting, 1, seq).await.unwrap();
    let woken = cancel(&client, &waiting).await.unwrap();
    assert_eq!(woken.status(), SessionStatus::Running);
    let bound = worker.attach(&waiting, 0).await.unwrap();
    worker.append(&waiting, bound.epoch, cancelled()).await.unwrap();

    let paused = worker.begin("paused").await;
    let pause = v1::PauseSessionRequest { session_id: paused.clone(), ..v1::PauseSessionRequest::default() };
    let stopped = client.operator().pause_session(pause.clone()).await.unwrap().into_inner().session.unwrap();
    assert_eq!(stopped.pause_reason(), PauseReason::Requested);
    assert_eq!(worker.revoked(&paused).await.reason(), RevokeReason::Paused);
    worker.release(&paused, 1).await.unwrap();
    assert_eq!(cancel(&client, &paused).await.unwrap().status(), SessionStatus::Running);
    client.operator().pause_session(pause).await.unwrap();
    assert_eq!(cancel(&client, &paused).await.unwrap().status(), SessionStatus::Running, "once more");
    let bound = worker.attach(&paused, 0).await.unwrap();
    worker.append(&paused, bound.epoch, cancelled()).await.unwrap();
    for session in [waiting, paused] {
        assert_eq!(client.session(&session).await.status(), SessionStatus::Cancelled);
    }
}

// C5, H3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminating_ends_a_tree_at_once_and_names_what_nobody_knows() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let parent_worker = Worker::connect(&client).await;
    let parent = parent_worker.begin("terminated").await;
    let intent = v1::GuardIntent {
        step_key: "charge".into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        attempt_ms: 60_000,
        grace_ms: 1_000,
        policy: v1::GuardPolicy::Pause.into(),
        idempotency_key: Some(payload::bytes("order-7")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    };
    parent_worker.append(&parent, 1, Op::GuardIntent(intent)).await.unwrap();
    parent_worker.append(&parent, 1, spawn("bound", "1", false)).await.unwrap();
    parent_worker.append(&parent, 1, spawn("left", "2", true)).await.unwrap();
    let worker = serving(&client, CHILD).await;
    let children = [worker.dispatched().await, worker.dispatched().await];

    terminate(&client, &parent).await;
    assert_eq!(parent_worker.revoked(&parent).await.reason(), RevokeReason::Ended);
    let all = events::all(&client, &parent).await;
    let Some(Body::SessionCancelled(end)) = &all.last().unwrap().body else { panic!("{all:?}") };
    assert!(end.terminated);
    assert_eq!((&end.unknown_step_keys[..], &*end.reason), (&["charge".to_owned()][..], "runs away"));
    let keys: Vec<(String, bool)> = of_kind(&client, &parent, "child_spawned")
        .await
        .into_iter()
        .map(|event| match event.body {
            Some(Body::ChildSpawned(child)) => (child.child_id, child.abandoned),
            other => panic!("{other:?}"),
        })
        .collect();
    for (child, abandoned) in keys {
        if abandoned {
            assert_eq!(client.session(&child).await.status(), SessionStatus::Running);
            let own = children.iter().find(|given| id(given) == child).unwrap();
            worker.commit(own, session_completed(payload::literal("1"))).await.unwrap();
        } else {
            assert_eq!(ended(&client, &child).await.status(), SessionStatus::Cancelled);
            assert_eq!(worker.revoked(&child).await.reason(), RevokeReason::Ended);
        }
    }
    client.verify().await;
}

// N1 to N4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_continues_itself_keeps_its_key_and_hands_over_its_state() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = serving(&client, "test").await;
    let first = worker.begin("poller").await;
    let wait =
        AwaitSessionRequest { session: by_id(&first), wait_ms: 20_000, ..AwaitSessionRequest::default() };
    let waiter = tokio::spawn({
        let client = client.clone();
        async move { client.sessions().await_session(wait).await.unwrap().into_inner() }
    });
    worker.append(&first, 1, continue_as("{\"round\":2}")).await.unwrap();
    let second = worker.dispatched().await;
    worker.commit(&second, continue_as("{\"round\":3}")).await.unwrap();
    let third = worker.dispatched().await;
    let session = third.session.clone().unwrap();
    assert_eq!((session.generation, &*session.key), (3, "poller"));
    assert_eq!((&*session.continued_from, &session.top_id), (id(&second), &first));
    let begun = &events::all(&client, &session.session_id).await[0];
    assert_eq!(payload::data(begun.state_delta.as_ref().unwrap()), b"state");
    assert_eq!(payload::data(begun.conversation_delta.as_ref().unwrap()), b"conversation");
    // Who starts it again, with the input of the first time, finds the one that goes on.
    let found = client.engine().start_session(start("poller")).await.unwrap().into_inner();
    assert_eq!((found.session.unwrap().session_id, found.created), (session.session_id.clone(), false));
    worker.commit(&third, session_completed(payload::literal("\"done\""))).await.unwrap();
    let answer = waiter.await.unwrap();
    assert_eq!(answer.session.unwrap().session_id, session.session_id, "the last one's result");
    assert_eq!(payload::data(&answer.output.unwrap()), b"\"done\"");
    assert_eq!(client.session(&first).await.continued_to, id(&second));
}

// H2, N3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_continues_itself_is_reported_when_its_last_successor_ends() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let parent_worker = Worker::connect(&client).await;
    let parent = parent_worker.begin("patient").await;
    parent_worker.append(&parent, 1, spawn("a", "1", false)).await.unwrap();
    let worker = serving(&client, CHILD).await;
    let first = worker.dispatched().await;
    worker.commit(&first, continue_as("2")).await.unwrap();
    let second = worker.dispatched().await;
    assert_eq!(second.session.as_ref().unwrap().parent_id, parent);
    // A request to cancel the child reaches the session that goes on.
    parent_worker.append(&parent, 1, cancel_child("a")).await.unwrap();
    client.session_when("the request", id(&second), |session| session.cancel_requested).await;
    worker.commit(&second, cancelled()).await.unwrap();
    let told = happened(&client, &parent, "child_ended", 1).await;
    let end = child_ended(&told[0]);
    assert_eq!((&*end.child_id, &*end.ended_id), (id(&first), id(&second)));
    assert_eq!((end.status(), &*end.reason), (SessionStatus::Cancelled, "cleaned up"));
}

/// A child without a worker waits and says so, and so does its parent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_version_nobody_serves_waits_and_says_so() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let parent = worker.begin("nobody").await;
    let seq = worker.append(&parent, 1, spawn("a", "1", false)).await.unwrap().seq;
    worker.release_waiting(&parent, 1, seq).await.unwrap();
    let child = client.session(&parent).await.waits[0].child_id.clone();
    let started = cellaflow_tests::wait::until("the child", async || {
        let request = v1::GetSessionRequest { session: by_id(&child) };
        client.sessions().get_session(request).await.ok()
    })
    .await;
    let waits = started.into_inner().session.unwrap().waiting_for;
    assert!(waits.starts_with("a worker for child 1"), "{waits}");
}
