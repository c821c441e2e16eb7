//! At most once: a guarded effect is never started twice while its outcome is unknown; unknown is said, never guessed.
//! (Given that the tool stops at its deadline or honours the key.)
//!
//! Owns intents, what is known of them, and how an unknown one is settled. Never measures time: it is told the time.
//!
//! G1. A step has at most one open intent; the next attempt is accepted only after the last one was found not to have
//!     happened, or may be repeated.
//! G2. An idempotency key belongs to one step of one session, with one input; others get what it recorded (`guard_key`).
//! G3. Until a resolution exists, an outcome from the lease holder is accepted, however late.
//! G4. Unknown is resolved only after attempt time and grace; only a tool that says so itself may say "not applied"
//!     before.
//! G5. The policy speaks once, when the intent is due: pause, fail, retry, or leave it to the run to reconcile.
//! G6. Every resolution is an event that says by whom.
//! G7. What contradicts a resolution is answered with the resolution: the first outcome stands.
//! G8. What is open at once is limited (`room`).

use std::sync::Arc;

use super::command::{Code, Finding, GuardKey, Rejection, Reply, Resolve, Taken};
use super::decide::{Decision, Run, View, conflict, invalid, nothing};
use super::draft::{Draft, ledger_time};
use super::end;
use super::event::{
    Author, Body, GuardIntent, GuardPolicy, GuardResolved, PauseReason, PayloadRef, Resolution,
    StepCompleted, StepFailed, UnknownReason,
};
use super::guard_key;
use super::ids::{NanoDollars, StepKey, TimeMs};
use super::room;
use super::session::{Head, IntentState, OpenIntent, Status, StepState};

/// Longest attempt time, and longest grace, of a guarded step in milliseconds: a day.
pub const ATTEMPT_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// When to ask again for something that waits for another step, in milliseconds.
const RETRY_MS: u64 = 250;

/// An intent as it was sent.
pub(super) struct Sent<'a> {
    pub intent: &'a GuardIntent,
    pub key: &'a GuardKey,
    pub taken: Option<&'a Taken>,
}

/// A guarded step is about to be called.
pub(super) fn intent(run: &Run<'_>, view: &impl View, sent: &Sent<'_>) -> Result<Decision, Rejection> {
    let intent = sent.intent;
    if let Some(answer) = outcome_of(run) {
        return Ok(answer);
    }
    if let Some(open) = sent_before(run, intent) {
        return Ok(run.duplicate(open.seq));
    }
    check_next(run, intent)?;
    run.unless_paused()?;
    check_times(intent)?;
    if !run.head.stubs_effects()
        && let Some(taken) = guard_key::check(run, view, sent)?
    {
        return Ok(take_over(run, intent, taken));
    }
    room::check_room(run.head, &intent.step_key, 0)?;
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::GuardIntent(intent.clone()));
    Ok(draft.appended(seq))
}

/// The step gets the output that is recorded under its key, as a completion of its own.
fn take_over(run: &Run<'_>, intent: &GuardIntent, taken: &Taken) -> Decision {
    let completed = StepCompleted {
        step_key: intent.step_key.clone(),
        name: intent.name.clone(),
        attempt: intent.attempt,
        input_digest: Some(intent.input_digest),
        input: None,
        output: taken.output.clone(),
        llm: None,
        resources: Vec::new(),
        cost: NanoDollars(0),
        duration_us: 0,
        deduplicated_from: Some(taken.from),
        guarded: true,
    };
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::StepCompleted(completed));
    draft.answer(Reply::Recorded { seq })
}

/// The answer to an intent of a step that has its outcome.
pub(super) fn outcome_of(run: &Run<'_>) -> Option<Decision> {
    let row = run.row.as_ref().filter(|row| has_outcome(row.state))?;
    Some(run.recorded(row.seq))
}

/// Checks that an intent is of the attempt that may follow (G1).
pub(super) fn check_next(run: &Run<'_>, intent: &GuardIntent) -> Result<(), Rejection> {
    let next = next_attempt(run, &intent.step_key)?;
    if intent.attempt == next {
        return Ok(());
    }
    Err(conflict(format!(
        "step {} is to be attempted with number {next}, not {}; count the attempts in its events",
        intent.step_key, intent.attempt
    )))
}

