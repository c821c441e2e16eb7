//! What callers ask for. Everything a decision needs that is not in the ledger (time, ids, digests, facts about
//! leases) is minted at the edge and carried here, so that `decide` stays a function of its arguments.

use std::sync::Arc;

use super::archive::ArchiveCommand;
use super::budget::{Ask, BudgetStart, Raise};
use super::context::PutContext;
use super::event::{
    After, ApprovalDecision, Author, ChildEnded, ChildSpawned, ForkEdited, GuardIntent, GuardPolicy, Labels,
    LabelsSet, LeaseGranted, Parent, PauseReason, PayloadRef, ReleaseReason, Resolution, SessionContinued,
    StepCompleted, StepFailed, TokenCreated, UnknownReason, WorkflowDrained, WorkflowRegistered,
    ZoneCommitted, ZoneFailed,
};
use super::ids::{
    DedupeId, Digest, Epoch, Incarnation, InstanceId, LineageId, Namespace, Seq, SessionId, StepKey, TimeMs,
    TokenId,
};
use super::session::{Head, StepRow};

/// A request to change one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Start(Start),
    /// Takes in a session that was run elsewhere.
    Import(Box<Import>),
    /// Takes a free or expired lease, or re-attaches.
    Acquire(Acquire),
    /// Gives a lease back; open zones are rolled back.
    Release {
        session: SessionId,
        epoch: Epoch,
        reason: ReleaseReason,
        /// With `ReleaseReason::Waiting`: the last event the run had been sent.
        seen: Seq,
    },
    /// An append of the run that holds the lease.
    Append(Append),
    /// Keeps what a zone streamed; becomes no event.
    Evidence(Evidence),
    /// Attempt time and grace of an intent are over.
    IntentDue {
        session: SessionId,
        step_key: StepKey,
        attempt: u32,
    },
    /// The retention of a session's idempotency keys is over; becomes no event.
    ForgetKeys(ForgetKeys),
    /// A timer fires, or what is waited for did not come in time. `seq` opened the wait.
    WaitDue {
        session: SessionId,
        seq: Seq,
    },
    /// A client sends a signal.
    Signal(Signal),
    /// A person or program decides an approval.
    DecideApproval(DecideApproval),
    /// A person or program resolves a guarded step.
    Resolve(Resolve),
    /// Starts a session that goes on from the middle of another one.
    Fork(Box<Fork>),
    /// Accepts what a run asked for in place of what was recorded, and resumes.
    Accept(Accept),
    Resume(Resume),
    /// A client or operator pauses a session.
    Pause(Pause),
    /// Asks a session to cancel: its run cleans up and ends it.
    Cancel(Cancel),
    /// Ends a session at once.
    Terminate(Cancel),
    /// A child of the session has ended.
    ChildEnded {
        session: SessionId,
        ended: ChildEnded,
    },
    /// An operator raises a budget.
    RaiseBudget(Raise),
    /// The wall time of a session's budget is over.
    BudgetDue {
        session: SessionId,
    },
    SetLabels(SetLabels),
    /// Lets a session go on after a restore.
    ReleaseHold(ReleaseHold),
    CreateToken {
        session: SessionId,
        token: TokenCreated,
    },
    RevokeToken {
        session: SessionId,
        token: TokenId,
    },
    /// A worker brings code of a version.
    RegisterWorkflow(RegisterWorkflow),
    /// Drains a version, or undoes it.
    DrainWorkflow(DrainWorkflow),
    /// What the archive does.
    Archive(ArchiveCommand),
    /// A compactor stores a session's context; becomes no event.
    PutContext(PutContext),
}

