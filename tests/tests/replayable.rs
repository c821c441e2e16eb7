//! Promise: **replayable**. Recovery streams completed steps, byte-equal; workflow code sees the same outcomes in the
//! same order as the first time. And **pinned**: a session runs to its end on the workflow version it started on.

use std::time::Duration;

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{
    self, AwaitSessionRequest, Event, ReplayRequest, SessionStatus, StartSessionRequest,
    SubscribeSessionRequest, subscribe_session_response,
};
use cellaflow_tests::Engine;
use cellaflow_tests::channel::{self as worker, Introduction, Worker, completed, session_completed};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::events::{self, Pieces};
use cellaflow_tests::payload;

/// Nothing, one byte, the largest inline, the smallest in a chunk, more than a chunk, many chunks.
const SIZES: [usize; 6] = [0, 1, 8 * 1024, 8 * 1024 + 1, 300 * 1024, 5 * 1024 * 1024];

fn outputs(events: &[Event]) -> Vec<Vec<u8>> {
    let output = |event: &Event| match &event.body {
        Some(Body::StepCompleted(step)) => Some(payload::data(step.output.as_ref()?).to_vec()),
        _ => None,
    };
    events.iter().filter_map(output).collect()
}

async fn subscribed(client: &Client, session_id: &str) -> Vec<Event> {
    use subscribe_session_response::Body as Sent;
    let request = SubscribeSessionRequest {
        session: by_id(session_id),
        until_caught_up: true,
        ..SubscribeSessionRequest::default()
    };
    let mut stream = client.sessions().subscribe_session(request).await.unwrap().into_inner();
    let (mut events, mut pieces, mut ended) = (Vec::new(), Pieces::default(), false);
    while let Some(message) = stream.message().await.unwrap() {
        match message.body.unwrap() {
            Sent::Event(event) => events.push(pieces.complete(event)),
            Sent::Piece(piece) => pieces.take(piece),
            Sent::CaughtUp(_) => {}
            Sent::End(_) => ended = true,
            other @ (Sent::TokenChunk(_) | Sent::StreamReset(_)) => panic!("nobody asked for {other:?}"),
        }
    }
    assert!(ended, "a subscription that was not cut off ends with its end");
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_read_gives_the_same_bytes_before_and_after_kill_9() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let first = Worker::connect(&client).await;
    let session = first.begin("sizes").await;
    let sent: Vec<Vec<u8>> = (0u64..).zip(SIZES).map(|(seed, size)| payload::noise(seed, size)).collect();
    for (n, bytes) in sent.iter().enumerate() {
        let step =
            first.append(&session, 1, completed(&format!("step-{n}"), payload::bytes(bytes.clone()))).await;
        assert_eq!(step.unwrap().seq, n as u64 + 3, "after start and grant");
    }
    let before = events::all(&client, &session).await;
    assert_eq!(outputs(&before), sent);

    engine.kill_and_restart().await;
    let client = engine.client().await;
    let after = events::all(&client, &session).await;
    assert_eq!(after, before, "kill -9 changes nothing that was recorded");
    assert_eq!(subscribed(&client, &session).await, before, "a subscription reads what a replay reads");

    // The channel's replay, at the same epoch, from the start and from the middle.
    let again = Worker::reconnect(&client, &first.instance).await;
    let bound = again.attach(&session, 1).await.unwrap();
    let last = before.last().unwrap().seq;
    assert_eq!((bound.epoch, bound.replay_to_seq), (1, last));
    assert_eq!(again.events_to(&session, last).await, before, "a worker is replayed what a thin client is");
    let again = Worker::reconnect(&client, &first.instance).await;
    let attach = v1::Attach {
        session_id: session.clone(),
        epoch: 1,
        from_seq: 6,
        version: "1".into(),
        ..v1::Attach::default()
    };
    again.attach_with(attach).await.unwrap();
    assert_eq!(again.events_to(&session, last).await, before[5..], "it is sent what it lacks");
    client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thin_client_takes_a_dead_lease_with_its_replay_and_goes_on() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("thin").await;
    worker.append(&session, 1, completed("first", payload::literal("1"))).await.unwrap();

    let instance = worker::instance();
    let acquire = ReplayRequest {
        session_id: session.clone(),
        acquire_lease: true,
        instance: instance.clone(),
        ..ReplayRequest::default()
    };
    let alive = worker.stay_alive();
    tokio::time::sleep(engine.lease_ttl() * 2).await;
    let refused = refusal(&events::replay(&client, acquire.clone()).await.unwrap_err());
    assert_eq!((&*refused.code, refused.retryable), ("lease_held", true), "a live lease is not taken");
    assert!(refused.retry_after_ms > 0);

    drop(alive);
    let replay = cellaflow_tests::wait::until("the lease to expire", async || {
        events::replay(&client, acquire.clone()).await.ok()
    })
    .await;
    assert_eq!(replay.epoch, 2, "the first message says the epoch");
    assert_eq!(
        events::kinds(&replay.events),
        ["session_started", "lease_granted", "step_completed", "lease_granted"]
    );
    let commit = |epoch, step: &str| v1::CommitStepRequest {
        session_id: session.clone(),
        epoch,
        outcome: Some(v1::commit_step_request::Outcome::Completed(v1::StepCompleted {
            step_key: step.to_owned(),
            name: step.to_owned(),
            attempt: 1,
            output: Some(payload::literal("2")),
            ..v1::StepCompleted::default()
        })),
        ..v1::CommitStepRequest::default()
    };
    let done = client.engine().commit_step(commit(2, "second")).await.unwrap().into_inner();
    assert_eq!((done.seq, done.duplicate), (5, false));
    let again = client.engine().commit_step(commit(2, "second")).await.unwrap().into_inner();
    assert_eq!((again.seq, again.duplicate), (5, true), "the same commit is one event");
    let late = client.engine().commit_step(commit(1, "third")).await.unwrap_err();
    assert_eq!(refusal(&late).code, "fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_sees_events_as_they_happen() {
    use subscribe_session_response::Body as Sent;
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("live").await;
    let request = SubscribeSessionRequest {
        session: by_id(&session),
        from_seq: 2,
        ..SubscribeSessionRequest::default()
    };
    let mut stream = client.sessions().subscribe_session(request).await.unwrap().into_inner();
    let mut next = async || {
        let message = tokio::time::timeout(Duration::from_secs(5), stream.message()).await;
        message.expect("live means soon").unwrap().and_then(|message| message.body)
    };
    assert!(matches!(next().await, Some(Sent::Event(event)) if event.seq == 2));
    assert!(matches!(next().await, Some(Sent::CaughtUp(caught_up)) if caught_up.seq == 2));
    for seq in 3..=20 {
        worker.append(&session, 1, completed(&format!("step-{seq}"), payload::literal("{}"))).await.unwrap();
        assert!(matches!(next().await, Some(Sent::Event(event)) if event.seq == seq));
    }
    worker.append(&session, 1, session_completed(payload::literal("\"done\""))).await.unwrap();
    assert!(matches!(next().await, Some(Sent::Event(event)) if events::kind(&event) == "session_completed"));
    let Some(Sent::End(end)) = next().await else {
        panic!("a session that has ended ends its subscriptions")
    };
    assert_eq!((end.seq, end.status()), (21, SessionStatus::Completed));
    assert!(next().await.is_none());
}

fn dispatched(workflow: &str, version: &str, key: &str) -> StartSessionRequest {
    StartSessionRequest { workflow: workflow.to_owned(), version: version.to_owned(), ..worker::start(key) }
}

fn serving(version: &'static str) -> Introduction {
    Introduction { serves: vec![("audit", version)], capacity: 4, ..Introduction::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_resumes_elsewhere_when_its_worker_dies() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let dying = Worker::introduce(&client, serving("1")).await;
    let started =
        client.engine().start_session(dispatched("audit", "1", "resumed")).await.unwrap().into_inner();
    let session = started.session.unwrap().session_id;
    let bound = dying.dispatched().await;
    assert_eq!((bound.epoch, &bound.session.unwrap().session_id), (1, &session));
    dying.append(&session, 1, completed("first", payload::literal("1"))).await.unwrap();
    dying.append(&session, 1, completed("second", payload::literal("2"))).await.unwrap();
    let recorded = events::all(&client, &session).await;

    let other = Worker::introduce(&client, serving("1")).await;
    let alive = other.stay_alive();
    drop(dying);
    let bound = other.dispatched().await;
    assert_eq!((bound.epoch, bound.replay_to_seq), (2, 5));
    let replayed = other.events_to(&session, 5).await;
    assert_eq!(replayed[..4], recorded, "the new worker sees what the first one had seen");
    assert!(
        matches!(&replayed[4].body, Some(Body::LeaseGranted(granted)) if granted.takeover && granted.epoch == 2)
    );
    other.append(&session, 2, completed("third", payload::literal("3"))).await.unwrap();
    other.append(&session, 2, session_completed(payload::literal("\"all\""))).await.unwrap();
    drop(alive);
    let request = AwaitSessionRequest {
        session: by_id(&session),
        wait_ms: 5_000,
        until_unleased: false,
        through_waits: false,
    };
    let ended = client.sessions().await_session(request).await.unwrap().into_inner();
    assert_eq!(ended.session.unwrap().status(), SessionStatus::Completed);
    assert_eq!(payload::data(&ended.output.unwrap()), b"\"all\"");
    // The key names the session and its result, for as long as it is remembered.
    let again =
        client.engine().start_session(dispatched("audit", "1", "resumed")).await.unwrap().into_inner();
    assert_eq!((again.created, again.session.unwrap().session_id), (false, session));
    assert_eq!(payload::data(&again.output.unwrap()), b"\"all\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinned_another_version_never_gets_the_session_and_it_says_what_it_waits_for() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let newer = Worker::introduce(&client, serving("2")).await;
    let _alive = newer.stay_alive();
    let started =
        client.engine().start_session(dispatched("audit", "1", "pinned")).await.unwrap().into_inner();
    let session = started.session.unwrap().session_id;
    let waits =
        client.session_when("it to say why", &session, |session| !session.waiting_for.is_empty()).await;
    assert!(
        waits.waiting_for.contains("audit 1") && waits.waiting_for.contains("serve 2"),
        "{}",
        waits.waiting_for
    );

    let refused = newer.attach_with(v1::Attach {
        session_id: session.clone(),
        version: "2".into(),
        ..Default::default()
    });
    assert_eq!(refused.await.unwrap_err().code(), "version_mismatch");
    let refused = newer.start(dispatched("audit", "2", "pinned")).await;
    assert_eq!(refused.unwrap_err().code(), "version_mismatch");
    tokio::time::sleep(engine.lease_ttl() * 3).await;
    assert_eq!(newer.undelivered(), 0);
    assert_eq!(client.session(&session).await.seq, 1, "a version mismatch appends nothing");

    let pinned = Worker::introduce(&client, serving("1")).await;
    let bound = pinned.dispatched().await;
    assert_eq!(bound.session.unwrap().version, "1");
    assert_eq!(client.session(&session).await.waiting_for, "");
}