/// The open intent, if this very one was sent before by this run and nothing is known of it yet.
fn sent_before<'a>(run: &Run<'a>, intent: &GuardIntent) -> Option<&'a OpenIntent> {
    let open = run.head.intent(&intent.step_key)?;
    let row = run.row.as_ref()?;
    let same = open.state == IntentState::Open
        && open.attempt == intent.attempt
        && row.epoch == run.append.epoch
        && row.input_digest == Some(intent.input_digest)
        && row.outcome_digest == Some(intent.idempotency_key.digest);
    same.then_some(open)
}

/// Number of the attempt that may follow (G1).
fn next_attempt(run: &Run<'_>, key: &str) -> Result<u32, Rejection> {
    match (run.head.intent(key), &run.row) {
        (Some(open), _) if open.state == IntentState::MayRetry => Ok(open.attempt.saturating_add(1)),
        (Some(open), _) => Err(unresolved(open, ledger_time(run.head, run.now))),
        (None, None) => Ok(1),
        (None, Some(row)) => Err(conflict(format!(
            "{key} is an unguarded step or a zone, last at seq {}; guard it from its first attempt on, under its own key",
            row.seq
        ))),
    }
}

fn check_times(intent: &GuardIntent) -> Result<(), Rejection> {
    if intent.attempt_ms == 0 || intent.attempt_ms > ATTEMPT_MS_MAX || intent.grace_ms > ATTEMPT_MS_MAX {
        return Err(invalid(format!(
            "attempt_ms is {} and grace_ms is {}; use 1 to {ATTEMPT_MS_MAX} and 0 to {ATTEMPT_MS_MAX}",
            intent.attempt_ms, intent.grace_ms
        )));
    }
    Ok(())
}

/// An answer for what comes after the step was settled: the resolution if policy or a person settled it (G7), a
/// conflict if a run had committed something else.
pub(super) fn settled_otherwise(run: &Run<'_>) -> Result<Option<Decision>, Rejection> {
    match run.row.as_ref().filter(|row| has_outcome(row.state)) {
        None => Ok(None),
        Some(row) if row.epoch.0 == 0 => Ok(Some(run.recorded(row.seq))),
        Some(row) => Err(conflict(format!(
            "the step has another outcome since seq {}; read that event instead",
            row.seq
        ))),
    }
}

/// G3: an outcome closes the intent of its attempt, whatever is known of it, unless the attempt is over.
pub(super) fn may_complete(run: &Run<'_>, key: &str, attempt: u32) -> Result<(), Rejection> {
    let open = open_intent(run.head, key, attempt)?;
    if open.state == IntentState::MayRetry {
        return Err(Rejection::new(
            Code::GuardNotOpen,
            format!("attempt {attempt} of {key} is over; send the intent of the next attempt first"),
        ));
    }
    Ok(())
}

/// A guarded step fails only when nothing of it may have happened that is not known (G1).
pub(super) fn may_fail(run: &Run<'_>, step: &StepFailed) -> Result<(), Rejection> {
    if !step.is_final {
        return Err(invalid(
            "a guarded attempt that did not happen is reported as not applied by the tool, any other one as unknown",
        ));
    }
    let open = open_intent(run.head, &step.step_key, step.attempt)?;
    if open.state != IntentState::MayRetry {
        return Err(unresolved(open, ledger_time(run.head, run.now)));
    }
    Ok(())
}

