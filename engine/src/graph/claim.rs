//! What a command is about: the rows it looks up and the row it would leave. Owns these tables; judges nothing.

use super::command::{Command, DrainWorkflow, Finding, Op, RegisterWorkflow, Start};
use super::ids::{Digest, SessionId};
use super::session::{END_KEY, StepState};

/// What a command looks up by itself; for a start by key the head of the session that the key names comes on top.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lookups<'a> {
    /// Its head.
    pub session: Option<SessionId>,
    /// A step row of that session.
    pub step: Option<&'a str>,
    pub guard: Option<Digest>,
    /// A signal's id in that session.
    pub signal: Option<&'a str>,
    pub session_key: Option<Digest>,
    /// The row of a workflow's version: namespace, workflow, version.
    pub workflow: Option<(&'a str, &'a str, &'a str)>,
}

/// What an append would have left in its step's row.
pub(super) struct Claim {
    pub attempt: u32,
    pub state: StepState,
    pub digest: Option<Digest>,
}

impl Op {
    /// Key of the step row that the append is judged by.
    pub(super) fn row_key(&self) -> Option<&str> {
        match self {
            Op::StepCompleted(step) => Some(&step.step_key),
            Op::StepFailed(step) => Some(&step.step_key),
            Op::StepHeartbeat { step_key, .. } => Some(step_key),
            Op::GuardIntent { intent, .. } | Op::GuardStub { intent, .. } => Some(&intent.step_key),
            Op::GuardUnknown { step_key, .. } | Op::GuardFinding { step_key, .. } => Some(step_key),
            Op::ZoneEntered { zone_key, .. } | Op::ZoneAborted { zone_key, .. } => Some(zone_key),
            Op::ZoneCommitted(zone) => Some(&zone.zone_key),
            Op::ZoneFailed(zone) => Some(&zone.zone_key),
            Op::TimerStarted { step_key, .. }
            | Op::SignalAwaited { step_key, .. }
            | Op::WaitDropped { step_key } => Some(step_key),
            Op::ApprovalRequested(asked) => Some(&asked.step_key),
            Op::SpawnChild(child) => Some(&child.step_key),
            Op::CancelChild { step_key, .. } => Some(step_key),
            Op::Complete { .. } | Op::Fail { .. } | Op::Continue(_) | Op::Cancelled { .. } => Some(END_KEY),
            Op::BudgetReserved(ask) => Some(&ask.step_key),
            Op::BudgetReleased { .. } | Op::Pause { .. } => None,
        }
    }

    /// `None`: a re-sent one is not told by its row (intents and unknowns by the head, in `guard`; waits in `wait`).
    pub(super) fn claim(&self) -> Option<Claim> {
        let claim = |attempt, state, digest| Some(Claim { attempt, state, digest });
        let attempt_state = |is_final| match is_final {
            true => StepState::Failed,
            false => StepState::Retryable,
        };
        match self {
            Op::StepCompleted(step) => claim(step.attempt, StepState::Completed, Some(step.output.digest)),
            Op::StepFailed(step) => {
                let digest = Some(step.failure.digest);
                claim(step.attempt, attempt_state(step.is_final), digest)
            }
            Op::GuardFinding { attempt, finding, .. } => match finding {
                Finding::Applied(output) => claim(*attempt, StepState::Completed, Some(output.digest)),
                Finding::NotApplied(payload) => {
                    let digest = payload.as_ref().map(|payload| payload.digest);
                    claim(*attempt, StepState::Retryable, digest)
                }
                Finding::Unknown => None,
            },
            Op::ZoneEntered { attempt, .. } => claim(*attempt, StepState::Open, None),
            Op::ZoneCommitted(zone) => claim(zone.attempt, StepState::Completed, Some(zone.record.digest)),
            Op::ZoneFailed(zone) => {
                let digest = Some(zone.failure.digest);
                claim(zone.attempt, attempt_state(zone.is_final), digest)
            }
            Op::ZoneAborted { attempt, .. } => claim(*attempt, StepState::Retryable, None),
            Op::Complete { output } => claim(0, StepState::Completed, Some(output.digest)),
            Op::Fail { failure } => claim(0, StepState::Failed, Some(failure.digest)),
            Op::Continue(continued) => claim(1, StepState::Completed, Some(continued.input.digest)),
            Op::Cancelled { .. } => claim(0, StepState::Failed, None),
            Op::StepHeartbeat { .. }
            | Op::GuardIntent { .. }
            | Op::GuardStub { .. }
            | Op::GuardUnknown { .. }
            | Op::TimerStarted { .. }
            | Op::SignalAwaited { .. }
            | Op::ApprovalRequested(_)
            | Op::SpawnChild(_)
            | Op::CancelChild { .. }
            | Op::WaitDropped { .. }
            | Op::BudgetReserved(_)
            | Op::BudgetReleased { .. }
            | Op::Pause { .. } => None,
        }
    }

