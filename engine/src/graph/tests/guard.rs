//! Promise: at most once (`graph::guard`).

use super::story::*;
use crate::graph::command::{Code, Finding, Op, Reply, Resolve};
use crate::graph::event::{Body, GuardPolicy, PauseReason, Resolution, UnknownReason};
use crate::graph::session::{IntentState, OPEN_BYTES_MAX, OPEN_MAX, Status};

fn open(policy: GuardPolicy) -> Story {
    let mut story = Story::running();
    story.run(intent("m", 1, policy));
    story
}

fn due_with(policy: GuardPolicy) -> Story {
    let mut story = open(policy);
    story.until_due("m");
    story.intent_due("m", 1);
    story
}

fn paused_for_m() -> Status {
    Status::Paused { reason: PauseReason::EffectUnknown, step_key: Some("m".into()) }
}

#[test]
fn an_open_intent_admits_no_second_attempt() {
    let mut story = open(GuardPolicy::Pause);
    assert_eq!(story.run_refused(intent("m", 2, GuardPolicy::Pause)), Code::GuardUnresolved); // G1
    story.run(unknown("m", 1));
    assert_eq!(story.run_refused(intent("m", 1, GuardPolicy::Pause)), Code::GuardUnresolved);
    assert_eq!(story.run_refused(intent("m", 2, GuardPolicy::Pause)), Code::GuardUnresolved);
}

#[test]
fn a_takeover_does_not_admit_a_second_attempt() {
    let mut story = open(GuardPolicy::Pause);
    story.ok(acquire(1, lease(B, Some(A)), None));
    let again = story.append(2, intent("m", 1, GuardPolicy::Pause));
    let rejection = story.refused(again); // G1
    assert_eq!(rejection.code, Code::GuardUnresolved);
    assert!(rejection.retry_after_ms >= Some(ATTEMPT_MS + GRACE_MS));
}

#[test]
fn an_intent_sent_again_by_its_run_is_a_duplicate() {
    let mut story = open(GuardPolicy::Pause);
    let seq = story.head().intents[0].seq;
    assert_eq!(story.duplicate(intent("m", 1, GuardPolicy::Pause)), seq);
}

#[test]
fn an_intent_of_a_step_with_an_outcome_gets_the_outcome() {
    let mut story = open(GuardPolicy::Pause);
    let seq = story.run(guarded("m", 1, 5)).events[0].seq;
    assert_eq!(story.recorded(intent("m", 1, GuardPolicy::Pause)), seq);
    assert_eq!(story.duplicate(guarded("m", 1, 5)), seq);
    assert!(story.head().intents.is_empty());
}

#[test]
fn a_key_with_another_input_is_refused() {
    let mut story = Story::running();
    story.run(intent_with("m", 1, GuardPolicy::Pause, 40, 77));
    story.run(not_applied("m", 1));
    let other_input = intent_with("m", 2, GuardPolicy::Pause, 40, 78);
    assert_eq!(story.run_refused(other_input), Code::GuardInputConflict); // G2
}

#[test]
fn not_applied_admits_the_next_attempt_at_once() {
    let mut story = open(GuardPolicy::Pause);
    let decision = story.run(not_applied("m", 1));
    assert!(matches!(
        &bodies(&decision)[..],
        [Body::GuardResolved(resolved)] if *resolved.by == *"tool"
    )); // G4, G6
    assert_eq!(story.run_refused(guarded("m", 1, 5)), Code::GuardNotOpen);
    story.run(intent("m", 2, GuardPolicy::Pause));
    story.duplicate(not_applied("m", 1));
    story.run(guarded("m", 2, 5));
}

#[test]
fn attempts_that_are_exhausted_fail_the_step() {
    let mut story = open(GuardPolicy::Pause);
    assert_eq!(story.run_refused(guarded_failed("m", 1, true)), Code::GuardUnresolved);
    assert_eq!(story.run_refused(guarded_failed("m", 1, false)), Code::InvalidArgument);
    story.run(not_applied("m", 1));
    story.run(guarded_failed("m", 1, true));
    assert!(story.head().intents.is_empty());
}

#[test]
fn a_late_outcome_is_accepted_until_a_resolution_exists() {
    for policy in [GuardPolicy::Pause, GuardPolicy::Reconcile] {
        let mut story = due_with(policy);
        story.run(guarded("m", 1, 5)); // G3
        assert!(story.head().intents.is_empty());
    }
}