/// An attempt threw, ran out of time or was aborted.
pub(super) fn unknown(
    run: &Run<'_>,
    key: &StepKey,
    attempt: u32,
    reason: UnknownReason,
    failure: Option<PayloadRef>,
) -> Result<Decision, Rejection> {
    match reason {
        UnknownReason::Threw | UnknownReason::TimedOut | UnknownReason::Aborted => {}
        UnknownReason::NoOutcome | UnknownReason::GraceOver => {
            return Err(invalid("only the engine says that a grace is over; name what happened to the call"));
        }
    }
    if let Some(row) = run.row.as_ref().filter(|row| has_outcome(row.state)) {
        return Ok(run.recorded(row.seq)); // G7
    }
    let open = latest_intent(run.head, key, attempt)?;
    if open.attempt != attempt || open.state != IntentState::Open {
        // Known to be unknown, or over: saying it again changes nothing.
        return Ok(run.duplicate(open.seq));
    }
    let mut draft = run.draft();
    let body = Body::GuardUnknown { step_key: key.clone(), attempt, reason, failure };
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// The tool or reconciliation found out about an attempt.
pub(super) fn finding(
    run: &Run<'_>,
    key: &StepKey,
    attempt: u32,
    finding: &Finding,
    by: &Arc<str>,
) -> Result<Decision, Rejection> {
    if let Some(answer) = settled_otherwise(run)? {
        return Ok(answer);
    }
    let open = latest_intent(run.head, key, attempt)?;
    if open.attempt != attempt || open.state == IntentState::MayRetry {
        return Ok(run.duplicate(open.seq));
    }
    let resolution = match (&**by, finding) {
        ("tool", Finding::NotApplied(payload)) => Some(Resolution::NotApplied(payload.clone())),
        ("tool", Finding::Applied(_) | Finding::Unknown) => {
            return Err(invalid("a tool commits what it did as an outcome, or reports it unknown"));
        }
        ("reconcile", finding) => {
            may_reconcile(run, open)?;
            match finding {
                Finding::Applied(output) => Some(Resolution::Output(output.clone())),
                Finding::NotApplied(payload) => Some(Resolution::NotApplied(payload.clone())),
                Finding::Unknown => None,
            }
        }
        _ => return Err(invalid("a finding is by \"tool\" or by \"reconcile\"")),
    };
    let Some(resolution) = resolution else {
        return Ok(pause_run(run, key));
    };
    let mut draft = run.draft();
    let body = resolved(open, resolution, by);
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// G4, G5: reconciliation is asked for by the policy, and only once the policy has spoken.
fn may_reconcile(run: &Run<'_>, open: &OpenIntent) -> Result<(), Rejection> {
    if open.policy != GuardPolicy::Reconcile {
        return Err(invalid(format!(
            "the policy of step {} is {:?}; reconcile only where the policy says so",
            open.step_key, open.policy
        )));
    }
    if open.state != IntentState::Due {
        return Err(not_due(open, ledger_time(run.head, run.now)));
    }
    Ok(())
}

/// Reconciliation found nothing out: a person has to.
fn pause_run(run: &Run<'_>, key: &StepKey) -> Decision {
    if matches!(run.head.status, Status::Paused { .. }) || run.head.cancel_requested.is_some() {
        return nothing(run.head.session, Reply::Done { entry: None });
    }
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, effect_unknown(key));
    draft.appended(seq)
}

/// Attempt time and grace of an intent are over (G5).
pub(super) fn due(head: &Head, key: &StepKey, attempt: u32, now: TimeMs) -> Result<Decision, Rejection> {
    let open = head.intent(key).filter(|open| open.attempt == attempt && open.awaits_due());
    let Some(open) = open else {
        return Ok(nothing(head.session, Reply::Done { entry: None }));
    };
    let time = ledger_time(head, now);
    if time < open.due {
        return Err(not_due(open, time));
    }
    let mut draft = Draft::after(head, now);
    let reason = match open.state {
        IntentState::Open => UnknownReason::NoOutcome,
        IntentState::Unknown | IntentState::Due | IntentState::MayRetry => UnknownReason::GraceOver,
    };
    let body = Body::GuardUnknown { step_key: key.clone(), attempt, reason, failure: None };
    let seq = draft.push(Author::Driver, body);
    apply_policy(head, open, &mut draft);
    Ok(draft.appended(seq))
}

fn apply_policy(head: &Head, open: &OpenIntent, draft: &mut Draft) {
    let by = "policy".into();
    match open.policy {
        GuardPolicy::Pause => {
            // C4: a session that is being cancelled ends without a person's word.
            if !matches!(head.status, Status::Paused { .. }) && head.cancel_requested.is_none() {
                draft.push(Author::Driver, effect_unknown(&open.step_key));
            }
        }
        GuardPolicy::Fail => {
            draft.push(Author::Driver, resolved(open, Resolution::Failure(None), &by));
        }
        GuardPolicy::Retry => {
            draft.push(Author::Driver, resolved(open, Resolution::Retry, &by));
        }
        // The lease holder asks the tool; without one the next worker does.
        GuardPolicy::Reconcile => {}
    }
}

/// A person or program resolves a guarded step (G4, G6); needs no lease and works while the session is paused.
pub(super) fn resolve(head: &Head, resolve: &Resolve, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(seq) = end::seen(head, resolve.dedupe) {
        return Ok(end::seen_before(head, seq));
    }
    if head.status.is_terminal() {
        return Err(end::over(head));
    }
    if resolve.resolution == Resolution::Failure(None) {
        return Err(invalid("say with which failure the step is to fail"));
    }
    let open = head
        .intent(&resolve.step_key)
        .filter(|open| open.state != IntentState::MayRetry)
        .ok_or_else(|| not_open(&resolve.step_key))?;
    let time = ledger_time(head, now);
    if time < open.due {
        return Err(not_due(open, time));
    }
    let mut draft = Draft::after(head, now);
    let body = resolved(open, resolve.resolution.clone(), &resolve.by);
    let seq = draft.push(Author::Operator(resolve.dedupe), body);
    if resolve.resume && resumes(head, &resolve.step_key) {
        let by = resolve.by.clone();
        draft.push(Author::Operator(None), Body::SessionResumed { by, retry: false });
    }
    Ok(draft.appended(seq))
}

/// True if nothing unknown keeps the session paused once `key` is resolved.
fn resumes(head: &Head, key: &str) -> bool {
    let Status::Paused { reason: PauseReason::EffectUnknown, step_key } = &head.status else {
        return false;
    };
    let paused_for =
        |open: &OpenIntent| step_key.as_ref() == Some(&open.step_key) && open.state != IntentState::MayRetry;
    let mut others = head.intents.iter().filter(|open| *open.step_key != *key);
    !others.any(|open| open.awaits_resolution() || paused_for(open))
}

pub(super) fn has_outcome(state: StepState) -> bool {
    match state {
        StepState::Completed | StepState::Failed => true,
        StepState::Open | StepState::Retryable => false,
    }
}

fn open_intent<'a>(head: &'a Head, key: &str, attempt: u32) -> Result<&'a OpenIntent, Rejection> {
    head.intent(key).filter(|open| open.attempt == attempt).ok_or_else(|| not_open(key))
}

