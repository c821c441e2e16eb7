//! Ends, pauses and resumptions (`graph::end`).

use super::story::*;
use crate::graph::command::{Code, Op};
use crate::graph::event::{GuardPolicy, PauseReason};
use crate::graph::index::DueKind;
use crate::graph::session::{DEDUPE_IDS_MAX, Status};

fn pause() -> Op {
    Op::Pause { reason: PauseReason::Nondeterminism, step_key: Some("a".into()), details: Some(payload(3)) }
}

#[test]
fn terminal_sessions_accept_no_event() {
    let mut story = Story::running();
    story.run(completed("a", 1, 5));
    let seq = story.run(complete(9)).events[0].seq;
    assert_eq!(story.head().status, Status::Completed);
    assert_eq!(story.duplicate(complete(9)), seq); // E1
    story.duplicate(completed("a", 1, 5)); // sent again with it after a lost connection
    assert_eq!(story.run_refused(complete(8)), Code::SessionEnded);
    assert_eq!(story.run_refused(completed("b", 1, 5)), Code::SessionEnded);
    assert_eq!(story.run_refused(pause()), Code::SessionEnded);
    assert_eq!(story.code(story.append(2, complete(9))), Code::SessionEnded);
    assert_eq!(story.code(resume(session(1), None)), Code::SessionEnded);
    assert_eq!(story.ok(release(session(1), 1)).events, []);
}

#[test]
fn an_end_waits_for_open_effects() {
    let mut story = Story::running();
    story.run(intent("m", 1, GuardPolicy::Pause));
    let rejection = story.refused(story.append(1, complete(9))); // E2
    assert_eq!(rejection.code, Code::OpenIntents);
    assert_eq!(rejection.retry_after_ms, Some(ATTEMPT_MS + GRACE_MS));
    story.run(not_applied("m", 1));
    story.run(Op::Fail { failure: payload(4) });
    assert_eq!(story.head().status, Status::Failed);
    let left: Vec<_> = story.model.rows.due.values().map(|due| due.kind).collect();
    assert_eq!(
        left,
        [DueKind::Retention],
        "what becomes due of an ended session is that its keys are dropped"
    );
}

#[test]
fn a_pause_stops_the_end_and_is_said_once() {
    let mut story = Story::running();
    story.run(pause());
    story.duplicate(pause()); // E3
    assert_eq!(story.run_refused(complete(9)), Code::SessionPaused);
    story.ok(resume(session(1), None));
    story.run(complete(9));
}

#[test]
fn resuming_is_done_once_per_request() {
    let mut story = Story::running();
    assert_eq!(story.code(resume(session(1), None)), Code::SessionNotPaused);
    story.run(pause());
    story.ok(resume(session(1), dedupe(1)));
    story.run(pause());
    assert_eq!(story.ok(resume(session(1), dedupe(1))).events, []); // E5
    assert!(matches!(story.head().status, Status::Paused { .. }));
    story.ok(resume(session(1), dedupe(2)));
}

#[test]
fn only_the_last_dedupe_ids_are_kept() {
    let mut story = Story::running();
    for n in 0..=u8::try_from(DEDUPE_IDS_MAX).unwrap() {
        story.run(pause());
        story.ok(resume(session(1), dedupe(n + 1)));
    }
    assert_eq!(story.head().dedupe.len(), DEDUPE_IDS_MAX);
}
