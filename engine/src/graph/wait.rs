//! Waits: a run waits for timers, signals, approvals and children without a worker, for as long as it takes.
//!
//! Owns what the kinds of waits have in common: opening, closing, dropping, and giving the session back while only waits
//! are left. Never knows how a kind is decided (`timer`, `signal`, `approval`), and never holds a worker.
//!
//! W1. A wait is opened once per step and has at most one outcome; opening it again answers with what there is.
//! W2. A session is released as *waiting* only if a wait is open, nothing else is, and the run has seen everything: an
//!     outcome that came in between refuses the release, so none is slept through.
//! W3. A waiting session has no holder; an outcome makes it runnable, and nothing else but a resume or a cancellation.
//! W4. A paused session opens no wait; what comes for open ones is recorded and delivered after it was resumed.
//! W5. What is open of a session is bounded in number and in bytes of keys and names.
//! W6. The end of a session closes its waits; a dropped wait gets no outcome.

use std::sync::Arc;

use super::command::{Code, Rejection, Reply};
use super::decide::{Decision, Run, conflict, invalid, nothing};
use super::draft::{Draft, ledger_time};
use super::event::{Author, Body, Event, ReleaseReason};
use super::evolve::ensure;
use super::ids::{Epoch, Seq, StepKey, TimeMs};
use super::session::{Head, OpenWait, Status, StepState, WaitKind};
use super::{approval, child, end, lease, room, signal, timer};

/// Longest time a timer, signal or approval may be waited for in milliseconds: ten years.
pub const WAIT_MS_MAX: u64 = 10 * 366 * 24 * 60 * 60 * 1000;

/// When to try again to release a session that has gone on, in milliseconds: what it lacks is on its way.
const RETRY_MS: u64 = 50;

/// A wait as a run asks for it.
pub(super) struct Asked<'a> {
    pub key: &'a StepKey,
    pub name: &'a Arc<str>,
    pub kind: WaitKind,
}

/// Checks that a wait may be opened; `Some`: it was opened before, and this answers (W1).
pub(super) fn opened_before(run: &Run<'_>, asked: &Asked<'_>) -> Result<Option<Decision>, Rejection> {
    if let Some(open) = run.head.wait(asked.key) {
        let same = same(&open.kind, &asked.kind) && open.name == *asked.name;
        return match same {
            true => Ok(Some(run.duplicate(open.seq))),
            false => Err(conflict(format!(
                "step {} waits for something else since seq {}; workflow code must ask for the same again",
                open.step_key, open.seq
            ))),
        };
    }
    if let Some(row) = &run.row {
        return match row.state {
            // Its outcome came from elsewhere: no run commits an outcome of a wait.
            StepState::Completed if row.epoch == Epoch(0) => Ok(Some(run.recorded(row.seq))),
            StepState::Failed if row.outcome_digest.is_none() => Ok(Some(run.duplicate(row.seq))),
            StepState::Open | StepState::Retryable | StepState::Completed | StepState::Failed => {
                Err(conflict(format!(
                    "{} is another kind of step, last at seq {}; wait under a key of its own",
                    asked.key, row.seq
                )))
            }
        };
    }
    if run.head.intent(asked.key).is_some() || run.head.zone(asked.key).is_some() {
        return Err(conflict(format!("{} is another kind of step; wait under a key of its own", asked.key)));
    }
    run.unless_paused()?; // W4
    room::check_room(run.head, asked.key, asked.name.len())?; // W5
    Ok(None)
}

/// True if a wait may be the one asked for; a child is minted anew with each try, and the first one counts.
fn same(open: &WaitKind, asked: &WaitKind) -> bool {
    match (open, asked) {
        (WaitKind::Child { .. }, WaitKind::Child { .. }) => true,
        (open, asked) => open == asked,
    }
}

/// When something that may take `ms` milliseconds is due; `None`: never.
pub(super) fn due_after(run: &Run<'_>, ms: Option<u64>) -> Result<Option<TimeMs>, Rejection> {
    match ms {
        None => Ok(None),
        Some(ms) if ms <= WAIT_MS_MAX => Ok(Some(ledger_time(run.head, run.now).plus(ms))),
        Some(ms) => Err(too_long(ms)),
    }
}

