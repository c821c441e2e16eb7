//! Folds an event into the head. Owns what a head says after an event; never decides whether the event was right to
//! append, and never guesses: what does not fit is `Corrupt`, named with session and seq.
//!
//! V1. Pure and total: the same head and event give the same head, and every kind of event is handled by name.
//! V2. Seqs have no gap, ledger time never goes back, nothing follows an end.
//! V3. Epochs grow by one with each grant; a worker's event carries the epoch of the lease in force.
//! V4. An outcome closes an intent or zone that is open with the same attempt.
//! V5. A wait is closed once, by an outcome of its own kind; an outcome makes a waiting session runnable.
//! V6. Limits are not checked here: a ledger written under larger ones stays readable.

use super::budget::SessionBudget;
use super::event::{
    Author, Body, Event, GuardIntent, GuardResolved, LeaseGranted, ReleaseReason, Resolution,
    SessionCancelled, SessionStarted, StepCompleted, StepFailed, UnknownReason,
};
use super::fork;
use super::ids::{Epoch, Hash, Seq, SessionId, StepKey};
use super::session::{Counters, DEDUPE_IDS_MAX, Head, IntentState, OpenIntent, OpenZone, Status};
use super::{child, label, wait};

/// The ledger contradicts itself: never the caller's fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the ledger contradicts itself in session {session} at seq {seq}: {problem}; run `cellaflow ledger verify`"
)]
pub struct Corrupt {
    /// Where; all zeros if the first event does not say.
    pub session: SessionId,
    /// The event that does not fit.
    pub seq: Seq,
    /// What contradicts what.
    pub problem: String,
}

/// Returns the head after `event`, whose link in the hash chain is `hash`; `head` is `None` before the first event.
///
/// # Errors
/// `Corrupt` if the event cannot follow (V2, V3, V4).
pub fn evolve(head: Option<&Head>, event: &Event, hash: Hash) -> Result<Head, Corrupt> {
    let (session, folded) = match (head, &event.body) {
        (None, Body::SessionStarted(started)) => (started.session, start(started, event)),
        // The fold of a fork goes through its parent's events first.
        (Some(base), Body::SessionStarted(started)) if started.forked_from.is_some() => {
            (started.session, fork::begin(base, started, event))
        }
        (None, _) => (SessionId::default(), Err("the first event does not start a session".to_owned())),
        (Some(head), _) => (head.session, follow(head, event)),
    };
    match folded {
        Ok(mut after) => {
            after.seq = event.seq;
            after.time = event.time;
            after.hash = hash;
            Ok(after)
        }
        Err(problem) => Err(Corrupt { session, seq: event.seq, problem }),
    }
}

fn start(started: &SessionStarted, event: &Event) -> Result<Head, String> {
    ensure(event.seq == Seq(1), || format!("the session starts at seq {}", event.seq))?;
    ensure(started.forked_from.is_none(), || "a fork begins without its parent's events".to_owned())?;
    let mut head = Head {
        session: started.session,
        namespace: started.namespace.clone(),
        workflow: started.workflow.clone(),
        version: started.version.clone(),
        generation: started.generation,
        lineage: started.lineage,
        root: started.root,
        system: started.system,
        status: Status::Pending,
        seq: event.seq,
        hash: Hash::default(),
        time: event.time,
        started: event.time,
        epoch: Epoch(0),
        holder: None,
        intents: Vec::new(),
        zones: Vec::new(),
        waits: Vec::new(),
        signals: Vec::new(),
        counters: Counters::default(),
        budget: SessionBudget::started(started.session, &started.budget),
        dedupe: Vec::new(),
        parent: started.parent.clone(),
        top: started.top,
        depth: started.depth,
        cancel_requested: None,
        continued_from: started.continued_from,
        continued_to: None,
        forked: None,
        labels: started.labels.clone(),
        incarnation: started.incarnation,
        deadline: started.deadline,
        owns_keys: false,
    };
    remember(&mut head, event)?;
    Ok(head)
}

fn follow(before: &Head, event: &Event) -> Result<Head, String> {
    ensure(event.seq == before.seq.next(), || format!("it follows seq {}", before.seq))?;
    ensure(event.time >= before.time, || format!("time {:?} is before {:?}", event.time, before.time))?;
    ensure(!before.status.is_terminal(), || "the session has ended".to_owned())?;
    let mut head = before.clone();
    remember(&mut head, event)?;
    apply(&mut head, event)?;
    wait::wake(&mut head, &event.body);
    head.counters.count(&event.body);
    let deadline = head.budget.limits.deadline(head.started);
    head.budget.follow(event, deadline)?;
    Ok(head)
}

