//! Forked: a session that goes on from the middle of another one, with edits, and never touches it.
//!
//! Owns forks, their edits and stubs, and the accepting of a nondeterminism. Never reads the parent: its head at the
//! cut, its later outcomes and its open rows come with the command, from events that no longer change.
//!
//! F1. A fork's events continue the parent's: the first one has the seq after the cut, its hash follows the parent's
//!     there, and its time is not before. So what refers to an inherited event by its seq stays right.
//! F2. A fork appends to itself alone.
//! F3. A cut lies before the parent's end and inside no zone.
//! F4. What belongs to a run or a caller stays with the parent: lease, epoch, key, dedupe ids, pause, place in a tree,
//!     cancellation, guard rows.
//! F5. An effect in flight at the cut takes the outcome that the parent recorded later; else it is unknown at once, and
//!     its policy decides.
//! F6. Waits that were open at the cut are the fork's own: its timers come due, its signals and approvals are asked for
//!     again; signals that had arrived stay. Children stay the parent's: the fork is told their end if the parent was,
//!     else that they are lost to it.
//! F7. Edits are the first events; an edited step has that outcome, whatever was in flight of it.
//! F8. A fork that is not live performs no guarded effect: the step takes what the lineage recorded under its key, or
//!     is unknown at once and pauses the session.
//! F9. Sums go on from the parent's at the cut, which are kept beside: the fork's own are the difference.
//! F10. A nondeterminism is accepted only where the session is paused for it, and accepting resumes.

use super::archive;
use super::budget::{BudgetStart, Limits, SessionBudget};
use super::command::{Accept, Code, Fork, Rejection, Reply, StartKey, StubOutcome};
use super::decide::{Decision, Run, View, check_length, invalid, nothing};
use super::draft::Draft;
use super::end;
use super::event::{
    Author, Body, DivergenceAccepted, Edit, Event, ForkEdited, ForkedFrom, GuardIntent, GuardPolicy,
    GuardResolved, PauseReason, Resolution, SessionStarted, StepCompleted, StepFailed, UnknownReason,
};
use super::evolve::{close, ensure, remember};
use super::guard;
use super::ids::{Epoch, Hash, NanoDollars, StepKey, TimeMs};
use super::session::{
    Forked, Head, IntentState, KeyRow, NAME_BYTES_MAX, OpenIntent, STEP_KEY_BYTES_MAX, Status, WaitKind,
};

/// Most edits of one fork, and most steps that one acceptance leaves aside.
pub const EDITS_MAX: usize = 64;
/// How long an effect that a fork does not perform is in flight, in milliseconds: it is not called, so not at all.
pub const STUB_ATTEMPT_MS: u64 = 1;

/// Starts a fork, or finds the one its key names.
pub(super) fn fork(view: &impl View, fork: &Fork, now: TimeMs) -> Result<Decision, Rejection> {
    check_length("workflow version", &fork.version, NAME_BYTES_MAX)?;
    check_edits(fork)?;
    if let Some(key) = &fork.key
        && let Some(row) = view.session_key(&key.digest)
    {
        return named(key, &row);
    }
    check_cut(&fork.base)?;
    archive::check_fork(view, fork.base.lineage, now)?;
    check_children(fork)?;
    if view.head(fork.session).is_some() {
        return Err(invalid("this session id is taken; mint another one"));
    }
    Ok(create(fork, now))
}

/// A key names one fork; the edge's digest of the request tells whether it is this one.
fn named(key: &StartKey, row: &KeyRow) -> Result<Decision, Rejection> {
    if row.input_digest == key.input_digest {
        return Ok(nothing(row.session, Reply::Bound { created: false, epoch: None }));
    }
    let message =
        format!("this key names session {}, which is not this fork; use another key or none", row.session);
    Err(Rejection::new(Code::KeyConflict, message))
}

