//! Promise: a run waits without a worker (`graph::wait`, `timer`, `signal`, `approval`).

use super::story::*;
use crate::graph::command::{Code, Fires, Op, Reply};
use crate::graph::event::{ApprovalDecision, Body, GuardPolicy, PauseReason};
use crate::graph::ids::{Seq, TimeMs};
use crate::graph::session::{OPEN_BYTES_MAX, OPEN_MAX, SIGNALS_BUFFERED_MAX, Status, StepState};
use crate::graph::wait::WAIT_MS_MAX;

fn paused() -> Op {
    Op::Pause { reason: PauseReason::Nondeterminism, step_key: None, details: None }
}

/// A story whose session waits for a timer of 100 ms, held by nobody.
fn asleep() -> Story {
    let mut story = Story::running();
    story.run(timer("nap", 100));
    release_all(&mut story, 1);
    story
}

fn release_all(story: &mut Story, epoch: u64) {
    let seen = story.head().seq;
    story.ok(release_waiting(story.session, epoch, seen));
}

#[test]
fn a_session_that_only_waits_is_held_by_nobody_until_an_outcome_comes() {
    let mut story = asleep();
    let head = story.head();
    assert_eq!((&head.status, head.holder), (&Status::Waiting, None)); // W3
    let seq = head.waits[0].seq;
    // Nobody can take it.
    let bound = story.ok(acquire(1, lease(B, None), None));
    assert_eq!(bound.reply, Reply::Bound { created: false, epoch: None });
    // Not before its time (M2), whoever says so.
    assert_eq!(story.ok(wait_due(story.session, seq)).events, []);
    story.now = story.now.plus(100);
    let fired = story.ok(wait_due(story.session, seq));
    assert_eq!(bodies(&fired), [Body::TimerFired { step_key: "nap".into() }]);
    assert_eq!(story.head().status, Status::Running); // W3
    assert_eq!(story.ok(wait_due(story.session, seq)).events, [], "once"); // M2
    story.ok(acquire(1, lease(B, None), None));
    assert_eq!(story.head().holder, Some(B));
}

#[test]
fn a_release_is_refused_unless_a_wait_is_all_there_is_and_all_is_seen() {
    let mut story = Story::running();
    let release = |story: &mut Story, seen| story.code(release_waiting(story.session, 1, Seq(seen)));
    assert_eq!(release(&mut story, 2), Code::NotIdle, "nothing is waited for"); // W2
    story.run(timer("nap", 100));
    assert_eq!(release(&mut story, 2), Code::NotIdle, "the run has not seen its own timer");
    story.run(intent("mail", 1, GuardPolicy::Pause));
    assert_eq!(release(&mut story, 4), Code::NotIdle, "an effect is open");
    story.run(guarded("mail", 1, 5));
    story.run(entered("zone", 1));
    assert_eq!(release(&mut story, 6), Code::NotIdle, "a zone is open");
    story.run(committed("zone", 1));
    story.ok(signal(story.session, "answer", None, 1));
    assert_eq!(release(&mut story, 7), Code::NotIdle, "a signal came in between");
    assert_eq!(story.code(release_waiting(story.session, 2, Seq(8))), Code::Fenced);
    release_all(&mut story, 1);
    let again = story.ok(release_waiting(story.session, 1, Seq(8)));
    assert_eq!(again.events, [], "what was asked for is so");
}

#[test]
fn a_wait_is_opened_once_and_answers_with_what_there_is() {
    let mut story = Story::running();
    let seq = story.run(timer("nap", 100)).events[0].seq;
    story.now = story.now.plus(50);
    assert_eq!(story.duplicate(timer("nap", 100)), seq); // W1
    assert_eq!(story.head().waits[0].due, TimeMs(10_100).into()); // M1
    assert_eq!(story.run_refused(awaited("nap", "nap", 0)), Code::StepConflict);
    assert_eq!(story.run_refused(completed("nap", 1, 5)), Code::StepConflict);
    assert_eq!(story.run_refused(entered("nap", 1)), Code::StepConflict);
    story.now = story.now.plus(50);
    story.ok(wait_due(story.session, seq));
    let fired = story.recorded(timer("nap", 100));
    assert_eq!(fired, story.head().seq); // W1
    story.run(completed("step", 1, 5));
    assert_eq!(story.run_refused(timer("step", 5)), Code::StepConflict);
    assert_eq!(story.model.rows.steps[&(story.session, "nap".to_owned())].state, StepState::Completed);
}

