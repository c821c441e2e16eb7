//! What ends a stream and what does not; drain.

use cellaflow_proto::v1;
use tonic::Code;
use v1::engine_message::Body as Said;
use v1::worker_message::Body as Say;

use super::rig::{self, step, value};

async fn ended(worker: &mut rig::Worker) -> Option<Code> {
    loop {
        match worker.heard_or_end().await {
            Ok(_) => {}
            Err(status) => return status.map(|status| status.code()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_the_first_message_is_hello_and_it_is_said_once() {
    let engine = rig::engine().await;
    let mut rude = engine.connect("worker team").await;
    rude.append("x", 1, step("a", value(b"1"))).await;
    assert_eq!(ended(&mut rude).await, Some(Code::FailedPrecondition));
    let mut twice = engine.worker(1, 0).await;
    twice.say(Say::Hello(rig::hello(1, 0))).await;
    assert_eq!(ended(&mut twice).await, Some(Code::FailedPrecondition));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_a_token_that_expires_ends_the_stream() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    engine.clock.jump_wall(rig::WALL_MS + 3_600_000);
    worker.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(ended(&mut worker).await, Some(Code::Unauthenticated));
    let head = engine.ledger.reader().head(id.parse().unwrap()).unwrap().unwrap();
    assert_eq!(head.seq.0, 2, "nothing was appended with the expired token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_malformed_requests_are_refused_one_by_one() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    worker.append("not a session", 1, step("a", value(b"1"))).await;
    assert_eq!(worker.nack().await.code, "invalid_argument");
    worker.append(&id, 1, step("", value(b"1"))).await;
    assert_eq!(worker.nack().await.code, "invalid_argument");
    worker
        .say(Say::Append(v1::Append {
            request_id: 77,
            session_id: id.clone(),
            epoch: 1,
            ..v1::Append::default()
        }))
        .await;
    assert_eq!(worker.nack().await.code, "invalid_argument");
    worker.say(Say::Start(v1::Start { request_id: 78, request: None })).await;
    assert_eq!(worker.nack().await.code, "invalid_argument");
    worker.append(&id, 1, step("a", value(b"1"))).await;
    assert_eq!(worker.ack().await.seq, 3, "the stream goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_channel_of_an_instance_replaces_the_first() {
    let engine = rig::engine().await;
    let mut first = engine.worker(1, 1).await;
    let mut second = engine.worker(1, 1).await;
    assert_eq!(ended(&mut first).await, Some(Code::Aborted));
    engine.start_unleased("k").await;
    assert_eq!(second.assigned().await.epoch, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_announced_and_the_stream_ends_when_all_is_answered() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 1).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    engine.gate.hold(crate::storage::faulty::Point::Sync);
    let asked = worker.append(&id, 1, step("a", value(b"1"))).await;
    // The append has reached the ledger once its commit is held.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    engine.dispatch.drain(5_000);
    let Said::Draining(draining) = worker.heard().await else { panic!("no Draining") };
    assert_eq!(draining.grace_ms, 5_000);
    engine.gate.release();
    assert_eq!(worker.ack().await.request_id, asked);
    assert!(matches!(worker.heard_or_end().await, Err(None)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_sending_still_gets_its_answers() {
    let engine = rig::engine().await;
    let mut worker = engine.worker(1, 0).await;
    let id = worker.start("k").await.session.unwrap().session_id;
    engine.gate.hold(crate::storage::faulty::Point::Sync);
    let asked = worker.append(&id, 1, step("a", value(b"1"))).await;
    worker.close_sending();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    engine.gate.release();
    assert_eq!(worker.ack().await.request_id, asked);
    assert!(matches!(worker.heard_or_end().await, Err(None)));
}
