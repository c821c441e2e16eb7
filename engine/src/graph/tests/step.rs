//! Promise: replayable (`graph::step`).

use super::story::*;
use crate::graph::command::{Append, Code, Command, Op};
use crate::graph::event::{After, GuardPolicy, PauseReason, StepCompleted};
use crate::graph::ids::{Epoch, Seq, TimeMs};

#[test]
fn the_same_outcome_again_is_a_duplicate_and_another_one_a_conflict() {
    let mut story = Story::running();
    let first = story.run(completed("a", 1, 5)).events[0].seq;
    assert_eq!(story.duplicate(completed("a", 1, 5)), first); // P1
    assert_eq!(story.run_refused(completed("a", 1, 6)), Code::StepConflict);
    assert_eq!(story.run_refused(completed("a", 2, 5)), Code::StepConflict);
    assert_eq!(story.run_refused(failed("a", 2, true)), Code::StepConflict);
}

#[test]
fn attempts_are_counted_without_gaps_over_workers() {
    let mut story = Story::running();
    assert_eq!(story.run_refused(completed("a", 2, 5)), Code::StepConflict); // P2
    story.run(failed("a", 1, false));
    assert_eq!(story.run_refused(completed("a", 1, 5)), Code::StepConflict);
    story.ok(acquire(1, lease(B, Some(A)), None));
    assert_eq!(story.code(story.append(2, completed("a", 1, 5))), Code::StepConflict);
    story.ok(story.append(2, completed("a", 2, 5)));
}

/// After an engine crash the run sends again what was not acknowledged: the failure and the retry that followed it.
#[test]
fn a_failed_attempt_sent_again_after_its_retry_is_a_duplicate() {
    let mut story = Story::running();
    story.run(failed("a", 1, false));
    let last = story.run(completed("a", 2, 5)).events[0].seq;
    assert_eq!(story.duplicate(failed("a", 1, false)), last); // P1
    assert_eq!(story.duplicate(completed("a", 2, 5)), last);
}

#[test]
fn a_retry_with_another_input_is_a_conflict() {
    let mut story = Story::running();
    story.run(failed("a", 1, false));
    let other = Op::StepCompleted(StepCompleted { input_digest: Some(digest(78)), ..step("a", 2, 5) });
    assert_eq!(story.run_refused(other), Code::StepConflict);
}

#[test]
fn what_has_begun_commits_while_paused() {
    let mut story = Story::running();
    story.run(Op::Pause { reason: PauseReason::Nondeterminism, step_key: None, details: None });
    story.run(completed("a", 1, 5)); // P4
    story.run(failed("b", 1, false));
}

#[test]
fn an_append_keeps_what_the_run_had_seen_and_written() {
    let mut story = Story::running();
    let sent = Append {
        session: story.session,
        epoch: Epoch(1),
        after: Some(After { seq: Seq(2), requests: 4 }),
        state_delta: Some(payload(30)),
        conversation_delta: Some(payload(31)),
        op: completed("a", 1, 5),
    };
    let event = story.ok(Command::Append(sent.clone())).events.remove(0);
    assert_eq!(event.after, sent.after);
    assert_eq!(event.payloads(), [&payload(30), &payload(31), &payload(5)]);
    let ahead = Append { after: Some(After { seq: Seq(99), requests: 4 }), op: completed("b", 1, 5), ..sent };
    assert_eq!(story.code(Command::Append(ahead)), Code::InvalidArgument);
}

#[test]
fn ledger_time_never_goes_back() {
    let mut story = Story::running();
    let before = story.head().time;
    story.now = TimeMs(1);
    assert_eq!(story.run(completed("a", 1, 5)).events[0].time, before); // D4
}

#[test]
fn keys_are_bounded_and_not_empty() {
    let mut story = Story::running();
    assert_eq!(story.run_refused(completed("", 1, 5)), Code::InvalidArgument);
    let long = "k".repeat(1025);
    assert_eq!(story.run_refused(completed(&long, 1, 5)), Code::InvalidArgument);
    story.run(completed(long.strip_prefix("k").unwrap(), 1, 5));
}

/// P5: what a later attempt starts from; a heartbeat that comes after its attempt was over is dropped without an error,
/// because the worker that sent it cannot know.
#[test]
fn a_heartbeat_belongs_to_the_attempt_under_way() {
    let mut story = Story::running();
    assert_eq!(story.run(heartbeat("a", 1)).events.len(), 1);
    story.run(failed("a", 1, false));
    assert_eq!(story.run(heartbeat("a", 1)).events.len(), 0, "the attempt is over");
    assert_eq!(story.run(heartbeat("a", 2)).events.len(), 1);
    story.run(completed("a", 2, 5));
    assert_eq!(story.run(heartbeat("a", 2)).events.len(), 0, "the step has its outcome");
    story.run(intent("m", 1, GuardPolicy::Pause));
    assert_eq!(story.run_refused(heartbeat("m", 1)), Code::StepConflict, "a guarded step has none");
}