fn check_edits(fork: &Fork) -> Result<(), Rejection> {
    if fork.edits.len() > EDITS_MAX {
        return Err(invalid(format!(
            "a fork has at most {EDITS_MAX} edits; this one has {}",
            fork.edits.len()
        )));
    }
    for (n, edited) in fork.edits.iter().enumerate() {
        if let Some(key) = edited.edit.step_key() {
            check_length("edited step key", key, STEP_KEY_BYTES_MAX)?;
        }
        if fork.edits.iter().take(n).any(|other| other.edit.step_key() == edited.edit.step_key()) {
            return Err(invalid("two edits are about the same thing; name each step, and the input, once"));
        }
    }
    Ok(())
}

/// F3.
fn check_cut(base: &Head) -> Result<(), Rejection> {
    if base.system {
        return Err(invalid("a system session is run by nobody; fork a session of a workflow"));
    }
    if base.status.is_terminal() || !base.zones.is_empty() {
        return Err(invalid("a fork is cut before the end and outside of zones; name an earlier event"));
    }
    Ok(())
}

fn create(fork: &Fork, now: TimeMs) -> Decision {
    let base = &fork.base;
    let mut draft = Draft::fork(fork.session, base, now);
    let started = SessionStarted {
        session: fork.session,
        namespace: base.namespace.clone(),
        workflow: base.workflow.clone(),
        version: fork.version.clone(),
        generation: u32::from(fork.key.is_some()),
        key: fork.key.as_ref().map(|key| key.payload.clone()),
        input: fork.input.clone(),
        lineage: base.lineage,
        root: base.root,
        forked_from: Some(ForkedFrom { parent: base.session, seq: base.seq, live: fork.live }),
        system: false,
        parent: None,
        top: fork.session,
        depth: 0,
        continued_from: None,
        budget: BudgetStart { limits: Limits::default(), inherited: base.budget.owners.clone() },
        labels: base.labels.clone(),
        incarnation: Some(fork.incarnation),
        deadline: None,
    };
    draft.push(Author::Client(fork.dedupe), Body::SessionStarted(started));
    for edited in &fork.edits {
        draft.push(Author::Client(None), Body::ForkEdited(edited.clone())); // F7
    }
    settle_intents(fork, &mut draft);
    for ended in fork.children.iter().filter(|ended| !is_edited(fork, &ended.step_key)) {
        draft.push(Author::Driver, Body::ChildEnded(ended.clone())); // F6
    }
    draft.answer(Reply::Bound { created: true, epoch: None })
}

/// No fork keeps a child of its parent's (F6).
fn check_children(fork: &Fork) -> Result<(), Rejection> {
    let told = |key: &StepKey| fork.children.iter().any(|ended| ended.step_key == *key);
    for wait in &fork.base.waits {
        if matches!(wait.kind, WaitKind::Child { .. }) && !told(&wait.step_key) {
            return Err(invalid(format!("child {} is open at the cut; say how it ended", wait.step_key)));
        }
    }
    Ok(())
}

fn is_edited(fork: &Fork, key: &StepKey) -> bool {
    fork.edits.iter().any(|edited| edited.edit.step_key() == Some(key))
}

/// F5.
fn settle_intents(fork: &Fork, draft: &mut Draft) {
    let mut paused = false;
    for open in fork.base.intents.iter().filter(|open| !is_edited(fork, &open.step_key)) {
        if open.state == IntentState::MayRetry {
            continue;
        }
        if let Some((_, resolution)) = fork.later.iter().find(|(key, _)| *key == open.step_key) {
            draft.push(Author::Driver, resolved(open, resolution.clone(), "parent"));
        } else {
            paused |= unknown(open, draft, paused);
        }
    }
}

