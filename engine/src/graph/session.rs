//! The head: everything about a session that deciding its next event needs, in one bounded row.
//!
//! 1. The head is the fold of the session's events; nothing else is ever written into it.
//! 2. Its encoded size stays under `HEAD_BYTES_MAX`: what could grow is counted and refused at submit
//!    (`too_many_open`, `invalid_argument`); the limits below leave room for the fixed parts, and a test adds them up.

use std::sync::Arc;

use super::budget::SessionBudget;
use super::event::{ForkedFrom, GuardPolicy, Labels, Parent, PauseReason, Role};
use super::ids::{
    DedupeId, Digest, Epoch, Hash, Incarnation, InstanceId, LineageId, Namespace, NanoDollars, Seq,
    SessionId, StepKey, TimeMs, TokenId,
};

/// Largest encoded head in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most open intents, zones and waits together of one session.
pub const OPEN_MAX: usize = 64;

/// Most bytes that open intents, zones, waits and reservations may take in the head together (`graph::room`).
pub const OPEN_BYTES_MAX: usize = 9 * 1024;
/// Most signals a session keeps that nobody has awaited.
pub const SIGNALS_BUFFERED_MAX: usize = 64;
/// Most bytes the names of those may have together.
pub const SIGNAL_NAME_BYTES_MAX: usize = 2 * 1024;
/// Most sessions between a session and the top of its tree.
pub const TREE_DEPTH_MAX: u32 = 16;
/// Longest reason that a person gives for cancelling, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;
/// Most labels of a session.
pub const LABELS_MAX: usize = 16;
/// Longest key of a label in bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 64;
/// Longest value of a label in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Most bytes the keys and values of a session's labels may have together.
pub const LABEL_BYTES_MAX: usize = 1024;
/// Longest step key in bytes.
pub const STEP_KEY_BYTES_MAX: usize = 1024;
/// Longest name of a namespace, workflow, version, step or zone in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// How many recent dedupe ids a session remembers.
pub const DEDUPE_IDS_MAX: usize = 16;

/// State of a session as far as its next event depends on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub session: SessionId,
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    pub generation: u32,
    pub lineage: LineageId,
    pub root: SessionId,
    pub system: bool,
    pub status: Status,
    /// Last event.
    pub seq: Seq,
    pub hash: Hash,
    /// Ledger time of the last event.
    pub time: TimeMs,
    pub started: TimeMs,
    /// Last epoch granted.
    pub epoch: Epoch,
    /// Who holds the lease.
    pub holder: Option<InstanceId>,
    pub intents: Vec<OpenIntent>,
    pub zones: Vec<OpenZone>,
    /// What the run waits for, oldest first.
    pub waits: Vec<OpenWait>,
    /// Signals that nobody has awaited, by name, oldest first.
    pub signals: Vec<(Arc<str>, Seq)>,
    pub counters: Counters,
    pub budget: SessionBudget,
    /// Recent client and operator appends, oldest first.
    pub dedupe: Vec<(DedupeId, Seq)>,
    /// The spawn that it is the child of.
    pub parent: Option<Parent>,
    /// Top of its tree; the session itself if nobody spawned it.
    pub top: SessionId,
    /// Sessions between it and the top.
    pub depth: u32,
    /// First request to cancel it. What it opens after that belongs to its cleanup.
    pub cancel_requested: Option<Seq>,
    /// The session that it continues.
    pub continued_from: Option<SessionId>,
    pub labels: Labels,
    /// Incarnation of the ledger that it may run under; `None`: any (it began before they were kept).
    pub incarnation: Option<Incarnation>,
    /// When it is cancelled if it has not ended.
    pub deadline: Option<TimeMs>,
    /// It has sent an intent: idempotency keys are its own.
    pub owns_keys: bool,
    /// The session that continues it; it has ended then, and its status is `Completed`.
    pub continued_to: Option<SessionId>,
    /// Where it was cut, if it is a fork.
    pub forked: Option<Forked>,
}

/// Where a fork was cut, and what it had then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forked {
    pub from: ForkedFrom,
    /// Sums of the parent at the cut, which `counters` started from.
    pub inherited: Counters,
}

/// Where a session is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// Started, never leased.
    Pending,
    Running,
    /// For a timer, signal, approval or child.
    Waiting,
    Paused {
        reason: PauseReason,
        step_key: Option<StepKey>,
    },
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    /// True for states that accept no event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Running | Self::Waiting | Self::Paused { .. } => false,
        }
    }

    /// True if a worker may run the session now.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// A guarded attempt that was started and has no outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenIntent {
    pub step_key: StepKey,
    pub attempt: u32,
    pub seq: Seq,
    /// Intent's ledger time + attempt time + grace.
    pub due: TimeMs,
    pub policy: GuardPolicy,
    pub state: IntentState,
}

impl Head {
    /// The open intent of a step.
    #[must_use]
    pub fn intent(&self, step_key: &str) -> Option<&OpenIntent> {
        self.intents.iter().find(|intent| *intent.step_key == *step_key)
    }

    /// The open zone of a key.
    #[must_use]
    pub fn zone(&self, zone_key: &str) -> Option<&OpenZone> {
        self.zones.iter().find(|zone| *zone.zone_key == *zone_key)
    }

