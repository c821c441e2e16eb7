//! Promise: streams, as one subscription sees them (`rpc::subscription`, `graph::stream`).

use super::session::{short, to};
use super::*;
use v1::append::Op;
use v1::subscribe_session_response::Body;

type Stream = tokio_stream::wrappers::ReceiverStream<Result<v1::SubscribeSessionResponse, Status>>;

fn entered(attempt: u32) -> Op {
    Op::ZoneEntered(v1::ZoneEntered { zone_key: "z".into(), name: "z".into(), attempt, ..Default::default() })
}

fn streams(attempt: u32, offset: u64, text: &str) -> Op {
    let data = Bytes::copy_from_slice(text.as_bytes());
    Op::ZoneEvidence(v1::ZoneEvidence { zone_key: "z".into(), attempt, offset, data })
}

fn aborted(attempt: u32) -> Op {
    let reason = v1::RollbackReason::Abort.into();
    Op::ZoneRolledBack(v1::ZoneRolledBack { zone_key: "z".into(), attempt, reason, ..Default::default() })
}

fn committed(attempt: u32) -> Op {
    let format = v1::PayloadFormat::ZoneRecord.into();
    let record = value(b"the record").map(|record| v1::Payload { format, ..record });
    Op::ZoneCommitted(v1::ZoneCommitted { zone_key: "z".into(), attempt, record, ..Default::default() })
}

fn from(session: &str, seq: u64, read: &[(u32, u64)]) -> v1::SubscribeSessionRequest {
    let offset = |&(attempt, byte): &(u32, u64)| v1::TokenOffset { zone_key: "z".into(), attempt, byte };
    let from_tokens = read.iter().map(offset).collect();
    v1::SubscribeSessionRequest { from_seq: seq, tokens: true, from_tokens, ..to(session) }
}

async fn subscribe(world: &World, request: v1::SubscribeSessionRequest) -> Stream {
    world.sessions.subscribe_session(ask(request)).await.unwrap().into_inner()
}

/// The next messages, in short.
async fn next(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let message = tokio::time::timeout(std::time::Duration::from_secs(10), stream.next()).await;
        bodies.push(message.expect("a message").expect("the stream goes on").unwrap().body.unwrap());
    }
    short(&bodies)
}