/// Starts a session, or finds the one its key names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Freshly minted; used only if a session is created.
    pub session: SessionId,
    pub lineage: LineageId,
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    pub input: PayloadRef,
    pub key: Option<StartKey>,
    pub if_ended_restart: bool,
    pub system: bool,
    /// Takes the lease in the same frame.
    pub lease: Option<LeaseRequest>,
    pub dedupe: Option<DedupeId>,
    /// Where it comes from; `None`: from a client, at the top of a tree of its own.
    pub descent: Option<Descent>,
    /// Its own limits and the budgets of its parent.
    pub budget: BudgetStart,
    pub labels: Labels,
    /// The ledger's present one.
    pub incarnation: Incarnation,
    /// Time the session has; `None`: as long as it takes.
    pub timeout_ms: Option<u64>,
}

/// Takes in a session that was run elsewhere and has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// Its start, by key and without a lease.
    pub start: Start,
    /// When it started there.
    pub started: TimeMs,
    /// Its outcomes, in order.
    pub steps: Vec<ImportedStep>,
    pub output: PayloadRef,
    /// Written to the conversation after the last step.
    pub conversation_delta: Option<PayloadRef>,
    /// When it ended there.
    pub ended: TimeMs,
}

/// A step of an imported session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportedStep {
    /// When it completed there.
    pub time: TimeMs,
    pub done: StepCompleted,
    pub conversation_delta: Option<PayloadRef>,
}

/// A worker brings code of a version, or leaves with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterWorkflow {
    /// The namespace's system session.
    pub session: SessionId,
    pub namespace: Namespace,
    pub code: WorkflowRegistered,
    /// True: the worker that brought it leaves.
    pub leaving: bool,
}

/// Drains a version, or undoes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrainWorkflow {
    /// The namespace's system session.
    pub session: SessionId,
    pub namespace: Namespace,
    pub drained: WorkflowDrained,
    pub dedupe: Option<DedupeId>,
}

/// Changes a session's labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetLabels {
    pub session: SessionId,
    pub labels: LabelsSet,
    pub dedupe: Option<DedupeId>,
}

/// Lets a session go on after a restore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleaseHold {
    pub session: SessionId,
    /// The ledger's present one.
    pub incarnation: Incarnation,
    pub by: Arc<str>,
    pub dedupe: Option<DedupeId>,
}

/// Where a session comes from that no client starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descent {
    /// The spawn that it is the child of; a successor has its predecessor's.
    pub parent: Option<Parent>,
    pub top: SessionId,
    pub depth: u32,
    /// The session that it continues, under the same key.
    pub continues: Option<SessionId>,
    /// State that it begins with.
    pub state: Option<PayloadRef>,
    /// Conversation that it begins with.
    pub conversation: Option<PayloadRef>,
}

/// Starts a session that goes on from the middle of another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// Freshly minted; used only if the fork is created.
    pub session: SessionId,
    /// The parent's head at the cut: the fold of its events up to there.
    pub base: Arc<Head>,
    /// Version to pin.
    pub version: Arc<str>,
    /// The parent's, or the edited one.
    pub input: PayloadRef,
    pub live: bool,
    pub edits: Vec<ForkEdited>,
    /// What the parent's open intents came to after the cut; one that is not here is unknown.
    pub later: Vec<(StepKey, Resolution)>,
    /// How the children ended that were open at the cut: as the parent was told later, or as lost.
    pub children: Vec<ChildEnded>,
    /// Rows of steps that had no outcome at the cut.
    pub inherited: Arc<[(StepKey, StepRow)]>,
    pub key: Option<StartKey>,
    pub dedupe: Option<DedupeId>,
    /// The ledger's present one.
    pub incarnation: Incarnation,
}

/// Accepts what a run asked for in place of what was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accept {
    pub session: SessionId,
    /// The step the session is paused for.
    pub step_key: StepKey,
    /// Of the input that the run asked with; `None`: it asked without.
    pub input_digest: Option<Digest>,
    /// The run need not ask for the step.
    pub drop: bool,
    /// Further steps it need not ask for.
    pub also_drop: Vec<StepKey>,
    pub by: Arc<str>,
    pub dedupe: Option<DedupeId>,
}