    /// The open wait of a step.
    #[must_use]
    pub fn wait(&self, step_key: &str) -> Option<&OpenWait> {
        self.waits.iter().find(|wait| *wait.step_key == *step_key)
    }

    /// True if the session has not been told of the end of the child that it spawned with this step key. The wait names
    /// the first session of a chain, whichever of them has ended.
    #[must_use]
    pub fn awaits_child(&self, step_key: &str) -> bool {
        !self.status.is_terminal() && self.wait(step_key).is_some_and(|wait| wait.child().is_some())
    }

    /// True if guarded effects are not to be performed: a fork that takes what its lineage recorded.
    #[must_use]
    pub fn stubs_effects(&self) -> bool {
        self.forked.as_ref().is_some_and(|forked| !forked.from.live)
    }

    /// True if the session is to be looked after at start: it has not ended and is not the engine's own.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.system && !self.status.is_terminal()
    }
}

impl OpenIntent {
    /// True while the driver has to look at it when it becomes due.
    #[must_use]
    pub fn awaits_due(&self) -> bool {
        match self.state {
            IntentState::Open | IntentState::Unknown => true,
            IntentState::Due | IntentState::MayRetry => false,
        }
    }

    /// True if only a person or program can settle it: the policy's word is spoken, and it was to pause.
    #[must_use]
    pub fn awaits_resolution(&self) -> bool {
        self.state == IntentState::Due && self.policy == GuardPolicy::Pause
    }
}

/// What is known of an open attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntentState {
    /// Called, or about to be.
    Open,
    /// Reported unknown; the policy waits for `due`.
    Unknown,
    /// Unknown and past `due`; the run reconciles, or a person resolves.
    Due,
    /// Did not happen, or may be repeated: the next attempt may start.
    MayRetry,
}

/// A zone that was entered and has no outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenZone {
    pub zone_key: StepKey,
    pub attempt: u32,
    /// Its entry.
    pub seq: Seq,
}

/// Something a run waits for that has not come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenWait {
    pub step_key: StepKey,
    /// Of the timer, signal, approval or child.
    pub name: Arc<str>,
    pub kind: WaitKind,
    /// The event that opened it.
    pub seq: Seq,
    /// When it fires, runs out or expires; `None`: never.
    pub due: Option<TimeMs>,
}

impl OpenWait {
    /// The child that is waited for.
    #[must_use]
    pub fn child(&self) -> Option<SessionId> {
        match self.kind {
            WaitKind::Child { session, .. } => Some(session),
            WaitKind::Timer | WaitKind::Signal | WaitKind::Approval { .. } => None,
        }
    }
}

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WaitKind {
    Timer,
    Signal,
    Approval {
        args_digest: Digest,
    },
    Child {
        session: SessionId,
        /// It goes on when the session ends or is cancelled.
        abandoned: bool,
        /// The run asked to cancel it.
        cancelling: bool,
    },
}

/// Sums over a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub steps: u64,
    pub llm_calls: u64,
    pub input_tokens: u64,
    pub cached_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
    pub cost: NanoDollars,
    pub wasted_tokens: u64,
    pub wasted_cost: NanoDollars,
    /// Model calls whose price was unknown.
    pub unpriced_calls: u64,
    /// Times the session was taken over from a worker that was gone.
    pub takeovers: u64,
}

/// Index row of a step or zone: its last recorded attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepRow {
    pub seq: Seq,
    pub attempt: u32,
    /// Epoch under which it was committed; 0: by a driver or operator.
    pub epoch: Epoch,
    pub state: StepState,
    pub input_digest: Option<Digest>,
    /// Digest of the output or failure, to tell a re-sent commit from a contradicting one.
    pub outcome_digest: Option<Digest>,
}

/// What the last recorded attempt of a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepState {
    /// An intent or a zone entry without outcome.
    Open,
    /// The attempt failed or was rolled back and another may follow.
    Retryable,
    Completed,
    Failed,
}

/// Key of the row that says how a session ended; no step has it, because step keys are not empty.
pub const END_KEY: &str = "";

/// Index row of an idempotency key in its namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardRow {
    pub session: SessionId,
    /// blake3 of the owning step's key.
    pub step_key_hash: [u8; 32],
    /// Keyed with the namespace's salt.
    pub input_digest: Digest,
}

/// What is known of the step that owns an idempotency key, beside its lineage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardOutcome {
    /// The event that says so.
    pub seq: Seq,
    pub state: StepState,
    /// Of a failure: nothing happened.
    pub not_applied: bool,
}

/// Index row of a signal's id, for the life of its session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignalRow {
    /// The event that received it.
    pub seq: Seq,
    pub name: Arc<str>,
    pub value_digest: Digest,
}

/// Index row of a session key in its namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRow {
    pub session: SessionId,
    pub generation: u32,
    /// Keyed with the namespace's salt.
    pub input_digest: Digest,
}

/// Index row of an access token, under the hash of its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRow {
    pub token: TokenId,
    pub name: Arc<str>,
    pub role: Role,
    /// "*": all.
    pub namespace: Namespace,
    pub created: TimeMs,
    /// `None`: never.
    pub expires: Option<TimeMs>,
    /// `None`: not revoked.
    pub revoked: Option<TimeMs>,
}
