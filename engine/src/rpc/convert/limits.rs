//! Every limit on what a caller may send in one message, on one page. Lengths are in bytes of UTF-8.
//!
//! They keep the head and the index rows bounded (see `graph::session`); limits that operators set (payloads, queues)
//! lie in `config::limits`.

use crate::graph::session::{NAME_BYTES_MAX, REASON_BYTES_MAX, STEP_KEY_BYTES_MAX};
use crate::graph::signal::SIGNAL_ID_BYTES_MAX;
pub use crate::graph::wait::WAIT_MS_MAX;

/// Bytes a text or a run of bytes may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Fewest bytes.
    pub min: usize,
    /// Most bytes.
    pub max: usize,
}

const fn up_to(max: usize) -> Length {
    Length { min: 1, max }
}

const fn optional(max: usize) -> Length {
    Length { min: 0, max }
}

/// Workflow name.
pub const WORKFLOW: Length = up_to(NAME_BYTES_MAX);
/// Workflow version.
pub const VERSION: Length = up_to(64);
/// Caller's key of a session; empty: none.
pub const SESSION_KEY: Length = optional(512);
/// Step or zone key.
pub const STEP_KEY: Length = up_to(STEP_KEY_BYTES_MAX);
/// Step or zone name.
pub const NAME: Length = up_to(NAME_BYTES_MAX);
/// Why somebody cancels or pauses, in words.
pub const REASON: Length = optional(REASON_BYTES_MAX);
/// Idempotency key of a guarded step.
pub const IDEMPOTENCY_KEY: Length = up_to(512);
/// A signal's id; empty: none.
pub const SIGNAL_ID: Length = optional(SIGNAL_ID_BYTES_MAX);
/// Whom a decision is made for; empty: the caller.
pub const ON_BEHALF_OF: Length = optional(128);
/// Name of a token.
pub const TOKEN_NAME: Length = up_to(128);
/// Name of the caller's own codec; empty: none.
pub const CODEC: Length = optional(64);
/// Provider and model of a model call; empty: not said.
pub const PROVIDER: Length = optional(256);
/// Date of a price file; empty: no cost.
pub const PRICE_DATE: Length = optional(32);
/// Kind of a resource.
pub const RESOURCE_KIND: Length = up_to(64);
/// Identity of a resource.
pub const RESOURCE_ID: Length = up_to(4_096);
/// Part of a resource; empty: the whole.
pub const RESOURCE_RANGE: Length = optional(256);

/// Resources one step may declare.
pub const RESOURCES_MAX: usize = 256;
/// Model calls one zone may commit.
pub const LLM_CALLS_MAX: usize = 1_024;
/// Tokens of one kind in one model call.
pub const TOKENS_MAX: u64 = 1_000_000_000_000;
/// Cost of one step or call: a million dollars in nano-dollars.
pub const COST_NANOS_MAX: i64 = 1_000_000_000_000_000;
/// Attempts of one step or zone.
pub const ATTEMPTS_MAX: u32 = 1_000_000;
/// Milliseconds one guarded attempt may take: a day.
pub const ATTEMPT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Milliseconds of grace after a guarded attempt: an hour.
pub const GRACE_MS_MAX: u64 = 60 * 60 * 1_000;
/// Bytes of what a zone streamed, in one message.
pub const EVIDENCE_BYTES_MAX: usize = crate::ledger::EVIDENCE_ROW_BYTES_MAX as usize;
/// Largest offset within what one zone attempt streamed, in bytes: a tebibyte.
pub const EVIDENCE_OFFSET_MAX: u64 = 1 << 40;

/// Bytes of a payload in one message; larger ones are sent as pieces of at most this size before their event.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of payloads inside one event message; what exceeds them is sent as pieces, too.
pub const EVENT_DATA_BYTES_MAX: usize = 1024 * 1024;