/// A session key, as the ledger looks it up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartKey {
    /// Over (workflow, key), keyed with the namespace's salt.
    pub digest: Digest,
    /// Of the canonical input, keyed with the namespace's salt.
    pub input_digest: Digest,
    pub payload: PayloadRef,
}

/// Who asks for a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseRequest {
    pub instance: InstanceId,
    pub incarnation: Incarnation,
    /// The holder, as the edge saw it, if it was not heard of within the TTL or said goodbye; its lease may be taken.
    /// Named, not flagged: until this is decided the lease may have gone to another holder, who is alive.
    pub dead: Option<InstanceId>,
    /// Evidence of the session's open zones, for the accounting of a takeover.
    pub evidence: Vec<EvidenceTotal>,
}

/// Takes a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acquire {
    pub session: SessionId,
    pub lease: LeaseRequest,
    /// Epoch held before a lost connection.
    pub held: Option<Epoch>,
    /// Version the worker would run; `None`: not compared (thin clients).
    pub version: Option<Arc<str>>,
}

/// How much evidence a zone attempt has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceTotal {
    pub zone_key: StepKey,
    pub bytes: u64,
    pub tokens: u64,
}

/// An append of the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    pub session: SessionId,
    pub epoch: Epoch,
    pub after: Option<After>,
    pub state_delta: Option<PayloadRef>,
    pub conversation_delta: Option<PayloadRef>,
    pub op: Op,
}

/// What a run appends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    StepCompleted(StepCompleted),
    StepFailed(StepFailed),
    StepHeartbeat {
        step_key: StepKey,
        attempt: u32,
        details: PayloadRef,
    },
    GuardIntent {
        intent: GuardIntent,
        guard: GuardKey,
        /// What another step or session recorded under the key, copied by value by whoever submits it.
        taken: Option<Taken>,
    },
    GuardUnknown {
        step_key: StepKey,
        attempt: u32,
        reason: UnknownReason,
        failure: Option<PayloadRef>,
    },
    /// The tool threw `NotApplied` (`by` "tool"), or reconciliation found something (`by` "reconcile").
    GuardFinding {
        step_key: StepKey,
        attempt: u32,
        finding: Finding,
        by: Arc<str>,
    },
    ZoneEntered {
        zone_key: StepKey,
        name: Arc<str>,
        attempt: u32,
        input_digest: Option<Digest>,
    },
    ZoneCommitted(ZoneCommitted),
    ZoneFailed(ZoneFailed),
    ZoneAborted {
        zone_key: StepKey,
        attempt: u32,
        evidence_bytes: u64,
        wasted_tokens: u64,
    },
    TimerStarted {
        step_key: StepKey,
        name: Arc<str>,
        fires: Fires,
    },
    SignalAwaited {
        step_key: StepKey,
        name: Arc<str>,
        /// `None`: for ever.
        timeout_ms: Option<u64>,
    },
    ApprovalRequested(ApprovalAsked),
    WaitDropped {
        step_key: StepKey,
    },
    Complete {
        output: PayloadRef,
    },
    Fail {
        failure: PayloadRef,
    },
    /// A guarded step of a fork that performs nothing: what the lineage recorded under its key. Made at the edge.
    GuardStub {
        intent: GuardIntent,
        outcome: StubOutcome,
    },
    /// A child, freshly minted, is spawned.
    SpawnChild(ChildSpawned),
    CancelChild {
        step_key: StepKey,
        reason: Arc<str>,
    },
    /// The session ends and `successor`, freshly minted, continues it. An empty version: the session's own.
    Continue(SessionContinued),
    /// The session was asked to cancel, has cleaned up and ends.
    Cancelled {
        reason: Arc<str>,
    },
    BudgetReserved(Ask),
    /// A reserved call was not made.
    BudgetReleased {
        step_key: StepKey,
        attempt: u32,
    },
    Pause {
        reason: PauseReason,
        step_key: Option<StepKey>,
        details: Option<PayloadRef>,
    },
}