#[test]
fn a_timer_of_the_past_is_due_at_once_and_one_of_another_age_is_refused() {
    let mut story = Story::running();
    let at = |at| Op::TimerStarted { step_key: "t".into(), name: "t".into(), fires: Fires::At(TimeMs(at)) };
    assert_eq!(story.run_refused(at(u64::MAX)), Code::InvalidArgument);
    assert_eq!(story.run_refused(timer("t", WAIT_MS_MAX + 1)), Code::InvalidArgument);
    let seq = story.run(at(5)).events[0].seq;
    assert_eq!(story.ok(wait_due(story.session, seq)).events.len(), 1); // M3
}

#[test]
fn a_dropped_wait_gets_nothing_and_an_outcome_that_came_first_stands() {
    let mut story = Story::running();
    let seq = story.run(timer("lost", 100)).events[0].seq;
    let gone = story.run(dropped("lost")).events[0].seq;
    assert_eq!(story.duplicate(dropped("lost")), gone);
    assert_eq!(story.duplicate(timer("lost", 100)), gone, "sent again after a lost answer");
    story.now = story.now.plus(200);
    assert_eq!(story.ok(wait_due(story.session, seq)).events, []); // W6
    let seq = story.run(timer("won", 1)).events[0].seq;
    story.now = story.now.plus(1);
    story.ok(wait_due(story.session, seq));
    assert_eq!(story.duplicate(dropped("won")), story.head().seq);
    assert_eq!(story.run_refused(dropped("nothing")), Code::NotFound);
}

#[test]
fn a_pause_opens_no_wait_and_records_what_comes() {
    let mut story = asleep();
    let seq = story.head().waits[0].seq;
    story.now = story.now.plus(100);
    story.ok(wait_due(story.session, seq));
    story.ok(acquire(1, lease(A, None), None));
    let op = awaited("answer#1", "answer", 100);
    story.ok(story.append(2, op));
    story.ok(story.append(2, paused()));
    assert_eq!(story.code(story.append(2, timer("later", 1))), Code::SessionPaused); // W4
    release_all(&mut story, 2);
    assert!(matches!(story.head().status, Status::Paused { .. }), "a paused session stays paused");
    story.ok(signal(story.session, "answer", None, 1));
    assert!(story.head().waits.is_empty() && matches!(story.head().status, Status::Paused { .. })); // W4
    story.ok(resume(story.session, None));
    assert_eq!(story.head().status, Status::Running);
}

#[test]
fn waits_are_bounded_together_with_what_else_is_open_and_end_with_the_session() {
    let mut story = Story::running();
    for n in 0..OPEN_MAX {
        story.run(timer(&format!("t{n}"), 100));
    }
    assert_eq!(story.run_refused(timer("more", 1)), Code::TooManyOpen); // W5
    assert_eq!(story.run_refused(intent("mail", 1, GuardPolicy::Pause)), Code::TooManyOpen);
    assert_eq!(story.model.rows.due.len(), OPEN_MAX);
    story.run(complete(1));
    assert!(story.head().waits.is_empty() && story.model.rows.due.is_empty()); // W6
    let mut story = Story::running();
    let long = "k".repeat(1000);
    let fits = (0..).take_while(|n| story.submit(story.append(1, timer(&format!("{n}{long}"), 1))).is_ok());
    let fits = fits.count();
    assert!((4..=OPEN_BYTES_MAX / 1004).contains(&fits), "{fits} long keys fit together"); // W5
}

#[test]
fn signals_of_a_name_go_to_its_waits_in_order_and_early_ones_are_kept() {
    let mut story = Story::running();
    let first = story.ok(signal(story.session, "answer", Some("a"), 1)).events[0].seq;
    let second = story.ok(signal(story.session, "answer", Some("b"), 2)).events[0].seq;
    story.ok(signal(story.session, "other", None, 3));
    let delivered = |key: &str, signal| Body::SignalDelivered { step_key: key.into(), signal };
    let met = story.run(awaited("one", "answer", 0));
    assert_eq!(bodies(&met)[1], delivered("one", Some(first))); // S1, S2
    story.run(awaited("two", "answer", 0));
    assert_eq!(story.head().signals, [("other".into(), Seq(5))]);
    assert_eq!(story.run(awaited("three", "answer", 100)).events.len(), 1);
    story.run(awaited("four", "answer", 0));
    let came = story.ok(signal(story.session, "answer", None, 4));
    assert_eq!(bodies(&came)[1], delivered("three", Some(came.events[0].seq))); // S1: the oldest wait
    assert_eq!(second, first.next());
    let seq = story.run(awaited("five", "answer", 100)).events[0].seq;
    story.now = story.now.plus(100);
    assert_eq!(bodies(&story.ok(wait_due(story.session, seq))), [delivered("five", None)]); // S5
}