pub(super) fn too_long(ms: u64) -> Rejection {
    invalid(format!("the wait takes {ms} ms; wait at most {WAIT_MS_MAX} ms (ten years)"))
}

/// The run does not want a wait any more (W6).
pub(super) fn dropped(run: &Run<'_>, key: &StepKey) -> Result<Decision, Rejection> {
    match (run.head.wait(key), &run.row) {
        (Some(OpenWait { kind: WaitKind::Child { .. }, .. }), _) => {
            Err(invalid(format!("{key} is a child; cancel it instead")))
        }
        (Some(_), _) => {
            let mut draft = run.draft();
            let seq = draft.push_append(run.append, Body::WaitDropped { step_key: key.clone() });
            Ok(draft.appended(seq))
        }
        // Its outcome came first, or it was dropped before.
        (None, Some(row)) => Ok(run.duplicate(row.seq)),
        (None, None) => Err(not_found(key)),
    }
}

/// The time of a wait has come.
pub(super) fn due(head: &Head, seq: Seq, now: TimeMs) -> Result<Decision, Rejection> {
    let time = ledger_time(head, now);
    let wait = head.waits.iter().find(|wait| wait.seq == seq && wait.due.is_some_and(|due| due <= time));
    let Some(wait) = wait else {
        return Ok(nothing(head.session, Reply::Done { entry: None }));
    };
    let body = match wait.kind {
        WaitKind::Timer => timer::fired(wait),
        WaitKind::Signal => signal::timed_out(wait),
        WaitKind::Approval { .. } => approval::expired(wait),
        WaitKind::Child { .. } => return Ok(nothing(head.session, Reply::Done { entry: None })),
    };
    let mut draft = Draft::after(head, now);
    let seq = draft.push(Author::Driver, body);
    Ok(draft.appended(seq))
}

/// Gives a lease back because only waits are left (W2).
pub(super) fn release(head: &Head, epoch: Epoch, seen: Seq, now: TimeMs) -> Result<Decision, Rejection> {
    if epoch != head.epoch || head.holder.is_none() {
        return lease::release(head, epoch, ReleaseReason::Waiting, now);
    }
    if seen != head.seq {
        return Err(not_idle(format!(
            "the session is at seq {} and the run has seen {seen}; take in what came and decide again",
            head.seq
        )));
    }
    if !head.intents.is_empty() || !head.zones.is_empty() {
        let count = head.intents.len() + head.zones.len();
        return Err(not_idle(format!("{count} guarded steps and zones are open; finish them first")));
    }
    if head.waits.is_empty() {
        return Err(not_idle("the session waits for nothing; go on, or release it for another reason"));
    }
    lease::release(head, epoch, ReleaseReason::Waiting, now)
}

fn not_idle(message: impl Into<String>) -> Rejection {
    Rejection::new(Code::NotIdle, message).retry_after(RETRY_MS)
}

pub(super) fn not_found(key: &str) -> Rejection {
    let message = format!("the session does not wait under step key {key}; look at its open waits");
    Rejection::new(Code::NotFound, message)
}

/// Folds an event about waits (V5).
pub(super) fn follow(head: &mut Head, event: &Event) -> Result<(), String> {
    let open = |step_key: &StepKey, name: &Arc<str>, kind, due| OpenWait {
        step_key: step_key.clone(),
        name: name.clone(),
        kind,
        seq: event.seq,
        due,
    };
    match &event.body {
        Body::TimerStarted { step_key, name, due } => {
            opened(head, open(step_key, name, WaitKind::Timer, Some(*due)))
        }
        Body::SignalAwaited { step_key, name, due } => {
            opened(head, open(step_key, name, WaitKind::Signal, *due))
        }
        Body::ApprovalRequested(request) => {
            let kind = WaitKind::Approval { args_digest: request.args_digest };
            opened(head, open(&request.step_key, &request.name, kind, request.due))
        }
        Body::TimerFired { step_key } => {
            closed(head, step_key, |kind| matches!(kind, WaitKind::Timer)).map(drop)
        }
        Body::SignalReceived(received) => {
            head.signals.push((received.name.clone(), event.seq));
            Ok(())
        }
        Body::SignalDelivered { step_key, signal } => {
            let wait = closed(head, step_key, |kind| matches!(kind, WaitKind::Signal))?;
            signal.map_or(Ok(()), |seq| signal::taken(head, &wait, seq))
        }
        Body::ApprovalDecided(decided) => {
            closed(head, &decided.step_key, |kind| matches!(kind, WaitKind::Approval { .. })).map(drop)
        }
        Body::ChildSpawned(child) => child::follow_spawn(head, child, event.seq),
        Body::ChildEnded(ended) => child::follow_end(head, ended),
        Body::ChildCancelRequested { step_key, .. } => child::follow_cancel(head, step_key),
        Body::WaitDropped { step_key } => closed(head, step_key, |_| true).map(drop),
        other => Err(format!("{other:?} is not about a wait")),
    }
}