/// Says that an effect's outcome is unknown and what its policy makes of it; true: the session is paused for it.
fn unknown(open: &OpenIntent, draft: &mut Draft, paused: bool) -> bool {
    let reason = match open.state {
        IntentState::Open => Some(UnknownReason::NoOutcome),
        IntentState::Unknown => Some(UnknownReason::GraceOver),
        IntentState::Due | IntentState::MayRetry => None,
    };
    if let Some(reason) = reason {
        let (step_key, attempt) = (open.step_key.clone(), open.attempt);
        draft.push(Author::Driver, Body::GuardUnknown { step_key, attempt, reason, failure: None });
    }
    match open.policy {
        GuardPolicy::Pause => {
            if !paused {
                let (reason, step_key) = (PauseReason::EffectUnknown, Some(open.step_key.clone()));
                draft.push(Author::Driver, Body::SessionPaused { reason, step_key, details: None });
            }
            true
        }
        GuardPolicy::Fail => {
            draft.push(Author::Driver, resolved(open, Resolution::Failure(None), "policy"));
            false
        }
        GuardPolicy::Retry => {
            draft.push(Author::Driver, resolved(open, Resolution::Retry, "policy"));
            false
        }
        GuardPolicy::Reconcile => false,
    }
}

fn resolved(open: &OpenIntent, resolution: Resolution, by: &str) -> Body {
    Body::GuardResolved(GuardResolved {
        step_key: open.step_key.clone(),
        attempt: open.attempt,
        resolution,
        by: by.into(),
    })
}

/// A guarded step of a fork takes what its lineage recorded (F8).
pub(super) fn stub(
    run: &Run<'_>,
    intent: &GuardIntent,
    outcome: &StubOutcome,
) -> Result<Decision, Rejection> {
    if !run.head.stubs_effects() {
        return Err(invalid("only a fork without live effects takes recorded outcomes; send the intent"));
    }
    if let Some(answer) = guard::outcome_of(run) {
        return Ok(answer);
    }
    guard::check_next(run, intent)?;
    run.unless_paused()?;
    let body = match &outcome.result {
        Ok(output) => Body::StepCompleted(StepCompleted {
            step_key: intent.step_key.clone(),
            name: intent.name.clone(),
            attempt: intent.attempt,
            input_digest: Some(intent.input_digest),
            input: None,
            output: output.clone(),
            llm: None,
            resources: Vec::new(),
            cost: NanoDollars(0),
            duration_us: 0,
            deduplicated_from: Some(outcome.from),
            guarded: true,
        }),
        Err(failure) => Body::StepFailed(StepFailed {
            step_key: intent.step_key.clone(),
            name: intent.name.clone(),
            attempt: intent.attempt,
            input_digest: Some(intent.input_digest),
            failure: failure.clone(),
            is_final: true,
            retry_at: None,
            usage: None,
            duration_us: 0,
            guarded: true,
        }),
    };
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, body);
    Ok(draft.answer(Reply::Recorded { seq }))
}

/// An operator accepts a nondeterminism (F10).
pub(super) fn accept(head: &Head, accept: &Accept, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(seq) = end::seen(head, accept.dedupe) {
        return Ok(end::seen_before(head, seq));
    }
    check_length("step key", &accept.step_key, STEP_KEY_BYTES_MAX)?;
    if accept.also_drop.len() > EDITS_MAX || (!accept.drop && !accept.also_drop.is_empty()) {
        return Err(invalid(format!(
            "also_drop names {} steps; it may name at most {EDITS_MAX}, and only with drop",
            accept.also_drop.len()
        )));
    }
    check_diverged(head, &accept.step_key)?;
    end::check_resolved(head)?;
    let mut draft = Draft::after(head, now);
    let accepted = |step_key: &StepKey, input_digest| {
        let (step_key, by, drop) = (step_key.clone(), accept.by.clone(), accept.drop);
        Body::DivergenceAccepted(DivergenceAccepted { step_key, input_digest, drop, by })
    };
    let first = accepted(&accept.step_key, accept.input_digest);
    let seq = draft.push(Author::Operator(accept.dedupe), first);
    for key in &accept.also_drop {
        draft.push(Author::Operator(None), accepted(key, None));
    }
    draft.push(Author::Operator(None), Body::SessionResumed { by: accept.by.clone(), retry: false });
    Ok(draft.appended(seq))
}