/// Checks the author (V3) and keeps a dedupe id.
pub(super) fn remember(head: &mut Head, event: &Event) -> Result<(), String> {
    match event.author {
        Author::Worker(epoch) => ensure(epoch == head.epoch && head.holder.is_some(), || {
            format!(
                "a worker of epoch {} appended while the epoch is {} and the lease is {}",
                epoch.0,
                head.epoch.0,
                if head.holder.is_some() { "held" } else { "free" },
            )
        }),
        Author::Client(Some(id)) | Author::Operator(Some(id)) => {
            ensure(head.dedupe.iter().all(|(known, _)| *known != id), || {
                format!("dedupe id {id} was used before")
            })?;
            head.dedupe.push((id, event.seq));
            let surplus = head.dedupe.len().saturating_sub(DEDUPE_IDS_MAX);
            head.dedupe.drain(..surplus);
            Ok(())
        }
        Author::Client(None) | Author::Operator(None) | Author::Driver => Ok(()),
    }
}

fn apply(head: &mut Head, event: &Event) -> Result<(), String> {
    match &event.body {
        Body::SessionStarted(_) => Err("the session has started already".to_owned()),
        Body::LeaseGranted(grant) => granted(head, grant),
        Body::LeaseReleased { epoch, reason } => released(head, *epoch, *reason),
        Body::SessionPaused { reason, step_key, .. } => {
            ensure(!matches!(head.status, Status::Paused { .. }), || {
                "the session is paused already".to_owned()
            })?;
            head.status = Status::Paused { reason: *reason, step_key: step_key.clone() };
            Ok(())
        }
        Body::SessionResumed { .. } => resumed(head),
        Body::SessionCompleted { output: _ } => ended(head, Status::Completed),
        Body::SessionFailed { failure: _ } => ended(head, Status::Failed),
        Body::SessionCancelled(end) => cancelled(head, end),
        Body::SessionContinued(continued) => {
            head.continued_to = Some(continued.successor);
            ended(head, Status::Completed)
        }
        Body::CancelRequested { .. } => cancel_requested(head, event.seq),
        Body::StepCompleted(step) => step_completed(head, step),
        Body::StepFailed(step) => step_failed(head, step),
        Body::StepHeartbeat { .. } => Ok(()),
        Body::GuardIntent(intent) => intended(head, intent, event),
        Body::GuardUnknown { step_key, attempt, reason, failure: _ } => {
            unknown(head, step_key, *attempt, *reason)
        }
        Body::GuardResolved(resolved) => settled(head, resolved),
        Body::ZoneEntered { zone_key, attempt, .. } => entered(head, zone_key, *attempt, event.seq),
        Body::ZoneCommitted(zone) => left(head, &zone.zone_key, zone.attempt),
        Body::ZoneFailed(zone) => left(head, &zone.zone_key, zone.attempt),
        Body::ZoneRolledBack(zone) => left(head, &zone.zone_key, zone.attempt),
        Body::TimerStarted { .. }
        | Body::TimerFired { .. }
        | Body::SignalReceived(_)
        | Body::SignalAwaited { .. }
        | Body::SignalDelivered { .. }
        | Body::WaitDropped { .. }
        | Body::ApprovalRequested(_)
        | Body::ApprovalDecided(_)
        | Body::ChildSpawned(_)
        | Body::ChildEnded(_)
        | Body::ChildCancelRequested { .. } => wait::follow(head, event),
        Body::ForkEdited(edited) => fork::edited(head, edited),
        Body::DivergenceAccepted(accepted) => fork::accepted(head, accepted),
        // `SessionBudget::follow` takes them in.
        Body::BudgetReserved { .. } | Body::BudgetRaised { .. } | Body::BudgetReleased { .. } => Ok(()),
        Body::LabelsSet(change) => {
            head.labels = label::applied(&head.labels, change);
            Ok(())
        }
        Body::SessionReleased { incarnation, by: _ } => {
            head.incarnation = Some(*incarnation);
            Ok(())
        }
        Body::TokenCreated(_) | Body::TokenRevoked { token: _ } | Body::Archive(_) => {
            ensure(head.system, || {
                "a token or a claim is journaled in a session that is not a system session".to_owned()
            })
        }
        Body::WorkflowRegistered(_) | Body::WorkflowDrained(_) => ensure(head.system, || {
            "a workflow is journaled in a session that is not a system session".to_owned()
        }),
    }
}