#[test]
fn nothing_is_due_before_attempt_time_and_grace() {
    let mut story = open(GuardPolicy::Fail);
    story.now.0 += ATTEMPT_MS + GRACE_MS - 1;
    let rejection = story.refused(due(story.session, "m", 1)); // G4
    assert_eq!((rejection.code, rejection.retry_after_ms), (Code::GuardNotDue, Some(1)));
    let early = resolve(story.session, "m", Resolution::Retry);
    assert_eq!(story.code(early), Code::GuardNotDue);
}

#[test]
fn the_policy_pause_pauses_once() {
    let mut story = open(GuardPolicy::Pause);
    story.until_due("m");
    let decision = story.intent_due("m", 1);
    assert!(matches!(
        bodies(&decision)[..],
        [Body::GuardUnknown { reason: UnknownReason::NoOutcome, .. }, Body::SessionPaused { .. }]
    )); // G5
    assert_eq!(story.head().status, paused_for_m());
    assert_eq!(story.intent_due("m", 1).events, []); // G5
}

#[test]
fn a_report_before_is_named_as_such_when_due() {
    let mut story = open(GuardPolicy::Pause);
    story.run(unknown("m", 1));
    assert_eq!(story.head().intents[0].state, IntentState::Unknown);
    story.duplicate(unknown("m", 1));
    story.until_due("m");
    let decision = story.intent_due("m", 1);
    assert!(matches!(bodies(&decision)[0], Body::GuardUnknown { reason: UnknownReason::GraceOver, .. }));
}

#[test]
fn the_policy_fail_is_the_outcome_and_stands() {
    let mut story = due_with(GuardPolicy::Fail);
    let seq = story.head().seq;
    assert!(matches!(
        &story.model.log(story.session).pop().unwrap().body,
        Body::GuardResolved(resolved)
            if resolved.resolution == Resolution::Failure(None) && *resolved.by == *"policy"
    )); // G5, G6
    assert_eq!(story.recorded(guarded("m", 1, 5)), seq); // G7
    assert_eq!(story.recorded(unknown("m", 1)), seq);
    assert_eq!(story.recorded(not_applied("m", 1)), seq);
}

#[test]
fn the_policy_retry_admits_the_next_attempt() {
    let mut story = due_with(GuardPolicy::Retry);
    story.duplicate(unknown("m", 1));
    story.run(intent("m", 2, GuardPolicy::Retry)); // G1
}

#[test]
fn reconciliation_waits_for_the_policy_and_settles() {
    let applied = || finding("m", 1, Finding::Applied(payload(5)), "reconcile");
    let mut story = open(GuardPolicy::Reconcile);
    assert_eq!(story.run_refused(applied()), Code::GuardNotDue); // G4
    story.until_due("m");
    story.intent_due("m", 1);
    let seq = story.run(applied()).events[0].seq;
    assert_eq!(story.duplicate(applied()), seq);
    assert_eq!(story.recorded(intent("m", 1, GuardPolicy::Reconcile)), seq);
}

#[test]
fn reconciliation_that_finds_nothing_happened_admits_the_next_attempt() {
    let mut story = due_with(GuardPolicy::Reconcile);
    story.run(finding("m", 1, Finding::NotApplied(None), "reconcile"));
    story.run(intent("m", 2, GuardPolicy::Reconcile));
}

#[test]
fn reconciliation_that_finds_nothing_out_pauses() {
    let mut story = due_with(GuardPolicy::Reconcile);
    let nothing = || finding("m", 1, Finding::Unknown, "reconcile");
    story.run(nothing());
    assert_eq!(story.head().status, paused_for_m());
    assert_eq!(story.run(nothing()).reply, Reply::Done { entry: None });
    story.ok(resume(story.session, None)); // the run asks the tool again
}

#[test]
fn only_the_reconcile_policy_is_reconciled() {
    let mut story = due_with(GuardPolicy::Pause);
    let op = finding("m", 1, Finding::Applied(payload(5)), "reconcile");
    assert_eq!(story.run_refused(op), Code::InvalidArgument);
    let guess = finding("m", 1, Finding::Applied(payload(5)), "tool");
    assert_eq!(story.run_refused(guess), Code::InvalidArgument);
}