    /// The name that the append carries, if it carries one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Op::StepCompleted(step) => Some(&step.name),
            Op::StepFailed(step) => Some(&step.name),
            Op::GuardIntent { intent, .. } | Op::GuardStub { intent, .. } => Some(&intent.name),
            Op::ZoneEntered { name, .. } | Op::TimerStarted { name, .. } | Op::SignalAwaited { name, .. } => {
                Some(name)
            }
            Op::ApprovalRequested(asked) => Some(&asked.name),
            Op::SpawnChild(child) => Some(&child.name),
            Op::StepHeartbeat { .. }
            | Op::GuardUnknown { .. }
            | Op::GuardFinding { .. }
            | Op::ZoneCommitted(_)
            | Op::ZoneFailed(_)
            | Op::ZoneAborted { .. }
            | Op::WaitDropped { .. }
            | Op::CancelChild { .. }
            | Op::Complete { .. }
            | Op::Fail { .. }
            | Op::Continue(_)
            | Op::Cancelled { .. }
            | Op::BudgetReserved(_)
            | Op::BudgetReleased { .. }
            | Op::Pause { .. } => None,
        }
    }

    /// The step key that the append carries, if it carries one.
    pub(super) fn step_key(&self) -> Option<&str> {
        match self {
            Op::Complete { .. } | Op::Fail { .. } | Op::Continue(_) | Op::Cancelled { .. } => None,
            Op::Pause { step_key, .. } => step_key.as_deref(),
            Op::BudgetReleased { step_key, .. } => Some(step_key),
            Op::StepCompleted(_)
            | Op::StepFailed(_)
            | Op::StepHeartbeat { .. }
            | Op::GuardIntent { .. }
            | Op::GuardStub { .. }
            | Op::GuardUnknown { .. }
            | Op::GuardFinding { .. }
            | Op::ZoneEntered { .. }
            | Op::ZoneCommitted(_)
            | Op::ZoneFailed(_)
            | Op::BudgetReserved(_)
            | Op::ZoneAborted { .. }
            | Op::TimerStarted { .. }
            | Op::SignalAwaited { .. }
            | Op::ApprovalRequested(_)
            | Op::SpawnChild(_)
            | Op::CancelChild { .. }
            | Op::WaitDropped { .. } => self.row_key(),
        }
    }
}

impl Start {
    fn lookups(&self) -> Lookups<'_> {
        Lookups {
            session: Some(self.session),
            session_key: self.key.as_ref().map(|key| key.digest),
            workflow: (!self.system && self.descent.is_none()).then_some((
                &self.namespace,
                &self.workflow,
                &self.version,
            )),
            ..Lookups::default()
        }
    }
}

impl Command {
    /// What the command looks up, to be fetched before it is queued.
    #[must_use]
    pub fn lookups(&self) -> Lookups<'_> {
        let of = |session| Lookups { session: Some(session), ..Lookups::default() };
        match self {
            Self::Start(start) => start.lookups(),
            Self::Import(sent) => sent.start.lookups(),
            Self::RegisterWorkflow(RegisterWorkflow { session, namespace, code, .. }) => {
                Lookups { workflow: Some((namespace, &code.workflow, &code.version)), ..of(*session) }
            }
            Self::DrainWorkflow(DrainWorkflow { session, namespace, drained, .. }) => {
                Lookups { workflow: Some((namespace, &drained.workflow, &drained.version)), ..of(*session) }
            }
            Self::Fork(fork) => {
                Lookups { session_key: fork.key.as_ref().map(|key| key.digest), ..of(fork.session) }
            }
            Self::Accept(accept) => of(accept.session),
            Self::Append(append) => Lookups {
                step: append.op.row_key(),
                guard: match &append.op {
                    Op::GuardIntent { guard, .. } => Some(guard.digest),
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
                    | Op::SpawnChild(_)
                    | Op::CancelChild { .. }
                    | Op::WaitDropped { .. }
                    | Op::Complete { .. }
                    | Op::Fail { .. }
                    | Op::Continue(_)
                    | Op::Cancelled { .. }
                    | Op::BudgetReserved(_)
                    | Op::BudgetReleased { .. }
                    | Op::Pause { .. } => None,
                },
                ..of(append.session)
            },
            Self::Acquire(acquire) => of(acquire.session),
            Self::Evidence(evidence) => of(evidence.session),
            Self::Resolve(resolve) => of(resolve.session),
            Self::SetLabels(set) => of(set.session),
            Self::ReleaseHold(release) => of(release.session),
            Self::Signal(signal) => Lookups { signal: signal.id.as_deref(), ..of(signal.session) },
            Self::DecideApproval(decided) => Lookups { step: Some(&decided.step_key), ..of(decided.session) },
            Self::Resume(resume) => of(resume.session),
            Self::Pause(pause) => of(pause.session),
            Self::Cancel(cancel) | Self::Terminate(cancel) => of(cancel.session),
            Self::RaiseBudget(raise) => of(raise.session),
            Self::ForgetKeys(keys) => of(keys.session),
            Self::Release { session, .. }
            | Self::ChildEnded { session, .. }
            | Self::IntentDue { session, .. }
            | Self::WaitDue { session, .. }
            | Self::BudgetDue { session }
            | Self::CreateToken { session, .. }
            | Self::RevokeToken { session, .. } => of(*session),
            Self::PutContext(put) => of(put.session),
            Self::Archive(asked) => of(asked.system),
        }
    }
}
