//! Which rows an event changes besides the head. Owns what the indexes say; never knows how a row is keyed or stored.
//!
//! I1. Changes follow from the heads before and after, the event and the digests that came with it, so that indexes
//!     rebuilt from events equal the stored ones.
//! I2. A step, zone or end has one row, that of its last event; a row never goes back to an earlier attempt.
//! I3. A due row exists exactly while an intent or wait of the head waits for its due time.
//! I4. Digests keyed with a namespace's salt are in no event: a rebuild computes them from the payloads. What was
//!     erased has none, and gets no row.
//! I5. A start row exists exactly from the event that names a child or successor until that session's first event.

use std::sync::Arc;

use super::archive::{self, Ask, CommitRow, Gone, Restore, RowChange, SegmentNo, StubRow};
use super::budget::{Amounts, BudgetChange, BudgetRow, Limits};
use super::command::{Command, GuardKey, Op, StartKey};
use super::event::{Author, Body, Edit, Event, GuardResolved, PayloadRef, Resolution, TokenCreated};
use super::guard_key;
use super::ids::{ClaimId, Digest, Epoch, LineageId, Namespace, Seq, SessionId, StepKey, TimeMs, TokenId};
use super::session::{
    END_KEY, GuardOutcome, GuardRow, Head, KeyRow, SignalRow, StepRow, StepState, TokenRow, WaitKind,
};
use super::version::WorkflowChange;

/// What an event's rows need and its header does not hold (I4).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// Of the key a session was started with: the key's digest and the input's.
    pub session_key: Option<(Digest, Digest)>,
    /// Of the idempotency key an intent was sent with.
    pub guard: Option<GuardKey>,
    /// Rows of steps that had no outcome yet where a fork was cut: a rebuild takes them from the parent's events.
    pub inherited: Arc<[(StepKey, StepRow)]>,
    /// What the archive asked for: what it read of the lineages is in no event.
    pub archive: Option<Ask>,
}

/// A change of one row of the event's session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IndexChange {
    /// Last event of a step or zone; `END_KEY`: how the session ended.
    Step { key: StepKey, row: StepRow },
    /// Owner of an idempotency key.
    Guard { digest: Digest, row: GuardRow },
    /// What is known of a guarded step, beside its lineage; with the output that is kept.
    GuardOutcome { step_key: StepKey, outcome: GuardOutcome, output: Option<PayloadRef> },
    /// The session has ended: the retention of its idempotency keys begins.
    KeysEnded { at: TimeMs, seq: Seq },
    /// A signal's id was used.
    Signal { id: Arc<str>, row: SignalRow },
    /// Session that a caller's key names.
    Key { digest: Digest, row: KeyRow },
    /// The session must be dispatched at start.
    LivePut,
    /// The session has ended.
    LiveDelete,
    /// The session appears in the list of its namespace.
    ListPut,
    /// A driver must look at something of the session at this time.
    DuePut(DueEntry),
    /// It need not any more.
    DueDelete(DueEntry),
    /// What a budget came to; the owner need not be the event's session.
    Budget { owner: SessionId, change: BudgetChange },
    /// What the zone attempt entered at this seq streamed is in its commit now.
    EvidenceDelete { entry: Seq, attempt: u32 },
    /// A session is to be started: the successor or child that this event names (I5).
    StartPut { session: SessionId },
    /// It was; `by` is the session whose event named it.
    StartDelete { by: SessionId, session: SessionId },
    /// The session is found by this label.
    LabelPut { key: Arc<str>, value: Arc<str> },
    /// It is not any more.
    LabelDelete { key: Arc<str>, value: Arc<str> },
    /// What the ledger keeps of a lineage that the archive has to do with; nothing is written where nothing is to say.
    Archive { lineage: LineageId, change: RowChange },
    /// An archive commit waits for its manifest to be published, or does not any more.
    Commit { claim: ClaimId, row: Option<CommitRow> },
    /// What is left of an archived session beside its head.
    Stub { session: SessionId, row: StubRow },
    /// What is kept of a session for its keys goes, or all of it.
    Forget(Arc<Gone>),
    /// Nothing is left of a lineage.
    Vanish { lineage: LineageId },
    /// All that a lineage has in a segment goes.
    Leave { lineage: LineageId, segment: SegmentNo },
    /// A restored lineage is where its rows were written.
    Return(Arc<Restore>),
    /// Bytes of a segment died, or were given back.
    Dead { segment: SegmentNo, bytes: u64, back: bool },
    /// A token came to be.
    TokenPut { secret_hash: Digest, row: TokenRow },
    /// A token was revoked; its row gets this time.
    TokenRevoked { token: TokenId, at: TimeMs },
    /// What is known of a workflow's version changes.
    Workflow { namespace: Namespace, workflow: Arc<str>, version: Arc<str>, change: WorkflowChange },
}