/// When a timer fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fires {
    /// So many milliseconds after the ledger time of its event.
    After(u64),
    /// At this ledger time.
    At(TimeMs),
}

/// A run asks for an approval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalAsked {
    pub step_key: StepKey,
    pub name: Arc<str>,
    pub call: PayloadRef,
    pub args_digest: Digest,
    /// `None`: it never expires.
    pub expires_in_ms: Option<u64>,
}

/// A signal for a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    pub session: SessionId,
    pub name: Arc<str>,
    /// Makes it idempotent for the session's life.
    pub id: Option<Arc<str>>,
    pub value: PayloadRef,
    /// Name of the token.
    pub by: Arc<str>,
}

/// Decides an approval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecideApproval {
    pub session: SessionId,
    pub step_key: StepKey,
    pub decision: ApprovalDecision,
    pub comment: Option<PayloadRef>,
    /// Of the arguments that were shown to the approver.
    pub args_digest: Digest,
    pub by: Arc<str>,
    pub dedupe: Option<DedupeId>,
}

/// What a lineage recorded of a guarded step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StubOutcome {
    /// The session and event that have it.
    pub from: (SessionId, Seq),
    /// Its output, or its failure.
    pub result: Result<PayloadRef, PayloadRef>,
}

impl Op {
    /// The session that the append names and that does not exist yet: whoever submits it mints the id.
    pub fn to_mint(&mut self) -> Option<&mut SessionId> {
        match self {
            Self::Continue(continued) => Some(&mut continued.successor),
            Self::SpawnChild(child) => Some(&mut child.child),
            Self::StepCompleted(_)
            | Self::GuardStub { .. }
            | Self::StepFailed(_)
            | Self::StepHeartbeat { .. }
            | Self::GuardIntent { .. }
            | Self::GuardUnknown { .. }
            | Self::GuardFinding { .. }
            | Self::ZoneEntered { .. }
            | Self::ZoneCommitted(_)
            | Self::ZoneFailed(_)
            | Self::ZoneAborted { .. }
            | Self::TimerStarted { .. }
            | Self::SignalAwaited { .. }
            | Self::ApprovalRequested(_)
            | Self::WaitDropped { .. }
            | Self::Complete { .. }
            | Self::Fail { .. }
            | Self::CancelChild { .. }
            | Self::Cancelled { .. }
            | Self::BudgetReserved(_)
            | Self::BudgetReleased { .. }
            | Self::Pause { .. } => None,
        }
    }
}

/// An idempotency key, as the ledger looks it up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardKey {
    /// Over (step name, key), keyed with the namespace's salt.
    pub digest: Digest,
    /// Of the canonical input, keyed with the namespace's salt.
    pub input_digest: Digest,
    /// blake3 of the step's key.
    pub step_key_hash: [u8; 32],
    /// While the key is in flight elsewhere: refuse instead of saying when to ask again.
    pub refuse_in_flight: bool,
    /// What the key has recorded can be read nowhere any more.
    pub output_gone: bool,
    /// Digest of the key that the step's earlier attempts used, if they used one.
    pub former: Option<Digest>,
}

/// What an ended session's idempotency keys have recorded and is to be dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForgetKeys {
    pub session: SessionId,
    /// When their retention is over.
    pub due: TimeMs,
    /// The event that ended the session.
    pub seq: Seq,
    /// Rows to drop.
    pub rows: Vec<KeptRow>,
    /// There are no others.
    pub last: bool,
}

/// A row that an idempotency key has beside the lineage of its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptRow {
    /// blake3 of the owning step's key.
    pub step_key_hash: [u8; 32],
    pub part: u32,
    /// The key, where the row names it.
    pub key: Option<Digest>,
}

