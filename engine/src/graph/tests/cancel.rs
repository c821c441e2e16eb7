//! Promise: cancellation runs down the tree and cleanup still runs (C1 to C5).

use super::story::*;
use crate::graph::command::{Code, Command, Op};
use crate::graph::event::{Author, Body, GuardPolicy, PauseReason, SessionCancelled};
use crate::graph::ids::DedupeId;
use crate::graph::session::{REASON_BYTES_MAX, Status};

fn asked(story: &Story) -> Command {
    Command::Cancel(cancel(story.session, None))
}

fn terminated(story: &Story) -> Command {
    Command::Terminate(cancel(story.session, None))
}

fn cancelled() -> Op {
    Op::Cancelled { reason: "cleaned up".into() }
}

fn end(story: &Story) -> SessionCancelled {
    match story.model.log(story.session).last().map(|event| event.body.clone()) {
        Some(Body::SessionCancelled(end)) => end,
        other => panic!("not cancelled: {other:?}"),
    }
}

#[test]
fn c1_a_session_that_never_ran_ends_at_once() {
    let mut story = Story::new();
    story.ok(start(1, None));
    story.ok(asked(&story));
    assert_eq!(story.head().status, Status::Cancelled);
    assert!(!end(&story).terminated);
    let mut paused = Story::new();
    paused.ok(start(1, None));
    paused.ok(pause(paused.session, None));
    paused.ok(asked(&paused));
    assert_eq!(paused.head().status, Status::Cancelled);
}

#[test]
fn c1_a_paused_session_is_woken_to_clean_up() {
    let mut story = Story::running();
    story.run(Op::Pause { reason: PauseReason::RetriesExhausted, step_key: None, details: None });
    story.ok(release(story.session, 1));
    story.ok(asked(&story));
    assert_eq!(story.head().status, Status::Running);
    story.ok(acquire(1, lease(B, None), None));
    story.ok(append(story.session, 2, completed("undo", 1, 3)));
    story.ok(append(story.session, 2, cancelled()));
    assert_eq!(story.head().status, Status::Cancelled);
}

#[test]
fn c2_once_asked_a_session_ends_as_cancelled_only() {
    let mut story = Story::running();
    assert_eq!(story.run_refused(cancelled()), Code::InvalidArgument, "nobody asked");
    story.ok(asked(&story));
    for op in [complete(1), Op::Fail { failure: payload(2) }, continue_as(9, 3)] {
        assert_eq!(story.run_refused(op), Code::CancelRequested);
    }
    story.run(intent("undo", 1, GuardPolicy::Pause));
    story.run(guarded("undo", 1, 4));
    story.run(entered("zone", 1));
    let decision = story.run(cancelled());
    assert!(matches!(&bodies(&decision)[..], [Body::ZoneRolledBack(_), Body::SessionCancelled(_)]));
    assert_eq!(story.duplicate(cancelled()), story.head().seq);
}

#[test]
fn c2_an_end_that_was_committed_before_stands() {
    let mut story = Story::running();
    story.run(complete(1));
    assert_eq!(story.code(asked(&story)), Code::SessionEnded);
    assert_eq!(story.code(terminated(&story)), Code::SessionEnded);
    assert_eq!(story.head().status, Status::Completed);
}

#[test]
fn c3_asking_again_changes_nothing_unless_the_session_was_paused_since() {
    let mut story = Story::running();
    story.ok(asked(&story));
    assert_eq!(story.ok(asked(&story)).events, []);
    let first = story.head().cancel_requested;
    story.ok(pause(story.session, None));
    story.ok(asked(&story));
    assert_eq!((story.head().status.clone(), story.head().cancel_requested), (Status::Running, first));
    let named = || Command::Cancel(cancel(session(1), Some(DedupeId([4; 16]))));
    story.ok(pause(story.session, None));
    story.ok(named());
    assert_eq!(story.ok(named()).events, [], "the same request");
}

#[test]
fn c4_effects_that_may_still_report_are_waited_for_and_unknown_ones_are_named() {
    let mut story = Story::running();
    story.run(intent("mail", 1, GuardPolicy::Pause));
    story.ok(asked(&story));
    let waits = story.refused(append(story.session, 1, cancelled()));
    assert_eq!((waits.code, waits.retry_after_ms), (Code::OpenIntents, Some(ATTEMPT_MS + GRACE_MS)));
    story.until_due("mail");
    let decision = story.intent_due("mail", 1);
    assert!(matches!(&bodies(&decision)[..], [Body::GuardUnknown { .. }]), "it pauses nothing any more");
    story.run(cancelled());
    assert_eq!(end(&story).unknown, ["mail".into()]);
}

#[test]
fn c4_a_session_paused_for_an_unknown_effect_can_be_cancelled() {
    let mut story = Story::running();
    story.run(intent("mail", 1, GuardPolicy::Pause));
    story.until_due("mail");
    story.intent_due("mail", 1);
    assert!(matches!(story.head().status, Status::Paused { .. }));
    story.ok(asked(&story));
    story.run(cancelled());
    assert_eq!(end(&story).unknown, ["mail".into()]);
}

#[test]
fn c5_terminating_ends_at_once_whatever_is_open() {
    let mut story = Story::running();
    story.run(intent("mail", 1, GuardPolicy::Pause));
    story.run(intent("may retry", 1, GuardPolicy::Pause));
    story.run(not_applied("may retry", 1));
    story.run(entered("zone", 1));
    let by = Command::Terminate(cancel(story.session, Some(DedupeId([4; 16]))));
    story.ok(by.clone());
    let head = story.head();
    assert_eq!((head.status.clone(), head.holder), (Status::Cancelled, None));
    let end = end(&story);
    assert_eq!((end.terminated, &*end.by, end.unknown), (true, "ada", vec!["mail".into()]));
    assert_eq!(story.ok(by).events, [], "the same request");
    assert_eq!(story.code(append(story.session, 1, completed("late", 1, 1))), Code::SessionEnded);
}

#[test]
fn e3_a_pause_on_request_is_one_event_and_stops_what_is_new() {
    let mut story = Story::running();
    story.ok(pause(story.session, None));
    assert_eq!(story.ok(pause(story.session, None)).events, []);
    assert_eq!(story.run_refused(intent("mail", 1, GuardPolicy::Pause)), Code::SessionPaused);
    story.run(completed("begun", 1, 1));
    story.ok(resume(story.session, None));
    story.run(intent("mail", 1, GuardPolicy::Pause));
    assert_eq!(story.code(resume(story.session, None)), Code::SessionNotPaused);
}

#[test]
fn a_reason_is_short_and_a_system_session_has_no_end() {
    let mut story = Story::running();
    let reason = "r".repeat(REASON_BYTES_MAX + 1).into();
    let long = crate::graph::command::Cancel { reason, ..cancel(story.session, None) };
    assert_eq!(story.code(Command::Cancel(long)), Code::InvalidArgument);
    let mut story = Story::new();
    story.ok(system(1));
    let by_driver = crate::graph::command::Cancel { author: Author::Driver, ..cancel(story.session, None) };
    assert_eq!(story.code(Command::Terminate(by_driver)), Code::InvalidArgument);
    assert_eq!(story.code(pause(story.session, None)), Code::InvalidArgument);
}