fn granted(head: &mut Head, grant: &LeaseGranted) -> Result<(), String> {
    ensure(grant.epoch.0 == head.epoch.0 + 1, || {
        format!("epoch {} follows epoch {}", grant.epoch.0, head.epoch.0)
    })?;
    ensure(grant.takeover == head.holder.is_some(), || "takeover and holder disagree".to_owned())?;
    ensure(head.status.is_runnable(), || "a lease is granted on a session that cannot run".to_owned())?;
    head.epoch = grant.epoch;
    head.incarnation = Some(grant.incarnation);
    head.holder = Some(grant.instance);
    head.status = Status::Running;
    Ok(())
}

fn released(head: &mut Head, epoch: Epoch, reason: ReleaseReason) -> Result<(), String> {
    ensure(epoch == head.epoch && head.holder.is_some(), || {
        format!("the lease of epoch {} is not held", epoch.0)
    })?;
    ensure(head.zones.is_empty(), || "the lease is released with a zone open".to_owned())?;
    head.holder = None;
    if reason == ReleaseReason::Waiting {
        wait::released(head)?;
    }
    Ok(())
}

fn resumed(head: &mut Head) -> Result<(), String> {
    ensure(matches!(head.status, Status::Paused { .. }), || "the session is not paused".to_owned())?;
    head.status = if head.epoch == Epoch(0) { Status::Pending } else { Status::Running };
    Ok(())
}

fn ended(head: &mut Head, status: Status) -> Result<(), String> {
    ensure(head.zones.is_empty(), || "the session ends with a zone open".to_owned())?;
    ensure(head.intents.iter().all(|intent| intent.state == IntentState::MayRetry), || {
        "the session ends with an effect whose outcome is unknown".to_owned()
    })?;
    head.intents.clear();
    head.waits.clear();
    head.signals.clear();
    head.holder = None;
    head.status = status;
    Ok(())
}

/// Only what the event names as unknown may be left open.
fn cancelled(head: &mut Head, end: &SessionCancelled) -> Result<(), String> {
    ensure(end.terminated || head.epoch == Epoch(0) || head.cancel_requested.is_some(), || {
        "the run cancels itself without having been asked to".to_owned()
    })?;
    head.intents.retain(|intent| !end.unknown.contains(&intent.step_key));
    let left_behind = child::left_behind(head);
    ended(head, Status::Cancelled)?;
    ensure(end.terminated || left_behind.is_empty(), || "the session ends before its children".to_owned())?;
    head.waits = left_behind;
    Ok(())
}

fn cancel_requested(head: &mut Head, seq: Seq) -> Result<(), String> {
    ensure(head.epoch > Epoch(0), || "a session that never ran is asked to clean up".to_owned())?;
    let paused = matches!(head.status, Status::Paused { .. });
    ensure(paused || head.cancel_requested.is_none(), || "cancelling was asked for before".to_owned())?;
    head.cancel_requested = head.cancel_requested.or(Some(seq));
    head.status = Status::Running;
    Ok(())
}

fn step_completed(head: &mut Head, step: &StepCompleted) -> Result<(), String> {
    if !step.guarded {
        return unguarded(head, &step.step_key);
    }
    if step.deduplicated_from.is_some() {
        return taken_over(head, &step.step_key);
    }
    let intent = open_intent(head, &step.step_key, step.attempt)?;
    ensure(intent.state != IntentState::MayRetry, || not_in_flight(&step.step_key))?;
    close(head, &step.step_key);
    Ok(())
}

fn step_failed(head: &mut Head, step: &StepFailed) -> Result<(), String> {
    if !step.guarded {
        return unguarded(head, &step.step_key);
    }
    if step.is_final && head.stubs_effects() {
        return taken_over(head, &step.step_key);
    }
    let intent = open_intent(head, &step.step_key, step.attempt)?;
    ensure(step.is_final && intent.state == IntentState::MayRetry, || {
        format!("guarded step {} fails while its outcome is unknown", step.step_key)
    })?;
    close(head, &step.step_key);
    Ok(())
}

