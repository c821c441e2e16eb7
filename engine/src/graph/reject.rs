//! How a refusal reads: a stable code, whether to try again, and a sentence that ends with what the caller must do.

use std::fmt;

use super::command::{Code, Rejection};

impl Rejection {
    /// A refusal that stays one until the caller changes something.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// The same request may succeed after `ms` milliseconds.
    #[must_use]
    pub fn retry_after(self, ms: u64) -> Self {
        Self { retry_after_ms: Some(ms.max(1)), ..self }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Rejection {}

impl Code {
    /// All codes.
    pub const ALL: [Code; 45] = [
        Code::SessionNotFound,
        Code::SessionEnded,
        Code::SessionPaused,
        Code::SessionNotPaused,
        Code::CancelRequested,
        Code::Fenced,
        Code::LeaseHeld,
        Code::VersionMismatch,
        Code::VersionDraining,
        Code::NoVersion,
        Code::KeyConflict,
        Code::StepConflict,
        Code::GuardKeyInUse,
        Code::GuardInputConflict,
        Code::GuardInFlight,
        Code::InProgress,
        Code::GuardNotOpen,
        Code::GuardNotDue,
        Code::GuardUnresolved,
        Code::ZoneNotOpen,
        Code::TooManyOpen,
        Code::OpenIntents,
        Code::NotIdle,
        Code::SignalsFull,
        Code::SignalConflict,
        Code::ApprovalMismatch,
        Code::ApprovalDecided,
        Code::ApprovalExpired,
        Code::OpenChildren,
        Code::TreeTooDeep,
        Code::BudgetExhausted,
        Code::PriceUnknown,
        Code::NotFound,
        Code::InvalidArgument,
        Code::Unavailable,
        Code::DiskLow,
        Code::IncarnationChanged,
        Code::PermissionDenied,
        Code::NamespaceMismatch,
        Code::Archived,
        Code::LineageClaimed,
        Code::ClaimLost,
        Code::LegalHold,
        Code::Erased,
        Code::ContextConflict,
    ];

    /// The code as the wire carries it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionNotFound => "session_not_found",
            Self::SessionEnded => "session_ended",
            Self::SessionPaused => "session_paused",
            Self::SessionNotPaused => "session_not_paused",
            Self::CancelRequested => "cancel_requested",
            Self::Fenced => "fenced",
            Self::LeaseHeld => "lease_held",
            Self::VersionMismatch => "version_mismatch",
            Self::VersionDraining => "version_draining",
            Self::NoVersion => "no_version",
            Self::KeyConflict => "key_conflict",
            Self::StepConflict => "step_conflict",
            Self::GuardKeyInUse => "guard_key_in_use",
            Self::GuardInputConflict => "guard_input_conflict",
            Self::GuardInFlight => "guard_in_flight",
            Self::InProgress => "in_progress",
            Self::GuardNotOpen => "guard_not_open",
            Self::GuardNotDue => "guard_not_due",
            Self::GuardUnresolved => "guard_unresolved",
            Self::ZoneNotOpen => "zone_not_open",
            Self::TooManyOpen => "too_many_open",
            Self::OpenIntents => "open_intents",
            Self::NotIdle => "not_idle",
            Self::SignalsFull => "signals_full",
            Self::SignalConflict => "signal_conflict",
            Self::ApprovalMismatch => "approval_mismatch",
            Self::ApprovalDecided => "approval_decided",
            Self::ApprovalExpired => "approval_expired",
            Self::OpenChildren => "open_children",
            Self::TreeTooDeep => "tree_too_deep",
            Self::BudgetExhausted => "budget_exhausted",
            Self::PriceUnknown => "price_unknown",
            Self::NotFound => "not_found",
            Self::InvalidArgument => "invalid_argument",
            Self::Unavailable => "unavailable",
            Self::DiskLow => "disk_low",
            Self::IncarnationChanged => "incarnation_changed",
            Self::PermissionDenied => "permission_denied",
            Self::NamespaceMismatch => "namespace_mismatch",
            Self::Archived => "archived",
            Self::LineageClaimed => "lineage_claimed",
            Self::ClaimLost => "claim_lost",
            Self::LegalHold => "legal_hold",
            Self::Erased => "erased",
            Self::ContextConflict => "context_conflict",
        }
    }

    /// True if the same request may succeed later without the caller changing anything.
    #[must_use]
    pub fn retryable(self) -> bool {
        match self {
            Self::LeaseHeld
            | Self::GuardNotDue
            | Self::GuardInFlight
            | Self::GuardUnresolved
            | Self::TooManyOpen
            | Self::OpenIntents
            | Self::NotIdle
            | Self::SignalsFull
            | Self::OpenChildren
            | Self::NoVersion
            | Self::Unavailable
            | Self::LineageClaimed
            | Self::DiskLow => true,
            Self::SessionNotFound
            | Self::SessionEnded
            | Self::SessionPaused
            | Self::SessionNotPaused
            | Self::CancelRequested
            | Self::TreeTooDeep
            | Self::Fenced
            | Self::VersionMismatch
            | Self::VersionDraining
            | Self::KeyConflict
            | Self::StepConflict
            | Self::GuardKeyInUse
            | Self::GuardInputConflict
            | Self::InProgress
            | Self::GuardNotOpen
            | Self::ZoneNotOpen
            | Self::SignalConflict
            | Self::ApprovalMismatch
            | Self::ApprovalDecided
            | Self::ApprovalExpired
            | Self::BudgetExhausted
            | Self::PriceUnknown
            | Self::NotFound
            | Self::InvalidArgument
            | Self::IncarnationChanged
            | Self::PermissionDenied
            | Self::NamespaceMismatch
            | Self::Archived
            | Self::ClaimLost
            | Self::LegalHold
            | Self::Erased
            | Self::ContextConflict => false,
        }
    }
}