/// Something as the due index names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DueEntry {
    pub due: TimeMs,
    pub kind: DueKind,
    /// Seq of the event that opened it.
    pub seq: Seq,
}

/// What becomes due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DueKind {
    /// Attempt time and grace of a guarded step.
    Intent,
    /// A timer.
    Timer,
    /// The time a signal or approval is waited for.
    Wait,
    /// A session's wall-time budget.
    Budget,
    /// The session's own time.
    Deadline,
    /// How long its idempotency keys are kept after its end.
    Retention,
}

impl Digests {
    /// Takes the digests that a command brings.
    #[must_use]
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Start(start) => {
                Self { session_key: start.key.as_ref().map(StartKey::digests), ..Self::default() }
            }
            Command::Import(sent) => {
                Self { session_key: sent.start.key.as_ref().map(StartKey::digests), ..Self::default() }
            }
            Command::Append(append) => match &append.op {
                Op::GuardIntent { guard, .. } => Self { guard: Some(guard.clone()), ..Self::default() },
                Op::StepCompleted(_)
                | Op::GuardStub { .. }
                | Op::StepFailed(_)
                | Op::StepHeartbeat { .. }
                | Op::GuardUnknown { .. }
                | Op::GuardFinding { .. }
                | Op::ZoneEntered { .. }
                | Op::ZoneCommitted(_)
                | Op::ZoneFailed(_)
                | Op::ZoneAborted { .. }
                | Op::TimerStarted { .. }
                | Op::SignalAwaited { .. }
                | Op::ApprovalRequested(_)
                | Op::WaitDropped { .. }
                | Op::Complete { .. }
                | Op::Fail { .. }
                | Op::SpawnChild(_)
                | Op::CancelChild { .. }
                | Op::Continue(_)
                | Op::Cancelled { .. }
                | Op::BudgetReserved(_)
                | Op::BudgetReleased { .. }
                | Op::Pause { .. } => Self::default(),
            },
            Command::Fork(fork) => Self {
                session_key: fork.key.as_ref().map(StartKey::digests),
                guard: None,
                inherited: fork.inherited.clone(),
                archive: None,
            },
            Command::Archive(asked) => Self { archive: Some(asked.ask.clone()), ..Self::default() },
            Command::Accept(_)
            | Command::SetLabels(_)
            | Command::ReleaseHold(_)
            | Command::Acquire(_)
            | Command::Release { .. }
            | Command::Evidence(_)
            | Command::IntentDue { .. }
            | Command::WaitDue { .. }
            | Command::Signal(_)
            | Command::DecideApproval(_)
            | Command::Resolve(_)
            | Command::Resume(_)
            | Command::Pause(_)
            | Command::Cancel(_)
            | Command::Terminate(_)
            | Command::ChildEnded { .. }
            | Command::RaiseBudget(_)
            | Command::BudgetDue { .. }
            | Command::ForgetKeys(_)
            | Command::PutContext(_)
            | Command::CreateToken { .. }
            | Command::RevokeToken { .. }
            | Command::RegisterWorkflow(_)
            | Command::DrainWorkflow(_) => Self::default(),
        }
    }
}

impl StartKey {
    fn digests(&self) -> (Digest, Digest) {
        (self.digest, self.input_digest)
    }
}

/// Returns the rows that `event` changes; `before` and `after` are the heads around it, `digests` the command's.
#[must_use]
pub fn changes(before: Option<&Head>, event: &Event, after: &Head, digests: &Digests) -> Vec<IndexChange> {
    let mut changes = Vec::new();
    body_changes(before, event, after, digests, &mut changes);
    match (before.is_some_and(Head::is_live), after.is_live()) {
        (false, true) => changes.push(IndexChange::LivePut),
        (true, false) => changes.push(IndexChange::LiveDelete),
        (true, true) | (false, false) => {}
    }
    guard_key::changes(before, event, after, &mut changes);
    label_changes(before, after, &mut changes);
    due_changes(before, after, &mut changes);
    budget_changes(before, event, after, &mut changes);
    changes
}