#[tokio::test]
async fn tokens_arrive_live_and_the_committed_event_ends_them() {
    let world = world();
    let session = world.begin("k").await;
    let mut stream = subscribe(&world, from(&session, 1, &[])).await;
    assert_eq!(next(&mut stream, 3).await, ["event 1", "event 2", "caught up at 2"]);
    world.append(&session, entered(1)).await;
    world.append(&session, streams(1, 0, "Dear ")).await;
    assert_eq!(next(&mut stream, 2).await, ["event 3", "z.1@0 Dear "]); // S1
    world.append(&session, streams(1, 5, "reader")).await;
    assert_eq!(next(&mut stream, 1).await, ["z.1@5 reader"]);
    world.append(&session, committed(1)).await;
    world.complete(&session, b"done").await;
    assert_eq!(next(&mut stream, 3).await, ["event 4", "event 5", "end at 5 SESSION_STATUS_COMPLETED"]);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_subscriber_that_comes_back_gets_the_rest_and_nothing_twice() {
    let world = world();
    let session = world.begin("k").await;
    world.append(&session, entered(1)).await;
    for (offset, text) in [(0, "Dear "), (5, "reader, "), (13, "hello")] {
        world.append(&session, streams(1, offset, text)).await;
    }
    // Wherever it was cut off: within a piece, at its end, at the end of all.
    for (byte, rest) in [
        (0, &["z.1@0 Dear ", "z.1@5 reader, ", "z.1@13 hello"][..]),
        (7, &["z.1@7 ader, ", "z.1@13 hello"][..]),
        (13, &["z.1@13 hello"][..]),
        (18, &[][..]),
    ] {
        let mut stream = subscribe(&world, from(&session, 4, &[(1, byte)])).await;
        assert_eq!(next(&mut stream, rest.len()).await, rest, "from byte {byte}"); // S1
        assert_eq!(next(&mut stream, 1).await, ["caught up at 3"]);
    }
    // A re-sent piece overwrites itself and is not sent again.
    let mut stream = subscribe(&world, from(&session, 4, &[(1, 13)])).await;
    next(&mut stream, 2).await;
    world.append(&session, streams(1, 13, "hello")).await;
    world.append(&session, streams(1, 18, "!")).await;
    assert_eq!(next(&mut stream, 1).await, ["z.1@18 !"]); // S1
}

#[tokio::test]
async fn a_rollback_resets_before_new_bytes_also_for_who_was_away() {
    let world = world();
    let session = world.begin("k").await;
    world.append(&session, entered(1)).await;
    world.append(&session, streams(1, 0, "first")).await;
    let mut there = subscribe(&world, from(&session, 4, &[])).await;
    assert_eq!(next(&mut there, 2).await, ["z.1@0 first", "caught up at 3"]);
    world.append(&session, aborted(1)).await;
    assert_eq!(next(&mut there, 2).await, ["reset z to 2", "event 4"]); // S2
    world.append(&session, entered(2)).await;
    world.append(&session, streams(2, 0, "second")).await;
    assert_eq!(next(&mut there, 2).await, ["event 5", "z.2@0 second"]);
    // It had passed every event, but not the reset.
    let mut away = subscribe(&world, from(&session, 6, &[(1, 5)])).await;
    assert_eq!(next(&mut away, 2).await, ["reset z to 2", "z.2@0 second"]); // S2
    world.append(&session, committed(2)).await;
    let mut late = subscribe(&world, from(&session, 5, &[(1, 5)])).await;
    assert_eq!(next(&mut late, 3).await, ["event 5", "reset z to 2", "event 6"]); // S2
}

#[tokio::test]
async fn without_asking_for_tokens_nobody_is_sent_any() {
    let world = world();
    let session = world.begin("k").await;
    world.append(&session, entered(1)).await;
    world.append(&session, streams(1, 0, "Dear ")).await;
    let request = v1::SubscribeSessionRequest { until_caught_up: true, ..to(&session) };
    let mut stream = subscribe(&world, request.clone()).await;
    let sent = next(&mut stream, 5).await;
    assert_eq!(sent[2..], ["event 3", "caught up at 3", "end at 3 SESSION_STATUS_RUNNING"]);
    let mut stream = subscribe(&world, v1::SubscribeSessionRequest { tokens: true, ..request }).await;
    assert_eq!(next(&mut stream, 6).await[3..5], ["z.1@0 Dear ", "caught up at 3"]);
}

#[tokio::test]
async fn a_silent_subscriber_is_cut_off_and_the_number_of_subscribers_is_bounded() {
    let mut world = world();
    world.sessions.subscribers =
        Subscribers::new(&Limits { subscribers_max: 1, subscriber_stall_ms_max: 100, ..Limits::default() });
    let session = world.begin("k").await;
    for step in 0..32 {
        world.commit(&session, &format!("s{step}"), b"x").await;
    }
    let mut silent = subscribe(&world, to(&session)).await;
    let refused = world.sessions.subscribe_session(ask(to(&session))).await.unwrap_err();
    assert!(refused.message().contains("subscribers_max"), "{refused}");
    // Once it is cut off its place is free, although it is still connected.
    let mut again = loop {
        match world.sessions.subscribe_session(ask(to(&session))).await {
            Ok(stream) => break stream.into_inner(),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    assert_eq!(next(&mut again, 1).await, ["event 1"]);
    // What waited for it is there, and nothing says that this was all.
    let mut got = Vec::new();
    while let Some(message) = silent.next().await {
        got.push(message.unwrap().body.unwrap());
    }
    assert!(got.len() < 16 && !got.iter().any(|body| matches!(body, Body::End(_))), "{:?}", short(&got));
}