/// The open intent of this attempt or of a later one: what is said of an earlier attempt is old news, not an error.
fn latest_intent<'a>(head: &'a Head, key: &str, attempt: u32) -> Result<&'a OpenIntent, Rejection> {
    head.intent(key).filter(|open| open.attempt >= attempt).ok_or_else(|| not_open(key))
}

fn effect_unknown(key: &StepKey) -> Body {
    Body::SessionPaused { reason: PauseReason::EffectUnknown, step_key: Some(key.clone()), details: None }
}

fn resolved(open: &OpenIntent, resolution: Resolution, by: &Arc<str>) -> Body {
    Body::GuardResolved(GuardResolved {
        step_key: open.step_key.clone(),
        attempt: open.attempt,
        resolution,
        by: by.clone(),
    })
}

fn not_open(key: &str) -> Rejection {
    let message =
        format!("step {key} has no such attempt in flight; send its intent first, or read its events");
    Rejection::new(Code::GuardNotOpen, message)
}

fn not_due(open: &OpenIntent, time: TimeMs) -> Rejection {
    let wait_ms = open.due.0.saturating_sub(time.0).max(1);
    let message = format!(
        "attempt {} of step {} may still report for {wait_ms} ms; try again then",
        open.attempt, open.step_key
    );
    Rejection::new(Code::GuardNotDue, message).retry_after(wait_ms)
}

fn unresolved(open: &OpenIntent, time: TimeMs) -> Rejection {
    let message = format!(
        "the outcome of attempt {} of step {} is unknown; wait for its resolution, or resolve it with `cellaflow steps resolve`",
        open.attempt, open.step_key
    );
    let wait_ms = open.due.0.saturating_sub(time.0).max(RETRY_MS);
    Rejection::new(Code::GuardUnresolved, message).retry_after(wait_ms)
}