pub(super) fn opened(head: &mut Head, wait: OpenWait) -> Result<(), String> {
    let key = &wait.step_key;
    ensure(head.wait(key).is_none(), || format!("step {key} waits already"))?;
    ensure(head.intent(key).is_none() && head.zone(key).is_none(), || {
        format!("step {key} is an open intent or zone and waits")
    })?;
    head.waits.push(wait);
    Ok(())
}

pub(super) fn closed(
    head: &mut Head,
    key: &str,
    fits: impl Fn(&WaitKind) -> bool,
) -> Result<OpenWait, String> {
    let at = head.waits.iter().position(|wait| *wait.step_key == *key && fits(&wait.kind));
    at.map(|at| head.waits.remove(at)).ok_or_else(|| format!("step {key} does not wait for this outcome"))
}

/// Folds the release of a session that only waits.
pub(super) fn released(head: &mut Head) -> Result<(), String> {
    ensure(!head.waits.is_empty() && head.intents.is_empty(), || {
        "the session is released as waiting and does not only wait".to_owned()
    })?;
    if head.status == Status::Running {
        head.status = Status::Waiting;
    }
    Ok(())
}

/// Makes a waiting session runnable if `body` gives it something to go on with (W3).
pub(super) fn wake(head: &mut Head, body: &Body) {
    if head.status == Status::Waiting && wakes(body) {
        head.status = Status::Running;
    }
}

fn wakes(body: &Body) -> bool {
    match body {
        Body::TimerFired { .. }
        | Body::SignalDelivered { .. }
        | Body::ApprovalDecided(_)
        | Body::ChildEnded(_)
        | Body::GuardResolved(_) => true,
        Body::SessionStarted(_)
        | Body::LeaseGranted(_)
        | Body::LeaseReleased { .. }
        | Body::SessionPaused { .. }
        | Body::SessionResumed { .. }
        | Body::SessionCompleted { .. }
        | Body::SessionFailed { .. }
        | Body::SessionCancelled(_)
        | Body::SessionContinued(_)
        // It wakes the session by itself, whatever it waits for or is paused for.
        | Body::CancelRequested { .. }
        | Body::ChildSpawned(_)
        | Body::ChildCancelRequested { .. }
        | Body::LabelsSet(_)
        | Body::SessionReleased { .. }
        | Body::StepCompleted(_)
        | Body::StepFailed(_)
        | Body::StepHeartbeat { .. }
        | Body::GuardIntent(_)
        | Body::GuardUnknown { .. }
        | Body::ZoneEntered { .. }
        | Body::ZoneCommitted(_)
        | Body::ZoneFailed(_)
        | Body::ZoneRolledBack(_)
        | Body::TimerStarted { .. }
        | Body::SignalReceived(_)
        | Body::SignalAwaited { .. }
        | Body::WaitDropped { .. }
        | Body::ApprovalRequested(_)
        | Body::ForkEdited(_)
        | Body::DivergenceAccepted(_)
        | Body::BudgetReserved { .. }
        | Body::BudgetRaised { .. }
        | Body::BudgetReleased { .. }
        | Body::TokenCreated(_)
        | Body::TokenRevoked { .. }
        | Body::Archive(_)
        | Body::WorkflowRegistered(_)
        | Body::WorkflowDrained(_) => false,
    }
}

/// Refuses what comes from outside for a session that takes nothing more.
pub(super) fn check_takes(head: &Head) -> Result<(), Rejection> {
    if head.system {
        return Err(invalid("a system session waits for nothing; name a session of a workflow"));
    }
    if head.status.is_terminal() {
        return Err(end::over(head));
    }
    Ok(())
}
