//! Who runs a session: starts, dispatch, takeover, re-attachment, pause.

use cellaflow_proto::v1;
use v1::engine_message::Body as Said;
use v1::event::Body as Happened;
use v1::worker_message::Body as Say;

use super::rig::{self, TTL_MS, complete, intent, step, value};
use crate::graph::command::{Command, Resolve};
use crate::graph::event::Resolution;

const ONE_BY_ONE: &str = "W1: messages are authorised one by one";

fn kinds(events: &[v1::Event]) -> Vec<&'static str> {
    let kind = |event: &v1::Event| match event.body.as_ref().unwrap() {
        Happened::SessionStarted(_) => "started",
        Happened::LeaseGranted(_) => "granted",
        Happened::LeaseReleased(_) => "released",
        Happened::StepCompleted(_) => "step",
        Happened::SessionPaused(_) => "paused",
        Happened::SessionResumed(_) => "resumed",
        Happened::GuardIntent(_) => "intent",
        Happened::GuardUnknown(_) => "unknown",
        Happened::GuardResolved(_) => "resolved",
        Happened::ZoneEntered(_) => "entered",
        Happened::ZoneRolledBack(_) => "rolled back",
        _ => "other",
    };
    events.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_started_session_runs_to_its_end_here_and_its_key_returns_the_result() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let assigned = worker.start("k").await;
    let session = assigned.session.unwrap();
    assert!(assigned.created && assigned.epoch == 1 && assigned.digest_salt.len() == 32);
    assert_eq!((session.key.as_str(), assigned.replay_to_seq), ("k", 2));
    let first = worker.append(&session.session_id, 1, step("a", value(b"1"))).await;
    let ack = worker.ack().await;
    assert_eq!((ack.request_id, ack.seq, ack.duplicate), (first, 3, false));
    worker.append(&session.session_id, 1, step("a", value(b"1"))).await;
    assert!(worker.ack().await.duplicate, "a re-sent commit is idempotent");
    worker.append(&session.session_id, 1, complete()).await;
    assert_eq!(worker.ack().await.seq, 4);
    let again = worker.start("k").await;
    assert!(!again.created && again.epoch == 0 && again.replay_to_seq == 0);
    assert_eq!(again.output.unwrap().body, value(b"\"done\"").body);
    worker.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_given_to_a_worker_that_comes_and_after_its_goodbye_to_another() {
    let engine = rig::engine().await;
    let id = engine.start_unleased("k").await;
    let mut first = engine.worker(1, 1).await;
    let assigned = first.assigned().await;
    assert_eq!((assigned.request_id, assigned.epoch), (0, 1));
    assert_eq!(kinds(&first.replayed(2).await), ["started", "granted"]);
    first.append(&id, 1, step("a", value(b"1"))).await;
    first.ack().await;
    first.say(Say::Goodbye(v1::Goodbye { nothing_in_flight: true })).await;
    let mut second = engine.worker(2, 1).await;
    let assigned = second.assigned().await;
    assert_eq!((assigned.epoch, assigned.replay_to_seq), (2, 4));
    assert_eq!(kinds(&second.replayed(4).await), ["started", "granted", "step", "granted"]);
    assert!(matches!(first.heard_or_end().await, Err(None)), "a goodbye ends the stream without an error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w5_a_lost_connection_is_no_death_the_ttl_is_and_the_loser_is_fenced() {
    let engine = rig::engine().await;
    let id = engine.start_unleased("k").await;
    let mut loser = engine.worker(1, 1).await;
    loser.assigned().await;
    loser.replayed(2).await;
    let zone =
        v1::ZoneEntered { zone_key: "z".into(), name: "z".into(), attempt: 1, input_digest: vec![].into() };
    loser.append(&id, 1, v1::append::Op::ZoneEntered(zone)).await;
    loser.ack().await;
    loser.drop_connection();
    let mut other = engine.worker(2, 1).await;
    engine.pass(TTL_MS - 500).await;
    other.hears_nothing().await;
    // Only the silent one's time runs out.
    other.say(Say::Capacity(v1::Capacity { free: 1 })).await;
    engine.pass(600).await;
    let assigned = other.assigned().await;
    assert_eq!(assigned.epoch, 2);
    assert_eq!(
        kinds(&other.replayed(assigned.replay_to_seq).await),
        ["started", "granted", "entered", "granted", "rolled back"]
    );
    let mut back = engine.worker(1, 0).await;
    back.attach(&id, 1, 4).await;
    assert_eq!(back.nack().await.code, "fenced");
    back.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(back.nack().await.code, "fenced");
    other.append(&id, 2, step("a", value(b"1"))).await;
    other.ack().await;
}

/// Once a worker whose connection broke before it heard of an assignment kept the lease for ever: it renewed what it did
/// not know of, so nobody else got the session and nobody ran it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_its_holder_was_never_told_of_is_given_anew() {
    let engine = rig::engine().await;
    let told = engine.start_unleased("told").await;
    let mut deaf = engine.worker(1, 2).await;
    deaf.assigned().await;
    deaf.replayed(2).await;
    engine.start_unleased("untold").await;
    // The assignment is on its way, and is not read.
    engine.pass(0).await;
    deaf.drop_connection();
    let mut back = engine.worker(1, 2).await;
    back.attach(&told, 1, 3).await;
    assert_eq!(back.assigned().await.epoch, 1);
    engine.pass(TTL_MS - 100).await;
    back.say(Say::Capacity(v1::Capacity { free: 1 })).await;
    back.hears_nothing().await;
    engine.pass(100).await;
    let assigned = back.assigned().await; // S4
    assert_eq!((assigned.session.unwrap().key.as_str(), assigned.epoch), ("untold", 2));
    back.replayed(assigned.replay_to_seq).await;
    // What it has attached to stays as it is.
    back.append(&told, 1, step("a", value(b"1"))).await;
    assert_eq!(back.ack().await.seq, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_tells_a_loser_that_is_still_connected() {
    let engine = rig::engine().await;
    let id = engine.start_unleased("k").await;
    let mut loser = engine.worker(1, 1).await;
    loser.assigned().await;
    loser.replayed(2).await;
    let mut other = engine.worker(2, 1).await;
    // Both are silent for the TTL, the other one speaks then.
    engine.clock.advance(TTL_MS);
    other.say(Say::Capacity(v1::Capacity { free: 1 })).await;
    assert_eq!(other.assigned().await.epoch, 2);
    assert_eq!(loser.revoked().await, (1, v1::RevokeReason::Fenced));
    loser.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(loser.nack().await.code, "fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_worker_does_not_get_its_own_sessions_anew() {
    let engine = rig::engine().await;
    let id = engine.start_unleased("k").await;
    let mut worker = engine.worker(1, 5).await;
    worker.assigned().await;
    worker.replayed(2).await;
    engine.pass(TTL_MS).await;
    worker.hears_nothing().await;
    worker.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(worker.ack().await.seq, 3, "expiry alone fences nobody");
    engine.pass(TTL_MS / 2).await;
    worker.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_back_goes_on_at_its_epoch_from_what_it_lacks() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
        worker.append(&id, 1, step(key, value(b"1"))).await;
        assert_eq!(worker.ack().await.seq, 3 + n as u64);
    }
    worker.drop_connection();
    let mut back = engine.worker(1, 0).await;
    back.attach(&id, 1, 4).await;
    let assigned = back.assigned().await;
    assert_eq!((assigned.epoch, assigned.replay_to_seq), (1, 5));
    let seqs: Vec<u64> = back.replayed(5).await.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [4, 5], "R1, and nothing was appended: the lease simply goes on");
    back.attach(&id, 1, 6).await;
    assert_eq!(back.assigned().await.replay_to_seq, 5);
    back.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_lease_is_never_taken_and_another_version_gets_none() {
    let engine = rig::engine().await;
    let mut holder = engine.worker(1, 0).await;
    let id = holder.start("k").await.session.unwrap().session_id;
    let mut other = engine.worker(2, 0).await;
    other.attach(&id, 0, 1).await;
    let refusal = other.nack().await;
    assert_eq!((refusal.code.as_str(), refusal.retryable), ("lease_held", true));
    let request_id = other.id();
    other.say(Say::Start(v1::Start { request_id, request: Some(rig::start_request("k")) })).await;
    assert_eq!(other.nack().await.code, "lease_held");
    holder
        .say(Say::Release(v1::Release {
            request_id: 99,
            session_id: id.clone(),
            epoch: 1,
            reason: 2,
            seen_seq: 0,
        }))
        .await;
    holder.ack().await;
    let attach =
        v1::Attach { request_id: 7, session_id: id, epoch: 0, from_seq: 0, version: "2".into(), look: false };
    other.say(Say::Attach(attach)).await;
    assert_eq!(other.nack().await.code, "version_mismatch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_without_outcome_pauses_its_session_and_a_resume_gives_it_back() {
    let engine = rig::engine().await;
    let id = engine.start_unleased("k").await;
    let mut worker = engine.worker(1, 1).await;
    worker.assigned().await;
    worker.replayed(2).await;
    worker.append(&id, 1, intent("mail", 200, v1::GuardPolicy::Pause)).await;
    assert_eq!(worker.ack().await.seq, 3);
    engine.pass(250).await;
    worker.hears_nothing().await;
    engine.pass(50).await;
    assert_eq!(kinds(&worker.replayed(5).await), ["unknown", "paused"]);
    assert_eq!(worker.revoked().await, (1, v1::RevokeReason::Paused));
    worker.append(&id, 1, complete()).await;
    assert_eq!(worker.nack().await.code, "session_paused");
    worker
        .say(Say::Release(v1::Release {
            request_id: 50,
            session_id: id.clone(),
            epoch: 1,
            reason: 2,
            seen_seq: 0,
        }))
        .await;
    worker.ack().await;
    worker.say(Say::Capacity(v1::Capacity { free: 1 })).await;
    worker.hears_nothing().await;
    let session = id.parse().unwrap();
    let resolve = Resolve {
        session,
        step_key: "mail".into(),
        resolution: Resolution::NotApplied(None),
        by: "ops".into(),
        dedupe: None,
        resume: true,
    };
    engine.submit(Command::Resolve(resolve)).await.unwrap();
    let assigned = worker.assigned().await;
    assert_eq!((assigned.request_id, assigned.epoch), (0, 2));
    let events = worker.replayed(assigned.replay_to_seq).await;
    assert_eq!(
        kinds(&events),
        ["started", "granted", "intent", "unknown", "paused", "released", "resolved", "resumed", "granted"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_another_namespaces_session_does_not_exist_and_the_stream_goes_on() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    let mut stranger = engine.connect("worker other").await;
    stranger.say(Say::Hello(rig::hello(2, 5))).await;
    assert!(matches!(stranger.heard().await, Said::Welcome(_)));
    stranger.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(stranger.nack().await.code, "session_not_found", "{ONE_BY_ONE}");
    stranger.attach(&id, 0, 1).await;
    assert_eq!(stranger.nack().await.code, "session_not_found", "{ONE_BY_ONE}");
    stranger
        .say(Say::Release(v1::Release { request_id: 9, session_id: id, epoch: 1, reason: 1, seen_seq: 0 }))
        .await;
    assert_eq!(stranger.nack().await.code, "session_not_found", "{ONE_BY_ONE}");
    assert!(stranger.start("k").await.created, "the same key in another namespace is another session");
    engine.start_unleased("k2").await;
    stranger.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_runs_what_it_starts_and_gets_nothing_by_dispatch() {
    let engine = rig::engine().await;
    let mut client = engine.connect("client team").await;
    client.say(Say::Hello(rig::hello(1, 5))).await;
    assert!(matches!(client.heard().await, Said::Welcome(_)));
    engine.start_unleased("k").await;
    client.hears_nothing().await;
    let id = client.start("own").await.session.unwrap().session_id;
    client.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(client.ack().await.seq, 3);
}