fn check_diverged(head: &Head, key: &StepKey) -> Result<(), Rejection> {
    match &head.status {
        Status::Paused { reason: PauseReason::Nondeterminism, step_key } => match step_key {
            Some(paused_for) if paused_for != key => Err(invalid(format!(
                "the session is paused for step {paused_for}, not for {key}; name that one"
            ))),
            Some(_) | None => Ok(()),
        },
        Status::Completed | Status::Failed | Status::Cancelled => Err(end::over(head)),
        Status::Paused { .. } | Status::Pending | Status::Running | Status::Waiting => {
            let message = "the session is not paused for a nondeterminism; there is nothing to accept";
            Err(Rejection::new(Code::SessionNotPaused, message))
        }
    }
}

/// Folds the first event of a fork: `base` is the head of its parent at the cut (F1, F4, F6, F9).
pub(super) fn begin(base: &Head, started: &SessionStarted, event: &Event) -> Result<Head, String> {
    let from = started.forked_from.ok_or_else(|| "the session has started already".to_owned())?;
    ensure(from.parent == base.session && from.seq == base.seq, || {
        format!("it is cut at seq {} of {} and follows seq {}", from.seq, from.parent, base.seq)
    })?;
    ensure(event.seq == base.seq.next(), || format!("it follows seq {}", base.seq))?;
    ensure(event.time >= base.time, || format!("time {:?} is before {:?}", event.time, base.time))?;
    ensure(!base.status.is_terminal() && base.zones.is_empty() && !base.system, || {
        "it is cut after an end, in a zone or from a system session".to_owned()
    })?;
    ensure(started.lineage == base.lineage && started.root == base.root, || {
        "a fork has another lineage or root than its parent".to_owned()
    })?;
    let mut head = Head {
        session: started.session,
        namespace: started.namespace.clone(),
        workflow: started.workflow.clone(),
        version: started.version.clone(),
        generation: started.generation,
        lineage: started.lineage,
        root: started.root,
        system: false,
        status: Status::Pending,
        seq: event.seq,
        hash: Hash::default(),
        time: event.time,
        started: event.time,
        epoch: Epoch(0),
        holder: None,
        // Nobody of this session called them: nothing is to be waited for (F5).
        intents: base
            .intents
            .iter()
            .map(|open| OpenIntent { due: open.due.min(event.time), ..open.clone() })
            .collect(),
        zones: Vec::new(),
        counters: base.counters.clone(),
        dedupe: Vec::new(),
        waits: base.waits.clone(),
        signals: base.signals.clone(),
        parent: None,
        top: started.top,
        depth: 0,
        cancel_requested: None,
        continued_from: None,
        continued_to: None,
        budget: SessionBudget::started(started.session, &started.budget),
        labels: started.labels.clone(),
        incarnation: started.incarnation,
        deadline: started.deadline,
        owns_keys: false,
        forked: Some(Forked { from, inherited: base.counters.clone() }),
    };
    remember(&mut head, event)?;
    Ok(head)
}

/// Folds an edit (F7).
pub(super) fn edited(head: &mut Head, edited: &ForkEdited) -> Result<(), String> {
    ensure(head.forked.is_some() && head.epoch == Epoch(0), || {
        "an edit stands elsewhere than at the beginning of a fork".to_owned()
    })?;
    match &edited.edit {
        Edit::Input(_) => {}
        Edit::Output { step_key, .. } | Edit::Failure { step_key, .. } => {
            close(head, step_key);
            head.waits.retain(|wait| wait.step_key != *step_key);
        }
    }
    Ok(())
}

/// Folds an acceptance: what it changes is what the next run may ask for.
pub(super) fn accepted(head: &Head, accepted: &DivergenceAccepted) -> Result<(), String> {
    let diverged = matches!(&head.status, Status::Paused { reason: PauseReason::Nondeterminism, .. });
    ensure(diverged, || {
        format!("a nondeterminism of step {} is accepted that nobody paused for", accepted.step_key)
    })
}
