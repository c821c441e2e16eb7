//! One order per session: replay, live events and answers, large and small.

use cellaflow_proto::v1;
use v1::engine_message::Body as Said;
use v1::event::Body as Happened;
use v1::worker_message::Body as Say;

use super::rig::{self, intent, step, value};
use crate::graph::command::Command;

fn pieces(transfer_id: u64, bytes: &[u8]) -> Vec<Say> {
    let count = bytes.chunks(60_000).count();
    let piece = |(n, data): (usize, &[u8])| {
        Say::Piece(v1::PayloadPiece { transfer_id, data: data.to_vec().into(), last: n + 1 == count })
    };
    bytes.chunks(60_000).enumerate().map(piece).collect()
}

fn transferred(transfer_id: u64, size: usize) -> v1::Payload {
    v1::Payload {
        format: v1::PayloadFormat::Bytes.into(),
        size_bytes: size as u64,
        body: Some(v1::payload::Body::TransferId(transfer_id)),
        ..v1::Payload::default()
    }
}

fn noise(seed: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Appends a step with a large output.
async fn large_step(worker: &mut rig::Worker, id: &str, key: &str, bytes: &[u8]) {
    let request_id = worker.id();
    worker.say_all(pieces(request_id, bytes)).await;
    let op = step(key, transferred(request_id, bytes.len()));
    worker.say(Say::Append(rig::append(request_id, id, 1, op))).await;
    assert_eq!(worker.ack().await.request_id, request_id);
}

/// Puts a replay's pieces together: outputs of its steps, in order.
struct Joined {
    transfers: std::collections::HashMap<u64, Vec<u8>>,
    outputs: Vec<Vec<u8>>,
    seqs: Vec<u64>,
}

impl Joined {
    fn new() -> Self {
        Self { transfers: std::collections::HashMap::new(), outputs: vec![], seqs: vec![] }
    }

    fn take(&mut self, said: Said) {
        match said {
            Said::Piece(piece) => self.transfers.entry(piece.transfer_id).or_default().extend(&piece.data),
            Said::Events(events) => {
                for event in events.events {
                    self.seqs.push(event.seq);
                    if let Some(Happened::StepCompleted(step)) = event.body {
                        self.outputs.push(match step.output.unwrap().body.unwrap() {
                            v1::payload::Body::Data(data) => data.to_vec(),
                            v1::payload::Body::TransferId(id) => self.transfers.remove(&id).unwrap(), // R2
                            v1::payload::Body::Absent(_) => panic!("a replay carries its payloads"),
                        });
                    }
                }
            }
            other => panic!("expected content, got {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_every_size_come_back_byte_equal() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    let sizes = [0, 1, 8_192, 8_193, 60_000, 65_536, 65_537, 300_000];
    let contents: Vec<Vec<u8>> = sizes.iter().map(|size| noise(*size as u8, *size)).collect();
    for (n, content) in contents.iter().enumerate() {
        if content.is_empty() {
            let empty = v1::Payload { format: v1::PayloadFormat::Bytes.into(), ..value(b"") };
            worker.append(&id, 1, step("empty", empty)).await;
            worker.ack().await;
        } else {
            large_step(&mut worker, &id, &n.to_string(), content).await;
        }
    }
    worker.drop_connection();
    let mut back = engine.worker(1, 0).await;
    back.attach(&id, 1, 1).await;
    let to = back.assigned().await.replay_to_seq;
    let mut joined = Joined::new();
    while joined.seqs.last() != Some(&to) {
        joined.take(back.heard().await);
    }
    assert!(joined.outputs == contents, "replayable: byte-equal");
    assert_eq!(joined.seqs, (1..=to).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k3_a_replay_without_credit_stands_still_and_nobody_else_does() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("big").await.session.unwrap().session_id;
    for n in 0..30u8 {
        large_step(&mut worker, &id, &n.to_string(), &noise(n, 100_000)).await;
    }
    worker.drop_connection();
    let mut back = engine.worker(1, 0).await;
    back.attach(&id, 1, 1).await;
    let to = back.assigned().await.replay_to_seq;
    let mut joined = Joined::new();
    let live = back.id();
    back.say(Say::Start(v1::Start { request_id: live, request: Some(rig::start_request("live")) })).await;
    // The replay stops at about the window of 1 MiB; a live session's answers do not.
    let quiet = std::time::Duration::from_millis(400);
    while let Ok(said) = tokio::time::timeout(quiet, back.heard()).await {
        joined.take(said);
    }
    let early = joined.seqs.len();
    assert!(early < 20, "the window holds the replay back, {early} events came");
    // Acks of the session in replay wait behind it (O1); a nack of another one passes.
    back.append(&id, 1, step("new", value(b"1"))).await;
    back.append("00000000-0000-4000-8000-00000000dead", 1, step("x", value(b"1"))).await;
    assert_eq!(back.nack().await.code, "session_not_found");
    back.say(Say::Credit(v1::Credit { bytes: 1 << 20 })).await;
    let mut assigned = None;
    let mut heard = 0;
    let acked = loop {
        match back.heard().await {
            Said::Assigned(live) => assigned = Some(live),
            Said::Ack(ack) => break ack,
            Said::Events(events) if assigned.as_ref().is_some_and(|a| is_of(&events, a)) => {}
            content => joined.take(content),
        }
        heard += 1;
        if heard % 4 == 0 {
            back.say(Say::Credit(v1::Credit { bytes: 1 << 20 })).await;
        }
    };
    assert_eq!(acked.seq, to + 1);
    assert_eq!(joined.seqs, (1..=to).collect::<Vec<_>>(), "R1: no gap, no repetition, the ack after it");
    assert_eq!(assigned.unwrap().request_id, live);
}

fn is_of(events: &v1::Events, assigned: &v1::Assigned) -> bool {
    assigned.session.as_ref().is_some_and(|session| session.session_id == events.session_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_replay_and_live_events_meet_without_gap_or_repetition() {
    const ROUNDS: u64 = 20;
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    for n in 0..ROUNDS {
        worker.append(&id, 1, step(&format!("s{n}"), value(&noise(1, 4_000)))).await;
        worker.ack().await;
        worker.append(&id, 1, intent(&n.to_string(), n * 100 + 1, v1::GuardPolicy::Retry)).await;
        worker.ack().await;
    }
    worker.drop_connection();
    for n in 0..ROUNDS {
        let mut back = engine.worker(1, 0).await;
        engine.clock.advance(if n == 0 { 101 } else { 100 });
        // Somebody else's events happen while the bind is on its way.
        let due =
            Command::IntentDue { session: id.parse().unwrap(), step_key: n.to_string().into(), attempt: 1 };
        let driver = tokio::spawn(engine.submit(due));
        back.attach(&id, 1, 10).await;
        let to = back.assigned().await.replay_to_seq;
        let mut events = back.replayed(to).await;
        while !events.iter().any(|event| resolves(event, n)) {
            events.extend(back.events().await.events);
        }
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (10..10 + seqs.len() as u64).collect::<Vec<_>>(), "round {n}");
        drop(driver.await.unwrap());
        back.drop_connection();
    }
}

fn resolves(event: &v1::Event, n: u64) -> bool {
    matches!(&event.body, Some(Happened::GuardResolved(resolved)) if resolved.step_key == n.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_it_is_durable_and_a_failed_sync_says_nothing() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    engine.gate.hold(crate::storage::faulty::Point::Sync);
    worker.append(&id, 1, step("a", value(b"1"))).await;
    worker.append(&id, 1, step("a", value(b"1"))).await;
    worker.append(&id, 9, step("b", value(b"1"))).await;
    worker.hears_nothing().await;
    engine.gate.release();
    assert!(!worker.ack().await.duplicate);
    assert!(worker.ack().await.duplicate, "durable: a duplicate's reply waits like the first one's");
    assert_eq!(worker.nack().await.code, "fenced");
}
