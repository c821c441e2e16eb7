//! What can happen to a session. Owns the vocabulary of the Cognitive Graph; never touches payload bytes.
//!
//! 1. An event is immutable; what it says of its payloads is format, size and digest.
//! 2. `Body::payloads` names the payloads in the order in which inline bytes follow a stored header.
//! 3. Nothing here is optional because of age: a new kind of event is a new variant, and every match over `Body`
//!    must then say what it does with it.

use std::sync::Arc;

use super::archive::ArchiveEvent;
use super::budget::{Amounts, BudgetStart, Limits};
use super::ids::{
    DedupeId, Digest, Epoch, Hash, Incarnation, InstanceId, LineageId, Namespace, NanoDollars, Seq,
    SessionId, StepKey, TimeMs, TokenId,
};

/// How the bytes of a payload are to be read; the engine never reads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Value,
    Json,
    Bytes,
    Failure,
    LlmRequest,
    LlmResponse,
    StateDelta,
    ConversationDelta,
    ZoneRecord,
    /// What a prompt was made of.
    Context,
}

/// What an event says of one of its payloads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayloadRef {
    pub format: Format,
    /// Name of the caller's own codec; empty: none.
    pub codec: Arc<str>,
    /// Bytes of the content, before compression.
    pub size: u64,
    /// Keyed with the lineage's salt, over the content before compression.
    pub digest: Digest,
    /// True if the bytes follow the event's header; false: they lie beside it as chunks.
    pub inline: bool,
}

/// One event: header fields and what happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub seq: Seq,
    /// max(previous, wall clock).
    pub time: TimeMs,
    pub author: Author,
    pub after: Option<After>,
    pub state_delta: Option<PayloadRef>,
    pub conversation_delta: Option<PayloadRef>,
    pub body: Body,
}

/// An event with its place in the hash chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chained {
    pub event: Event,
    /// Hash over the previous hash and this event's header bytes.
    pub hash: Hash,
}

/// Who appended an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Author {
    /// The run holding the lease of this epoch.
    Worker(Epoch),
    /// A client; `None`: it did not ask for idempotence.
    Client(Option<DedupeId>),
    /// A driver (lease expiry, intent expiry).
    Driver,
    /// An operator; `None`: it did not ask for idempotence.
    Operator(Option<DedupeId>),
}