/// An output that another step or session recorded under an idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    pub from: (SessionId, Seq),
    pub output: PayloadRef,
}

/// What a run found out about an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    Applied(PayloadRef),
    NotApplied(Option<PayloadRef>),
    Unknown,
}

/// Keeps what a zone streamed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    pub session: SessionId,
    pub epoch: Epoch,
    pub zone_key: StepKey,
    pub attempt: u32,
    /// First byte within the attempt.
    pub offset: u64,
    pub bytes: u64,
}

/// Resolves a guarded step from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolve {
    pub session: SessionId,
    pub step_key: StepKey,
    pub resolution: Resolution,
    pub by: Arc<str>,
    pub dedupe: Option<DedupeId>,
    /// Resume the session if this step is why it is paused.
    pub resume: bool,
}

/// Resumes a paused session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    pub session: SessionId,
    pub by: Arc<str>,
    pub dedupe: Option<DedupeId>,
    /// Failed steps get a fresh round of attempts.
    pub retry: bool,
}

/// Pauses a session on request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    pub session: SessionId,
    /// Why and by whom, for people.
    pub details: Option<PayloadRef>,
    pub dedupe: Option<DedupeId>,
}

/// Cancels or terminates a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cancel {
    pub session: SessionId,
    pub reason: Arc<str>,
    /// A token's name, or "parent".
    pub by: Arc<str>,
    /// An operator with its dedupe id, or the driver of the tree, whose requests are idempotent by what they ask.
    pub author: Author,
}

/// What a decision answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Of `Start` and `Acquire`; the session is the decision's, its head the one after the decision.
    /// `epoch` is `None` when no lease was taken (none asked for, or the session has ended, waits or is paused).
    Bound { created: bool, epoch: Option<Epoch> },
    /// An event was appended, or had been before. `time` is its ledger time; a duplicate's is the session's present one.
    Appended { seq: Seq, time: TimeMs, duplicate: bool },
    /// A guarded step already has this outcome; what was sent became no event.
    Recorded { seq: Seq },
    /// Carried out without an event. Of `Evidence`: the zone's entry, under which the bytes are kept.
    Done { entry: Option<Seq> },
}

/// The caller's fault: nothing was appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub code: Code,
    /// What happened and what the caller must do.
    pub message: String,
    /// Milliseconds after which the same request may succeed; `None`: it will not.
    pub retry_after_ms: Option<u64>,
}

/// Stable reason codes; `as_str` is what the wire carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    SessionNotFound,
    SessionEnded,
    SessionPaused,
    SessionNotPaused,
    CancelRequested,
    Fenced,
    LeaseHeld,
    VersionMismatch,
    VersionDraining,
    NoVersion,
    KeyConflict,
    StepConflict,
    GuardKeyInUse,
    GuardInputConflict,
    GuardInFlight,
    InProgress,
    GuardNotOpen,
    GuardNotDue,
    GuardUnresolved,
    ZoneNotOpen,
    TooManyOpen,
    OpenIntents,
    NotIdle,
    SignalsFull,
    SignalConflict,
    ApprovalMismatch,
    ApprovalDecided,
    ApprovalExpired,
    OpenChildren,
    TreeTooDeep,
    BudgetExhausted,
    PriceUnknown,
    NotFound,
    InvalidArgument,
    /// A queue is full, the daemon drains, or the disk is nearly full.
    Unavailable,
    DiskLow,
    IncarnationChanged,
    PermissionDenied,
    NamespaceMismatch,
    Archived,
    LineageClaimed,
    ClaimLost,
    LegalHold,
    Erased,
    /// Another compactor has stored something since.
    ContextConflict,
}

/// The policy an intent is opened with when the caller names none.
pub const DEFAULT_POLICY: GuardPolicy = GuardPolicy::Pause;

/// A grant, as the reply's reader needs it.
pub type Grant = LeaseGranted;
