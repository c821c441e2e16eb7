use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

const A: SessionId = SessionId([1; 16]);
const B: SessionId = SessionId([2; 16]);

fn ack(request_id: u64) -> Out {
    Out::Ack { request_id, seq: Seq(request_id), time: TimeMs(0), duplicate: false }
}

fn id(out: &Out) -> u64 {
    match out {
        Out::Ack { request_id, .. } => *request_id,
        Out::Other(_) => 0,
    }
}

fn outbox() -> Outbox {
    let outbox = Outbox::new(1_000);
    for _ in 0..8 {
        outbox.asked(10).unwrap();
    }
    outbox
}

fn ready(outbox: &Outbox) -> Vec<u64> {
    outbox.take(100).ready.iter().map(|(out, _)| id(out)).collect()
}

fn lane(outbox: &Outbox, session: SessionId) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next_of(session))
        .map(|item| match item {
            Item::Out { out, .. } => id(&out),
            Item::Recorded { request_id, .. } => request_id,
            Item::Bound { .. } | Item::Events(_) => 99,
        })
        .collect()
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn o1_what_follows_something_large_waits_in_its_lane_and_others_pass_by() {
    let outbox = outbox();
    outbox.answer(Some(A), ack(1), 0);
    outbox.answer_recorded(A, 2, Seq(2), 0);
    outbox.answer(Some(A), ack(3), 0);
    outbox.answer(Some(B), ack(4), 0);
    let taken = outbox.take(100);
    assert_eq!(taken.ready.iter().map(|(out, _)| id(out)).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(taken.fresh, [A]);
    assert_eq!(lane(&outbox, A), [2, 3]);
    outbox.answer(Some(A), ack(5), 0);
    assert_eq!(ready(&outbox), [5], "the lane is gone");
}

#[test]
fn o1_an_emptied_lane_still_holds_the_session_until_the_stream_has_sent_its_item() {
    let outbox = outbox();
    outbox.answer_recorded(A, 1, Seq(1), 0);
    assert!(outbox.next_of(A).is_some());
    outbox.answer(Some(A), ack(2), 0);
    assert_eq!(ready(&outbox), [] as [u64; 0]);
    assert_eq!(lane(&outbox, A), [2]);
}

#[test]
fn o2_a_fence_overtakes_and_leaves_only_answers() {
    let outbox = outbox();
    outbox.events(A, &Arc::from(Vec::new()));
    outbox.answer(Some(A), ack(1), 0);
    outbox.events(A, &Arc::from(Vec::new()));
    outbox.revoked(A, Epoch(3), Revocation::Fenced);
    assert!(outbox.is_cut(A));
    let taken = outbox.take(100);
    assert!(matches!(&taken.ready[..], [(Out::Other(body), 0)] if matches!(**body, Body::Revoked(_))));
    assert_eq!(lane(&outbox, A), [1]);
    outbox.events(B, &Arc::from(Vec::new()));
    outbox.revoked(B, Epoch(1), Revocation::Paused);
    assert!(outbox.take(100).ready.is_empty(), "a pause keeps its place behind the events");
    assert!(!outbox.is_cut(B));
}

#[test]
fn o3_a_finishing_stream_ends_after_the_last_answer_and_an_aborted_one_at_once() {
    let outbox = Outbox::new(1_000);
    let waker = Waker::from(Arc::new(Bell::default()));
    outbox.asked(10).unwrap();
    outbox.finish(None);
    assert!(outbox.wait(&waker, false).is_none());
    outbox.answer(Some(A), ack(1), 10);
    assert!(matches!(outbox.wait(&waker, false), Some(Next::Open)));
    assert_eq!(ready(&outbox), [1]);
    assert!(outbox.wait(&waker, true).is_none(), "a lane is still to be sent");
    assert!(matches!(outbox.wait(&waker, false), Some(Next::Ended(None))));

    let outbox = Outbox::new(1_000);
    outbox.asked(10).unwrap();
    outbox.answer(Some(A), ack(1), 10);
    outbox.abort(Status::unavailable("unknown outcome"));
    assert!(matches!(outbox.wait(&waker, false), Some(Next::Ended(Some(_)))));
}

#[test]
fn o3_a_drain_says_so_and_waits_for_answers_but_not_for_replays() {
    let outbox = Outbox::new(1_000);
    let waker = Waker::from(Arc::new(Bell::default()));
    outbox.asked(10).unwrap();
    outbox.draining(500);
    assert!(outbox.is_ending());
    assert!(matches!(outbox.wait(&waker, true), Some(Next::Open)));
    outbox.take(100);
    assert!(outbox.wait(&waker, true).is_none());
    outbox.answer(Some(A), ack(1), 10);
    assert_eq!(ready(&outbox), [1]);
    assert!(matches!(outbox.wait(&waker, true), Some(Next::Ended(None))));
}

#[test]
fn o4_credit_comes_back_with_the_answer_wherever_it_waited() {
    let outbox = Outbox::new(100);
    outbox.asked(150).unwrap();
    assert!(outbox.asked(100).is_err(), "K1");
    outbox.answer_recorded(A, 1, Seq(1), 150);
    outbox.answer(Some(A), ack(2), 100);
    assert!(outbox.asked(10).is_err());
    assert_eq!(lane(&outbox, A), [1, 2]);
    assert!(outbox.asked(10).is_ok());
}

#[test]
fn whatever_comes_wakes_the_stream_once_and_nothing_is_missed() {
    let outbox = outbox();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert!(outbox.wait(&waker, false).is_none());
    outbox.granted(5);
    outbox.granted(6);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert!(matches!(outbox.wait(&waker, false), Some(Next::Open)));
    assert_eq!(outbox.take(100).granted, 11);
    outbox.released(7);
    assert!(matches!(outbox.wait(&waker, false), Some(Next::Open)));
}