/// What the run had seen when it asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct After {
    /// Last outcome delivered; it stands for all earlier ones.
    pub seq: Seq,
    /// Requests the run had made before that delivery.
    pub requests: u32,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    SessionStarted(SessionStarted),
    LeaseGranted(LeaseGranted),
    LeaseReleased {
        epoch: Epoch,
        reason: ReleaseReason,
    },
    SessionPaused {
        reason: PauseReason,
        step_key: Option<StepKey>,
        details: Option<PayloadRef>,
    },
    /// `retry`: failed steps get a fresh round of attempts.
    SessionResumed {
        by: Arc<str>,
        retry: bool,
    },
    SessionCompleted {
        output: PayloadRef,
    },
    SessionFailed {
        failure: PayloadRef,
    },
    SessionCancelled(SessionCancelled),
    SessionContinued(SessionContinued),
    CancelRequested {
        reason: Arc<str>,
        by: Arc<str>,
    },
    /// A fork begins with another input or outcome than its parent had.
    ForkEdited(ForkEdited),
    /// What a run asked for stands in place of what was recorded.
    DivergenceAccepted(DivergenceAccepted),
    StepCompleted(StepCompleted),
    StepFailed(StepFailed),
    /// How far an attempt is; the last one is what the attempt after it starts from.
    StepHeartbeat {
        step_key: StepKey,
        attempt: u32,
        details: PayloadRef,
    },
    GuardIntent(GuardIntent),
    GuardUnknown {
        step_key: StepKey,
        attempt: u32,
        reason: UnknownReason,
        failure: Option<PayloadRef>,
    },
    GuardResolved(GuardResolved),
    ZoneEntered {
        zone_key: StepKey,
        name: Arc<str>,
        attempt: u32,
        input_digest: Option<Digest>,
    },
    ZoneCommitted(ZoneCommitted),
    ZoneFailed(ZoneFailed),
    ZoneRolledBack(ZoneRolledBack),
    TimerStarted {
        step_key: StepKey,
        name: Arc<str>,
        due: TimeMs,
    },
    TimerFired {
        step_key: StepKey,
    },
    SignalReceived(SignalReceived),
    /// `due`: when it is waited for no longer; `None`: never.
    SignalAwaited {
        step_key: StepKey,
        name: Arc<str>,
        due: Option<TimeMs>,
    },
    /// `signal`: the `SignalReceived`; `None`: the time ran out.
    SignalDelivered {
        step_key: StepKey,
        signal: Option<Seq>,
    },
    /// The run does not want the wait any more.
    WaitDropped {
        step_key: StepKey,
    },
    ApprovalRequested(ApprovalRequested),
    ApprovalDecided(ApprovalDecided),
    ChildSpawned(ChildSpawned),
    ChildEnded(ChildEnded),
    ChildCancelRequested {
        step_key: StepKey,
        reason: Arc<str>,
    },
    BudgetReserved {
        step_key: StepKey,
        attempt: u32,
        call: u32,
        amounts: Amounts,
    },
    BudgetRaised {
        limits: Limits,
        by: Arc<str>,
    },
    BudgetReleased {
        step_key: StepKey,
        attempt: u32,
    },
    LabelsSet(LabelsSet),
    /// Nothing goes on by itself after a restore; now this session may.
    SessionReleased {
        incarnation: Incarnation,
        by: Arc<str>,
    },
    TokenCreated(TokenCreated),
    TokenRevoked {
        token: TokenId,
    },
    WorkflowRegistered(WorkflowRegistered),
    WorkflowDrained(WorkflowDrained),
    /// The archive did something (system sessions).
    Archive(ArchiveEvent),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionStarted {
    pub session: SessionId,
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    /// 0 without a key.
    pub generation: u32,
    /// The caller's key, as a payload because it may be personal and must be erasable.
    pub key: Option<PayloadRef>,
    pub input: PayloadRef,
    pub lineage: LineageId,
    pub root: SessionId,
    /// Where a fork was cut.
    pub forked_from: Option<ForkedFrom>,
    pub budget: BudgetStart,
    /// The engine's own session of a namespace: tokens, claims, archive commits.
    pub system: bool,
    /// The spawn that this session is the child of.
    pub parent: Option<Parent>,
    /// Top of the tree; the session itself if nobody spawned it.
    pub top: SessionId,
    /// Sessions between it and the top.
    pub depth: u32,
    /// The session that this one continues.
    pub continued_from: Option<SessionId>,
    pub labels: Labels,
    /// Incarnation of the ledger it began under; `None`: from before they were kept.
    pub incarnation: Option<Incarnation>,
    /// When it is cancelled if it has not ended.
    pub deadline: Option<TimeMs>,
}

/// Labels by key, sorted, each key once.
pub type Labels = Vec<(Arc<str>, Arc<str>)>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelsSet {
    /// Set or changed.
    pub set: Labels,
    /// Keys removed.
    pub removed: Vec<Arc<str>>,
    /// A token's name.
    pub by: Arc<str>,
}