fn body_changes(
    before: Option<&Head>,
    event: &Event,
    after: &Head,
    digests: &Digests,
    changes: &mut Vec<IndexChange>,
) {
    let mut step = |key: &StepKey, attempt, state, input, outcome| {
        changes.push(IndexChange::Step {
            key: key.clone(),
            row: StepRow {
                seq: event.seq,
                attempt,
                epoch: epoch_of(event.author),
                state,
                input_digest: input,
                outcome_digest: outcome,
            },
        });
    };
    let retryable_or_failed = |is_final| match is_final {
        true => StepState::Failed,
        false => StepState::Retryable,
    };
    match &event.body {
        Body::ForkEdited(edited) => match &edited.edit {
            Edit::Input(_) => {}
            Edit::Output { step_key, output } => {
                step(step_key, 1, StepState::Completed, None, Some(output.digest));
            }
            Edit::Failure { step_key, failure } => {
                step(step_key, 1, StepState::Failed, None, Some(failure.digest));
            }
        },
        Body::SessionStarted(started) => {
            if started.forked_from.is_some() {
                let rows = digests.inherited.iter().cloned();
                changes.extend(rows.map(|(key, row)| IndexChange::Step { key, row }));
                let (lineage, change) = (started.lineage, RowChange::Voided);
                changes.push(IndexChange::Archive { lineage, change });
            }
            if !started.system {
                changes.push(IndexChange::ListPut);
            }
            let parent = started.parent.as_ref().map(|parent| parent.session);
            if let Some(by) = started.continued_from.or(parent) {
                changes.push(IndexChange::StartDelete { by, session: started.session });
            }
            if let (Some(_), Some((digest, input_digest))) = (&started.key, digests.session_key) {
                let row = KeyRow { session: started.session, generation: started.generation, input_digest };
                changes.push(IndexChange::Key { digest, row });
            }
        }
        Body::SessionCompleted { output } => {
            let digest = Some(output.digest);
            step(&END_KEY.into(), 0, StepState::Completed, None, digest);
        }
        Body::SessionFailed { failure } => {
            let digest = Some(failure.digest);
            step(&END_KEY.into(), 0, StepState::Failed, None, digest);
        }
        Body::SessionCancelled(_) => {
            step(&END_KEY.into(), 0, StepState::Failed, None, None);
        }
        Body::SessionContinued(continued) => {
            // Attempt 1: a re-sent completion with the same payload is told from it.
            let digest = Some(continued.input.digest);
            step(&END_KEY.into(), 1, StepState::Completed, None, digest);
            changes.push(IndexChange::StartPut { session: continued.successor });
        }
        Body::StepCompleted(done) => {
            let digest = Some(done.output.digest);
            let state = StepState::Completed;
            step(&done.step_key, done.attempt, state, done.input_digest, digest);
        }
        Body::StepFailed(failed) => {
            let digest = Some(failed.failure.digest);
            let state = retryable_or_failed(failed.is_final);
            step(&failed.step_key, failed.attempt, state, failed.input_digest, digest);
        }
        Body::GuardIntent(intent) => {
            let digest = Some(intent.idempotency_key.digest);
            let input = Some(intent.input_digest);
            step(&intent.step_key, intent.attempt, StepState::Open, input, digest);
            // A fork that performs nothing owns no key.
            if let Some(guard) = digests.guard.as_ref().filter(|_| !after.stubs_effects()) {
                changes.push(IndexChange::Guard {
                    digest: guard.digest,
                    row: GuardRow {
                        session: after.session,
                        step_key_hash: guard.step_key_hash,
                        input_digest: guard.input_digest,
                    },
                });
            }
        }
        Body::GuardResolved(resolved) => {
            let (state, digest) = resolution(resolved);
            step(&resolved.step_key, resolved.attempt, state, None, digest);
        }
        Body::ZoneEntered { zone_key, attempt, input_digest, name: _ } => {
            step(zone_key, *attempt, StepState::Open, *input_digest, None)
        }
        Body::ZoneCommitted(zone) => {
            let digest = Some(zone.record.digest);
            step(&zone.zone_key, zone.attempt, StepState::Completed, None, digest);
            if let Some(open) = before.and_then(|head| head.zone(&zone.zone_key)) {
                changes.push(IndexChange::EvidenceDelete { entry: open.seq, attempt: open.attempt });
            }
        }
        Body::ZoneFailed(zone) => {
            let digest = Some(zone.failure.digest);
            let state = retryable_or_failed(zone.is_final);
            step(&zone.zone_key, zone.attempt, state, None, digest);
        }
        Body::ZoneRolledBack(zone) => {
            step(&zone.zone_key, zone.attempt, StepState::Retryable, None, None);
        }
        Body::TimerStarted { step_key, .. } | Body::SignalAwaited { step_key, .. } => {
            step(step_key, 1, StepState::Open, None, None);
        }
        Body::ChildSpawned(child) => {
            step(&child.step_key, 1, StepState::Open, child.input_digest, None);
            changes.push(IndexChange::StartPut { session: child.child });
        }
        Body::ChildEnded(ended) => {
            let digest = ended.end.payload().map(|payload| payload.digest);
            step(&ended.step_key, 1, StepState::Completed, None, digest);
        }
        Body::ApprovalRequested(request) => {
            step(&request.step_key, 1, StepState::Open, Some(request.args_digest), None);
        }
        Body::TimerFired { step_key } | Body::SignalDelivered { step_key, .. } => {
            step(step_key, 1, StepState::Completed, None, None);
        }
        Body::ApprovalDecided(decided) => step(&decided.step_key, 1, StepState::Completed, None, None),
        Body::WaitDropped { step_key } => step(step_key, 1, StepState::Failed, None, None),
        Body::SignalReceived(signal) => {
            if let Some(id) = &signal.id {
                let row = SignalRow {
                    seq: event.seq,
                    name: signal.name.clone(),
                    value_digest: signal.value.digest,
                };
                changes.push(IndexChange::Signal { id: id.clone(), row });
            }
        }
        Body::TokenCreated(created) => changes.push(token(created, event.time)),
        Body::TokenRevoked { token } => {
            changes.push(IndexChange::TokenRevoked { token: *token, at: event.time })
        }
        Body::WorkflowRegistered(code) => changes.push(IndexChange::Workflow {
            namespace: after.namespace.clone(),
            workflow: code.workflow.clone(),
            version: code.version.clone(),
            change: WorkflowChange::Registered { compatible: code.compatible.clone(), at: event.time },
        }),
        Body::WorkflowDrained(drained) => changes.push(IndexChange::Workflow {
            namespace: after.namespace.clone(),
            workflow: drained.workflow.clone(),
            version: drained.version.clone(),
            change: WorkflowChange::Drained {
                since: drained.draining.then_some(event.time),
                by: drained.by.clone(),
            },
        }),
        Body::Archive(done) => {
            archive::changes(done, (event.seq, event.time), after, digests.archive.as_ref(), changes);
        }
        // An unknown outcome is none: the row stays the intent's.
        Body::GuardUnknown { .. }
        | Body::DivergenceAccepted(_)
        | Body::StepHeartbeat { .. }
        | Body::LabelsSet(_)
        | Body::SessionReleased { .. }
        | Body::LeaseGranted(_)
        | Body::LeaseReleased { .. }
        | Body::SessionPaused { .. }
        | Body::SessionResumed { .. }
        | Body::BudgetReserved { .. }
        | Body::BudgetRaised { .. }
        | Body::BudgetReleased { .. }
        | Body::CancelRequested { .. }
        | Body::ChildCancelRequested { .. } => {}
    }
}

