//! Promise of DESIGN 4 and 5.2: a **key** names one session, ended or not; a session that can run is run, by one worker
//! at a time that serves it, whatever dies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::worker_message::Body as Said;
use cellaflow_proto::v1::{
    Capacity, Goodbye, IfEnded, PauseReason, ResumeSessionRequest, RevokeReason, Session, SessionPaused,
    SessionStatus, StartSessionRequest,
};
use cellaflow_tests::channel::{Introduction, Worker, completed, session_completed, start};
use cellaflow_tests::client::{Client, refusal};
use cellaflow_tests::{Engine, events, payload};

/// What "at once" means on a busy machine; far less than the TTL of an engine with default settings.
const AT_ONCE: Duration = Duration::from_secs(10);

fn serving(capacity: u32) -> Introduction {
    Introduction { serves: vec![("test", "1")], capacity, ..Introduction::default() }
}

async fn queued(client: &Client, key: &str) -> String {
    let started = client.engine().start_session(start(key)).await.unwrap().into_inner();
    assert_eq!((started.created, started.epoch), (true, 0), "nobody asked for its lease");
    started.session.unwrap().session_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_names_one_session_until_a_restart_is_asked_for() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let begin = async |request: StartSessionRequest| {
        client.engine().start_session(request).await.map(|it| it.into_inner())
    };
    let worker = Worker::connect(&client).await;
    let first = worker.begin("order").await;
    let restart = || StartSessionRequest { if_ended: IfEnded::Restart.into(), ..start("order") };

    let again = begin(restart()).await.unwrap();
    assert_eq!(
        (again.created, again.session.unwrap().session_id),
        (false, first.clone()),
        "it has not ended"
    );
    let other = StartSessionRequest { input: Some(payload::literal("{\"n\":2}")), ..start("order") };
    let conflict = refusal(&begin(other.clone()).await.unwrap_err());
    assert_eq!((&*conflict.code, conflict.retryable), ("key_conflict", false));
    assert!(!conflict.message.contains("{}"), "no payload is quoted: {}", conflict.message);
    // The same input in other bytes, by its digest, and another workflow under the same key.
    let digest = |byte| StartSessionRequest { input_digest: vec![byte; 32].into(), ..start("by digest") };
    let by_digest = begin(digest(1)).await.unwrap();
    let same = StartSessionRequest { input: Some(payload::literal("{ }")), ..digest(1) };
    assert_eq!(begin(same).await.unwrap().session.unwrap().session_id, by_digest.session.unwrap().session_id);
    assert_eq!(refusal(&begin(digest(2)).await.unwrap_err()).code, "key_conflict");
    assert!(begin(StartSessionRequest { workflow: "other".into(), ..start("order") }).await.unwrap().created);

    worker.append(&first, 1, session_completed(payload::literal("\"one\""))).await.unwrap();
    let ended = begin(start("order")).await.unwrap();
    assert_eq!((ended.created, payload::data(&ended.output.unwrap())), (false, &b"\"one\""[..]));
    assert_eq!(refusal(&begin(other).await.unwrap_err()).code, "key_conflict", "ended or not");
    let second = begin(restart()).await.unwrap();
    let Session { session_id, generation, .. } = second.session.unwrap();
    assert_eq!((second.created, generation), (true, 2));
    assert_ne!(session_id, first);
    assert_eq!(
        begin(start("order")).await.unwrap().session.unwrap().session_id,
        session_id,
        "the key names the newest"
    );
    assert_eq!(client.session(&first).await.status(), SessionStatus::Completed);
    assert!(
        begin(start("")).await.unwrap().created && begin(start("")).await.unwrap().created,
        "no key, no name"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_or_said_goodbye_to_goes_on_at_once() {
    // With the default TTL of 15 s, so that nothing here can come from waiting for it.
    let engine = Engine::start().await;
    let client = engine.client().await;
    let first = Worker::introduce(&client, serving(1)).await;
    let session = queued(&client, "relay").await;
    assert_eq!(first.dispatched().await.epoch, 1);
    let second = Worker::introduce(&client, serving(1)).await;
    let began = Instant::now();
    first.release(&session, 1).await.unwrap();
    assert_eq!(second.dispatched().await.epoch, 2);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());

    let third = Worker::introduce(&client, serving(1)).await;
    let began = Instant::now();
    second.send(Said::Goodbye(Goodbye { nothing_in_flight: true }));
    assert_eq!(third.dispatched().await.epoch, 3);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(second.ended().await.is_none(), "a goodbye ends the stream politely");

    // With something in flight only the TTL says that it is over.
    let fourth = Worker::introduce(&client, serving(1)).await;
    third.send(Said::Goodbye(Goodbye { nothing_in_flight: false }));
    third.ended().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fourth.undelivered(), 0);
    assert_eq!(client.session(&session).await.epoch, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_is_given_to_one_worker_within_its_capacity() {
    const SESSIONS: usize = 60;
    let engine = Engine::start().await;
    let client = engine.client().await;
    let mut waiting = BTreeMap::new();
    for n in 0..SESSIONS {
        waiting.insert(queued(&client, &format!("n-{n}")).await, 0);
    }
    let workers =
        [Worker::introduce(&client, serving(10)).await, Worker::introduce(&client, serving(10)).await];
    let mut done = 0;
    for round in 0..SESSIONS / 20 {
        for worker in &workers {
            for _ in 0..10 {
                let bound = worker.dispatched().await;
                let session = bound.session.unwrap().session_id;
                *waiting.get_mut(&session).expect("one of ours") += 1;
                worker.append(&session, bound.epoch, session_completed(payload::literal("1"))).await.unwrap();
                done += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(
            workers.iter().map(Worker::undelivered).sum::<usize>(),
            0,
            "nobody takes more than it said"
        );
        if round == 0 {
            let left = waiting.iter().find(|(_, times)| **times == 0).expect("some wait").0;
            let why = client.session(left).await.waiting_for;
            assert!(why.contains("free slot"), "{why:?}");
        }
        workers.iter().for_each(|worker| worker.send(Said::Capacity(Capacity { free: 10 })));
    }
    assert_eq!(done, SESSIONS);
    assert!(waiting.values().all(|times| *times == 1), "each was given once: {waiting:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_when_engine_and_worker_die_together() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::introduce(&client, serving(1)).await;
    let session = queued(&client, "both").await;
    worker.dispatched().await;
    worker.append(&session, 1, completed("first", payload::literal("1"))).await.unwrap();
    let waiting = queued(&client, "waiting").await;
    engine.kill();
    drop(worker);
    engine.restart().await;
    let client = engine.client().await;
    let restarted = Instant::now();
    let next = Worker::introduce(&client, serving(2)).await;
    let _alive = next.stay_alive();
    let mut epochs = BTreeMap::new();
    for _ in 0..2 {
        let bound = next.dispatched().await;
        epochs.insert(bound.session.unwrap().session_id, (bound.epoch, restarted.elapsed()));
    }
    assert_eq!((epochs[&session].0, epochs[&waiting].0), (2, 1));
    let waited = epochs[&session].1;
    assert!(
        waited >= engine.lease_ttl() / 2,
        "after a restart every lease gets its TTL, this one {waited:?}"
    );
    assert!(waited < engine.lease_ttl() * 4, "and no more: {waited:?}");
    let replayed = next.events_to(&session, 4).await;
    assert_eq!(
        events::kinds(&replayed),
        ["session_started", "lease_granted", "step_completed", "lease_granted"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_session_holds_no_worker_and_goes_on_when_it_is_resumed() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::introduce(&client, serving(1)).await;
    let session = queued(&client, "paused").await;
    worker.dispatched().await;
    let pause = SessionPaused {
        reason: PauseReason::RetriesExhausted.into(),
        step_key: "mail#1".into(),
        details: Some(payload::failure("refused")),
    };
    worker.append(&session, 1, Op::SessionPaused(pause)).await.unwrap();
    assert_eq!(worker.revoked(&session).await.reason(), RevokeReason::Paused);
    // What has begun may still commit.
    worker.append(&session, 1, completed("begun", payload::literal("1"))).await.unwrap();
    worker.release(&session, 1).await.unwrap();
    let bound = worker.attach(&session, 0).await.unwrap();
    assert_eq!(bound.epoch, 0, "a paused session is shown, not run");
    worker.send(Said::Capacity(Capacity { free: 1 }));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(worker.undelivered(), 0);

    let resume = ResumeSessionRequest { session_id: session.clone(), dedupe_id: vec![5; 16].into() };
    client.operator().resume_session(resume.clone()).await.unwrap();
    let bound = worker.dispatched().await;
    assert_eq!((bound.epoch, bound.session.unwrap().status()), (2, SessionStatus::Running));
    let seq = client.session(&session).await.seq;
    client.operator().resume_session(resume).await.expect("a repeated request was carried out before");
    assert_eq!(client.session(&session).await.seq, seq);
    let anew = ResumeSessionRequest { session_id: session.clone(), dedupe_id: vec![6; 16].into() };
    let refused = client.operator().resume_session(anew).await.unwrap_err();
    assert_eq!(refusal(&refused).code, "session_not_paused");
    worker.append(&session, 2, session_completed(payload::literal("1"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_alone_keeps_a_lease_and_its_lack_loses_it() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("beating").await;
    let other = Worker::connect(&client).await;
    let until = Instant::now() + engine.lease_ttl() * 3;
    while Instant::now() < until {
        assert!(worker.heartbeat().await, "the engine knows this instance");
        assert_eq!(other.attach(&session, 0).await.unwrap_err().code(), "lease_held");
        tokio::time::sleep(engine.lease_ttl() / 4).await;
    }
    assert_eq!(other.take_over(&session).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_starts_the_session_and_one_takes_its_lease() {
    const AT_ONCE: usize = 16;
    let engine = Engine::start().await;
    for round in 0..5 {
        let mut starting = Vec::new();
        for _ in 0..AT_ONCE {
            let client = engine.client().await;
            let request = start(&format!("race-{round}"));
            starting.push(tokio::spawn(async move { client.engine().start_session(request).await }));
        }
        let mut started = Vec::new();
        for start in starting {
            started.push(start.await.unwrap().expect("all are answered").into_inner());
        }
        let created = started.iter().filter(|answer| answer.created).count();
        assert_eq!(created, 1, "one of {AT_ONCE} starts creates the session");
        let id = started[0].session.as_ref().unwrap().session_id.clone();
        assert!(started.iter().all(|answer| answer.session.as_ref().unwrap().session_id == id));

        let mut attaching = Vec::new();
        for _ in 0..AT_ONCE {
            let worker = Worker::connect(&engine.client().await).await;
            let id = id.clone();
            attaching.push(tokio::spawn(async move {
                let bound = worker.attach(&id, 0).await;
                (worker, bound)
            }));
        }
        // Their workers live on, so nobody's lease ends meanwhile.
        let mut answers = Vec::new();
        for attach in attaching {
            answers.push(attach.await.unwrap());
        }
        let granted: Vec<u64> =
            answers.iter().filter_map(|(_, bound)| bound.as_ref().ok()).map(|bound| bound.epoch).collect();
        assert_eq!(granted, [1], "one of {AT_ONCE} gets the lease");
        let refused = answers.iter().filter_map(|(_, bound)| bound.as_ref().err());
        assert!(refused.into_iter().all(|refused| refused.code() == "lease_held"));
    }
    engine.client().await.verify().await;
}