#[test]
fn a_signal_id_is_received_once_in_the_life_of_its_session() {
    let mut story = Story::running();
    let seq = story.ok(signal(story.session, "answer", Some("a"), 1)).events[0].seq;
    let again = story.ok(signal(story.session, "answer", Some("a"), 1));
    assert!(matches!(again.reply, Reply::Appended { seq: of, duplicate: true, .. } if of == seq)); // S3
    assert_eq!(story.code(signal(story.session, "answer", Some("a"), 2)), Code::SignalConflict);
    assert_eq!(story.code(signal(story.session, "other", Some("a"), 1)), Code::SignalConflict);
    assert_eq!(story.ok(signal(story.session, "answer", None, 1)).events.len(), 1);
    story.run(complete(1));
    assert_eq!(story.ok(signal(story.session, "answer", Some("a"), 1)).events, []); // S3
    assert_eq!(story.code(signal(story.session, "answer", Some("b"), 1)), Code::SessionEnded);
}

#[test]
fn too_many_early_signals_are_refused_until_the_run_takes_some() {
    let mut story = Story::running();
    for _ in 0..SIGNALS_BUFFERED_MAX {
        story.ok(signal(story.session, "n", None, 1));
    }
    let full = story.refused(signal(story.session, "n", None, 1));
    assert!(full.code == Code::SignalsFull && full.retry_after_ms.is_some()); // S4
    story.run(awaited("one", "n", 0));
    story.ok(signal(story.session, "n", None, 1));
    let mut story = Story::running();
    let long = "n".repeat(256);
    let fits = (0..).take_while(|_| story.submit(signal(story.session, &long, None, 1)).is_ok());
    assert_eq!(fits.count(), 8, "names have 2 KiB together"); // S4
    assert_eq!(story.code(signal(story.session, "", None, 1)), Code::InvalidArgument);
}

#[test]
fn an_approval_is_decided_once_in_time_and_for_its_arguments() {
    let mut story = Story::running();
    story.run(asked("pay", 7, 100));
    let decide = |args, id| decide(session(1), "pay", args, dedupe(id));
    assert_eq!(story.code(decide(8, 1)), Code::ApprovalMismatch); // A1
    let decided = story.ok(decide(7, 1));
    let Body::ApprovalDecided(event) = &bodies(&decided)[0] else { panic!("{decided:?}") };
    assert_eq!((event.decision, &*event.by), (ApprovalDecision::Approved, "ada")); // A4
    assert_eq!(story.ok(decide(7, 1)).events, [], "the same one sent again"); // A2
    assert_eq!(story.code(decide(7, 2)), Code::ApprovalDecided); // A2
}

#[test]
fn an_approval_out_of_time_is_expired_before_that_is_journaled() {
    let mut story = Story::running();
    let seq = story.run(asked("pay", 7, 100)).events[0].seq;
    assert_eq!(story.run_refused(asked("pay", 8, 100)), Code::StepConflict);
    story.now = story.now.plus(100);
    let decide = |id| decide(session(1), "pay", 7, dedupe(id));
    assert_eq!(story.code(decide(1)), Code::ApprovalExpired); // A3
    let expired = story.ok(wait_due(story.session, seq));
    let Body::ApprovalDecided(event) = &bodies(&expired)[0] else { panic!("{expired:?}") };
    assert_eq!((event.decision, &*event.by), (ApprovalDecision::Expired, ""));
    assert_eq!(story.code(decide(1)), Code::ApprovalDecided);
    story.run(timer("nap", 5));
    assert_eq!(story.code(super::story::decide(session(1), "nap", 7, None)), Code::InvalidArgument);
    assert_eq!(story.code(super::story::decide(session(1), "none", 7, None)), Code::NotFound);
}