/// An outcome that another step or session had: nothing of this one is in flight.
fn taken_over(head: &mut Head, key: &str) -> Result<(), String> {
    let in_flight = head.intent(key).is_some_and(|intent| intent.state != IntentState::MayRetry);
    ensure(!in_flight, || format!("guarded step {key} takes an outcome over while it is in flight"))?;
    close(head, key);
    Ok(())
}

fn unguarded(head: &Head, key: &str) -> Result<(), String> {
    ensure(head.intent(key).is_none(), || format!("step {key} has an intent and commits without it"))?;
    ensure(head.zone(key).is_none(), || format!("step {key} is an open zone"))?;
    ensure(head.wait(key).is_none(), || format!("step {key} is an open wait"))
}

fn intended(head: &mut Head, intent: &GuardIntent, event: &Event) -> Result<(), String> {
    let last = match head.intent(&intent.step_key) {
        None => 0,
        Some(open) if open.state == IntentState::MayRetry => open.attempt,
        Some(_) => {
            return Err(format!("step {} is attempted again while its outcome is unknown", intent.step_key));
        }
    };
    ensure(last.checked_add(1) == Some(intent.attempt), || {
        format!("attempt {} of step {} follows {last}", intent.attempt, intent.step_key)
    })?;
    close(head, &intent.step_key);
    head.owns_keys |= !head.stubs_effects();
    head.intents.push(OpenIntent {
        step_key: intent.step_key.clone(),
        attempt: intent.attempt,
        seq: event.seq,
        due: event.time.plus(intent.attempt_ms).plus(intent.grace_ms),
        policy: intent.policy,
        state: IntentState::Open,
    });
    Ok(())
}

fn unknown(head: &mut Head, key: &StepKey, attempt: u32, reason: UnknownReason) -> Result<(), String> {
    let intent = open_intent(head, key, attempt)?;
    let (from, to) = match reason {
        UnknownReason::Threw | UnknownReason::TimedOut | UnknownReason::Aborted => {
            (IntentState::Open, IntentState::Unknown)
        }
        UnknownReason::NoOutcome => (IntentState::Open, IntentState::Due),
        UnknownReason::GraceOver => (IntentState::Unknown, IntentState::Due),
    };
    ensure(intent.state == from, || format!("{reason:?} of step {key} follows state {:?}", intent.state))?;
    set_state(head, key, to);
    Ok(())
}

fn settled(head: &mut Head, resolved: &GuardResolved) -> Result<(), String> {
    let key = &resolved.step_key;
    let intent = open_intent(head, key, resolved.attempt)?;
    ensure(intent.state != IntentState::MayRetry, || not_in_flight(key))?;
    match &resolved.resolution {
        Resolution::Output(_) | Resolution::Failure(_) => close(head, key),
        Resolution::NotApplied(_) | Resolution::Retry => {
            set_state(head, key, IntentState::MayRetry);
        }
    }
    Ok(())
}

fn entered(head: &mut Head, key: &StepKey, attempt: u32, seq: Seq) -> Result<(), String> {
    ensure(head.zone(key).is_none(), || format!("zone {key} is open already"))?;
    ensure(head.intent(key).is_none(), || format!("zone {key} is a guarded step"))?;
    ensure(attempt > 0, || format!("zone {key} has attempt 0"))?;
    head.zones.push(OpenZone { zone_key: key.clone(), attempt, seq });
    Ok(())
}

fn left(head: &mut Head, key: &str, attempt: u32) -> Result<(), String> {
    ensure(head.zone(key).is_some_and(|zone| zone.attempt == attempt), || {
        format!("attempt {attempt} of zone {key} is not open")
    })?;
    head.zones.retain(|zone| *zone.zone_key != *key);
    Ok(())
}

fn open_intent(head: &Head, key: &str, attempt: u32) -> Result<OpenIntent, String> {
    head.intent(key)
        .filter(|intent| intent.attempt == attempt)
        .cloned()
        .ok_or_else(|| format!("attempt {attempt} of guarded step {key} has no intent"))
}

pub(super) fn close(head: &mut Head, key: &str) {
    head.intents.retain(|intent| *intent.step_key != *key);
}

fn set_state(head: &mut Head, key: &str, state: IntentState) {
    for intent in &mut head.intents {
        if *intent.step_key == *key {
            intent.state = state;
        }
    }
}

fn not_in_flight(key: &str) -> String {
    format!("step {key} has an outcome though nothing of it is in flight")
}

pub(super) fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