fn epoch_of(author: Author) -> Epoch {
    match author {
        Author::Worker(epoch) => epoch,
        Author::Client(_) | Author::Driver | Author::Operator(_) => Epoch(0),
    }
}

fn resolution(resolved: &GuardResolved) -> (StepState, Option<Digest>) {
    let digest = resolved.resolution.payload().map(|payload| payload.digest);
    let state = match &resolved.resolution {
        Resolution::Output(_) => StepState::Completed,
        Resolution::Failure(_) => StepState::Failed,
        Resolution::NotApplied(_) | Resolution::Retry => StepState::Retryable,
    };
    (state, digest)
}

fn token(created: &TokenCreated, at: TimeMs) -> IndexChange {
    IndexChange::TokenPut {
        secret_hash: created.secret_hash,
        row: TokenRow {
            token: created.token,
            name: created.name.clone(),
            role: created.role,
            namespace: created.namespace.clone(),
            created: at,
            expires: created.expires,
            revoked: None,
        },
    }
}

/// Compares labels before and after.
fn label_changes(before: Option<&Head>, after: &Head, changes: &mut Vec<IndexChange>) {
    let old = before.map(|head| head.labels.as_slice()).unwrap_or_default();
    if old == after.labels {
        return;
    }
    let gone = old.iter().filter(|label| !after.labels.contains(label)).cloned();
    changes.extend(gone.map(|(key, value)| IndexChange::LabelDelete { key, value }));
    let new = after.labels.iter().filter(|label| !old.contains(label)).cloned();
    changes.extend(new.map(|(key, value)| IndexChange::LabelPut { key, value }));
}