#[test]
fn a_person_resolves_and_resumes_without_a_lease() {
    let mut story = due_with(GuardPolicy::Pause);
    story.ok(release(story.session, 1));
    let decision = story.ok(Resolve {
        resume: true,
        dedupe: dedupe(1),
        ..resolve(story.session, "m", Resolution::Output(payload(5)))
    });
    assert!(matches!(
        &bodies(&decision)[..],
        [Body::GuardResolved(resolved), Body::SessionResumed { .. }] if *resolved.by == *"ada"
    )); // G6
    assert_eq!(story.head().status, Status::Running);
    let again = story
        .ok(Resolve { dedupe: dedupe(1), ..resolve(story.session, "m", Resolution::Output(payload(5))) });
    assert_eq!(again.events, []); // E5
    let late = resolve(story.session, "m", Resolution::Retry);
    assert_eq!(story.code(late), Code::GuardNotOpen);
}

#[test]
fn resolving_one_of_two_unknown_effects_does_not_resume() {
    let mut story = Story::running();
    story.run(intent("m", 1, GuardPolicy::Pause));
    story.run(intent("n", 1, GuardPolicy::Pause));
    story.until_due("n");
    story.intent_due("m", 1);
    story.intent_due("n", 1);
    let resolved = |key| Resolve { resume: true, ..resolve(session(1), key, Resolution::NotApplied(None)) };
    story.ok(resolved("m"));
    assert_eq!(story.head().status, paused_for_m());
    assert_eq!(story.code(resume(session(1), None)), Code::GuardUnresolved); // E4
    story.ok(resolved("n"));
    assert_eq!(story.head().status, Status::Running);
}

#[test]
fn a_failure_by_a_person_says_which() {
    let mut story = due_with(GuardPolicy::Pause);
    let empty = resolve(story.session, "m", Resolution::Failure(None));
    assert_eq!(story.code(empty), Code::InvalidArgument);
    story.ok(resolve(story.session, "m", Resolution::Failure(Some(payload(5)))));
    assert!(story.head().intents.is_empty());
}

#[test]
fn a_pause_admits_no_intent_but_acknowledges_one_sent_again() {
    let mut story = open(GuardPolicy::Pause);
    story.run(Op::Pause { reason: PauseReason::Requested, step_key: None, details: None });
    assert_eq!(story.run_refused(intent("n", 1, GuardPolicy::Pause)), Code::SessionPaused); // E3
    story.duplicate(intent("m", 1, GuardPolicy::Pause));
    story.run(unknown("m", 1)); // begun
}

#[test]
fn a_guarded_step_commits_only_with_its_intent() {
    let mut story = Story::running();
    assert_eq!(story.run_refused(guarded("m", 1, 5)), Code::GuardNotOpen);
    story.run(intent("m", 1, GuardPolicy::Pause));
    assert_eq!(story.run_refused(completed("m", 1, 5)), Code::StepConflict);
    assert_eq!(story.run_refused(guarded("m", 2, 5)), Code::GuardNotOpen);
    assert_eq!(story.run_refused(entered("m", 1)), Code::StepConflict);
}

#[test]
fn at_most_open_max_are_open() {
    let mut story = Story::running();
    for n in 0..OPEN_MAX {
        let key = format!("m{n}");
        let guard = u8::try_from(n).unwrap() + 100;
        story.run(intent_with(&key, 1, GuardPolicy::Pause, guard, 77));
    }
    assert_eq!(story.run_refused(entered("z", 1)), Code::TooManyOpen); // G8
    story.run(not_applied("m0", 1));
    story.run(intent_with("m0", 2, GuardPolicy::Pause, 100, 77));
    assert_eq!(story.run_refused(entered("z", 1)), Code::TooManyOpen);
    story.run(guarded("m0", 2, 5));
    story.run(entered("z", 1));
}

#[test]
fn the_keys_of_what_is_open_fit_the_head() {
    let mut story = Story::running();
    let key = |n: usize| format!("{n:0>1024}");
    let fit = OPEN_BYTES_MAX / (1024 + 28);
    for n in 0..fit {
        story.run(entered(&key(n), 1));
    }
    assert_eq!(story.run_refused(entered(&key(fit), 1)), Code::TooManyOpen); // G8
}

#[test]
fn times_are_bounded() {
    let mut story = Story::running();
    let Op::GuardIntent { mut intent, guard, taken } = intent("m", 1, GuardPolicy::Pause) else {
        unreachable!()
    };
    intent.attempt_ms = 0;
    assert_eq!(story.run_refused(Op::GuardIntent { intent, guard, taken }), Code::InvalidArgument);
}