/// The spawn that a session is the child of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parent {
    pub session: SessionId,
    /// Step key of the spawn.
    pub step_key: StepKey,
    /// The child goes on when its parent ends or is cancelled.
    pub abandoned: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionCancelled {
    pub reason: Arc<str>,
    /// A token's name, or "parent".
    pub by: Arc<str>,
    /// At once, without the run's doing.
    pub terminated: bool,
    /// Guarded steps that were called and whose outcome nobody will say any more.
    pub unknown: Vec<StepKey>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildSpawned {
    pub step_key: StepKey,
    pub name: Arc<str>,
    pub child: SessionId,
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    pub input: PayloadRef,
    pub input_digest: Option<Digest>,
    /// It goes on when its parent ends or is cancelled.
    pub abandoned: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildEnded {
    /// Of the spawn.
    pub step_key: StepKey,
    pub child: SessionId,
    /// The child, or the last of the sessions that continued it.
    pub ended: SessionId,
    pub end: ChildEnd,
}

/// How a child ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChildEnd {
    Completed(PayloadRef),
    Failed(PayloadRef),
    /// Why, in words.
    Cancelled(Arc<str>),
}

impl ChildEnd {
    /// Result or failure, by value.
    #[must_use]
    pub fn payload(&self) -> Option<&PayloadRef> {
        match self {
            Self::Completed(payload) | Self::Failed(payload) => Some(payload),
            Self::Cancelled(_) => None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionContinued {
    pub successor: SessionId,
    pub version: Arc<str>,
    pub input: PayloadRef,
    /// State it begins with, whole.
    pub state: Option<PayloadRef>,
    /// Conversation it begins with, whole.
    pub conversation: Option<PayloadRef>,
}

/// Where a fork was cut: its own events continue the parent's up to `seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForkedFrom {
    pub parent: SessionId,
    /// Last event of the parent that the fork has.
    pub seq: Seq,
    /// Guarded effects are performed; false: they take what the lineage recorded, or pause.
    pub live: bool,
}

/// What is different in a fork.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForkEdited {
    pub edit: Edit,
    /// The parent's outcome that it stands for.
    pub replaces: Option<Seq>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    Input(PayloadRef),
    Output { step_key: StepKey, output: PayloadRef },
    Failure { step_key: StepKey, failure: PayloadRef },
}

/// What a run asked for stands in place of what was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DivergenceAccepted {
    pub step_key: StepKey,
    /// Of the input that the run asked with; `None`: it asked without.
    pub input_digest: Option<Digest>,
    /// The run need not ask for the step.
    pub drop: bool,
    pub by: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseGranted {
    pub epoch: Epoch,
    pub instance: InstanceId,
    pub takeover: bool,
    pub incarnation: Incarnation,
}

/// Why a lease was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReleaseReason {
    Unsaid,
    Shutdown,
    Suspended,
    Unable,
    /// All that the run could go on with are its open waits.
    Waiting,
}

/// Why a session is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PauseReason {
    Requested,
    EffectUnknown,
    Nondeterminism,
    RetriesExhausted,
    Budget,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepCompleted {
    pub step_key: StepKey,
    pub name: Arc<str>,
    pub attempt: u32,
    /// Keyed with the lineage's salt at the edge; `None`: the step has no input.
    pub input_digest: Option<Digest>,
    pub input: Option<PayloadRef>,
    pub output: PayloadRef,
    pub llm: Option<LlmCall>,
    pub resources: Vec<Resource>,
    pub cost: NanoDollars,
    pub duration_us: u64,
    /// Owner of the outcome this was taken over from.
    pub deduplicated_from: Option<(SessionId, Seq)>,
    pub guarded: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepFailed {
    pub step_key: StepKey,
    pub name: Arc<str>,
    pub attempt: u32,
    pub input_digest: Option<Digest>,
    pub failure: PayloadRef,
    /// True if this is the step's outcome.
    pub is_final: bool,
    pub retry_at: Option<TimeMs>,
    pub usage: Option<Usage>,
    pub duration_us: u64,
    pub guarded: bool,
}

/// A model call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LlmCall {
    pub request: Option<PayloadRef>,
    pub response: Option<PayloadRef>,
    pub usage: Usage,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub provider: Arc<str>,
    pub model: Arc<str>,
    pub input_tokens: u64,
    pub cached_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
    pub estimated: bool,
    /// `None`: the price is unknown, which is not zero.
    pub cost: Option<NanoDollars>,
    pub price_date: Arc<str>,
}

/// Something outside that a step touched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    pub kind: Arc<str>,
    pub id: Arc<str>,
    pub mode: ResourceMode,
    pub range: Arc<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResourceMode {
    Read,
    Write,
    Delete,
    Run,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardIntent {
    pub step_key: StepKey,
    pub name: Arc<str>,
    pub attempt: u32,
    pub input_digest: Digest,
    pub attempt_ms: u64,
    pub grace_ms: u64,
    pub policy: GuardPolicy,
    pub idempotency_key: PayloadRef,
}

/// What happens to a guarded effect whose outcome stays unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuardPolicy {
    Pause,
    Fail,
    Retry,
    Reconcile,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownReason {
    Threw,
    TimedOut,
    Aborted,
    /// Attempt time and grace are over and nothing was heard: the policy decides now.
    NoOutcome,
    /// Attempt time and grace are over after an earlier report: the policy decides now.
    GraceOver,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardResolved {
    pub step_key: StepKey,
    pub attempt: u32,
    pub resolution: Resolution,
    /// "policy", "tool", "reconcile" or a token's name.
    pub by: Arc<str>,
}

/// How an attempt was resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// The effect happened; this is the step's outcome.
    Output(PayloadRef),
    /// The step fails; `None`: the policy failed it with code `effect_unknown`.
    Failure(Option<PayloadRef>),
    /// The effect did not happen: another attempt may start.
    NotApplied(Option<PayloadRef>),
    /// The tool honours the key: another attempt may start.
    Retry,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneCommitted {
    pub zone_key: StepKey,
    pub attempt: u32,
    pub output: Option<PayloadRef>,
    pub record: PayloadRef,
    pub llm_calls: Vec<LlmCall>,
    pub duration_us: u64,
    pub cost: NanoDollars,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneFailed {
    pub zone_key: StepKey,
    pub attempt: u32,
    pub failure: PayloadRef,
    pub is_final: bool,
    pub usage: Vec<Usage>,
    pub retry_at: Option<TimeMs>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneRolledBack {
    pub zone_key: StepKey,
    pub attempt: u32,
    pub reason: RollbackReason,
    pub evidence_bytes: u64,
    pub wasted_tokens: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RollbackReason {
    Takeover,
    Abort,
}

/// A signal came from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignalReceived {
    pub name: Arc<str>,
    /// As its sender chose it; `None`: it did not ask for idempotence.
    pub id: Option<Arc<str>>,
    pub value: PayloadRef,
    /// Name of the token that sent it.
    pub by: Arc<str>,
}

/// The run asks for an approval of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalRequested {
    pub step_key: StepKey,
    pub name: Arc<str>,
    /// {toolCall, args}, for whoever decides.
    pub call: PayloadRef,
    /// Of the canonical arguments, as the run sent it; a decision must name it.
    pub args_digest: Digest,
    /// `None`: it never expires.
    pub due: Option<TimeMs>,
}

/// An approval was decided or expired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalDecided {
    pub step_key: StepKey,
    pub decision: ApprovalDecision,
    /// Who decided; empty: it expired.
    pub by: Arc<str>,
    pub comment: Option<PayloadRef>,
}

/// How an approval was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApprovalDecision {
    Approved,
    Rejected,
    /// Nobody decided in time.
    Expired,
}

/// What a token may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    Worker,
    Client,
    Compactor,
    Viewer,
    Admin,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenCreated {
    pub token: TokenId,
    pub name: Arc<str>,
    pub role: Role,
    /// "*": all.
    pub namespace: Namespace,
    pub expires: Option<TimeMs>,
    /// blake3 of the secret, under which the token is looked up; the secret itself is never stored.
    pub secret_hash: Digest,
}

/// Code of a version, as a worker brings it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkflowRegistered {
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    /// Earlier versions whose sessions it goes on with.
    pub compatible: Vec<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkflowDrained {
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    /// False: not any more.
    pub draining: bool,
    pub by: Arc<str>,
}

impl Event {
    /// The event's payloads, in the order in which inline bytes follow its stored header.
    pub fn payloads(&self) -> Vec<&PayloadRef> {
        let mut refs: Vec<&PayloadRef> = Vec::new();
        refs.extend(&self.state_delta);
        refs.extend(&self.conversation_delta);
        self.body.payloads(&mut refs);
        refs
    }
}

impl Body {
    fn payloads<'a>(&'a self, refs: &mut Vec<&'a PayloadRef>) {
        match self {
            Self::SessionStarted(started) => {
                refs.extend(&started.key);
                refs.push(&started.input);
            }
            Self::SessionPaused { details, .. } => refs.extend(details),
            Self::SessionCompleted { output } => refs.push(output),
            Self::SessionFailed { failure } => refs.push(failure),
            Self::SessionContinued(continued) => {
                refs.push(&continued.input);
                refs.extend(&continued.state);
                refs.extend(&continued.conversation);
            }
            Self::ChildSpawned(child) => refs.push(&child.input),
            Self::ChildEnded(ended) => refs.extend(ended.end.payload()),
            Self::StepCompleted(step) => {
                refs.extend(&step.input);
                refs.push(&step.output);
                refs.extend(step.llm.iter().flat_map(LlmCall::payloads));
            }
            Self::StepFailed(step) => refs.push(&step.failure),
            Self::StepHeartbeat { details, .. } => refs.push(details),
            Self::GuardIntent(intent) => refs.push(&intent.idempotency_key),
            Self::GuardUnknown { failure, .. } => refs.extend(failure),
            Self::GuardResolved(resolved) => refs.extend(resolved.resolution.payload()),
            Self::ZoneCommitted(zone) => {
                refs.extend(&zone.output);
                refs.push(&zone.record);
                refs.extend(zone.llm_calls.iter().flat_map(LlmCall::payloads));
            }
            Self::ZoneFailed(zone) => refs.push(&zone.failure),
            Self::ForkEdited(edited) => refs.push(edited.edit.payload()),
            Self::SignalReceived(signal) => refs.push(&signal.value),
            Self::ApprovalRequested(request) => refs.push(&request.call),
            Self::ApprovalDecided(decided) => refs.extend(&decided.comment),
            Self::TimerStarted { .. }
            | Self::TimerFired { .. }
            | Self::SignalAwaited { .. }
            | Self::SignalDelivered { .. }
            | Self::WaitDropped { .. }
            | Self::LeaseGranted(_)
            | Self::LeaseReleased { .. }
            | Self::SessionResumed { .. }
            | Self::SessionCancelled(_)
            | Self::CancelRequested { .. }
            | Self::ChildCancelRequested { .. }
            | Self::ZoneEntered { .. }
            | Self::ZoneRolledBack(_)
            | Self::BudgetReserved { .. }
            | Self::BudgetRaised { .. }
            | Self::BudgetReleased { .. }
            | Self::LabelsSet(_)
            | Self::SessionReleased { .. }
            | Self::TokenCreated(_)
            | Self::TokenRevoked { .. }
            | Self::WorkflowRegistered(_)
            | Self::WorkflowDrained(_)
            | Self::Archive(_)
            | Self::DivergenceAccepted(_) => {}
        }
    }
}

impl Edit {
    /// The step whose outcome it is; `None`: the session's input.
    #[must_use]
    pub fn step_key(&self) -> Option<&StepKey> {
        match self {
            Self::Input(_) => None,
            Self::Output { step_key, .. } | Self::Failure { step_key, .. } => Some(step_key),
        }
    }

    /// The payload it brings.
    #[must_use]
    pub fn payload(&self) -> &PayloadRef {
        match self {
            Self::Input(payload)
            | Self::Output { output: payload, .. }
            | Self::Failure { failure: payload, .. } => payload,
        }
    }
}

impl LlmCall {
    fn payloads(&self) -> impl Iterator<Item = &PayloadRef> {
        self.request.iter().chain(&self.response)
    }
}

impl Resolution {
    /// The payload the resolution carries.
    pub fn payload(&self) -> Option<&PayloadRef> {
        match self {
            Self::Output(output) => Some(output),
            Self::Failure(failure) | Self::NotApplied(failure) => failure.as_ref(),
            Self::Retry => None,
        }
    }
}