/// Compares what waits for its due time before and after (I3).
fn due_changes(before: Option<&Head>, after: &Head, changes: &mut Vec<IndexChange>) {
    let old: Vec<DueEntry> = before.map(dues).into_iter().flatten().collect();
    let new: Vec<DueEntry> = dues(after).collect();
    let gone = old.iter().filter(|entry| !new.contains(entry));
    changes.extend(gone.map(|entry| IndexChange::DueDelete(*entry)));
    let fresh = new.iter().filter(|entry| !old.contains(entry));
    changes.extend(fresh.map(|entry| IndexChange::DuePut(*entry)));
}

/// When the first thing of a session becomes due; `None`: nothing does. Its keys are kept for `retention_ms`.
#[must_use]
pub fn next_due(head: &Head, retention_ms: u64) -> Option<TimeMs> {
    let keys = head.status.is_terminal() && head.owns_keys;
    let keys = keys.then(|| head.time.plus(retention_ms));
    dues(head).map(|entry| entry.due).chain(keys).min()
}

/// Everything of a session that becomes due.
fn dues(head: &Head) -> impl Iterator<Item = DueEntry> {
    let intents = head.intents.iter().filter(|intent| intent.awaits_due());
    let intents = intents.map(|open| DueEntry { due: open.due, kind: DueKind::Intent, seq: open.seq });
    let waits = head.waits.iter().filter_map(|wait| {
        let kind = match wait.kind {
            WaitKind::Timer => DueKind::Timer,
            WaitKind::Signal | WaitKind::Approval { .. } | WaitKind::Child { .. } => DueKind::Wait,
        };
        Some(DueEntry { due: wait.due?, kind, seq: wait.seq })
    });
    // A session has at most one deadline at a time.
    let budget = head.budget_due().map(|due| DueEntry { due, kind: DueKind::Budget, seq: Seq(1) });
    // Whoever asked first to cancel it, its cleanup has the time that it needs.
    let deadline = head.deadline.filter(|_| head.cancel_requested.is_none() && !head.status.is_terminal());
    let deadline = deadline.map(|due| DueEntry { due, kind: DueKind::Deadline, seq: Seq(1) });
    intents.chain(waits).chain(budget).chain(deadline)
}

/// Rows of the owners above the session, and when its own wall time is over.
fn budget_changes(before: Option<&Head>, event: &Event, after: &Head, changes: &mut Vec<IndexChange>) {
    let (limits, deadline) = (after.budget.limits, after.budget.limits.deadline(after.started));
    let owner = after.session;
    match &event.body {
        Body::SessionStarted(_) if limits != Limits::default() => {
            let row = BudgetRow { limits, deadline, ..BudgetRow::default() };
            changes.push(IndexChange::Budget { owner, change: BudgetChange::Put(row) });
        }
        Body::BudgetRaised { .. } => {
            let change = BudgetChange::Limits { limits, deadline, at: event.time };
            changes.push(IndexChange::Budget { owner, change });
        }
        _ => {}
    }
    // A fork begins on its parent's head; its own sums begin at nothing.
    let before = before.filter(|head| head.session == after.session);
    let sums = |head: &Head| (head.budget.spent, head.budget.reserved());
    let (spent, reserved) = before.map_or((Amounts::default(), Amounts::default()), sums);
    let (spent_after, reserved_after) = sums(after);
    if (spent, reserved) != (spent_after, reserved_after) {
        let spent = spent_after.minus(spent);
        let change = BudgetChange::Sums { spent, reserved_before: reserved, reserved_after };
        let owners = after.budget.owners.iter().map(|owner| owner.session);
        changes.extend(owners.map(|owner| IndexChange::Budget { owner, change }));
    }
}
