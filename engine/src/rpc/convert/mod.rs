//! The border between the wire and the graph, and the only importer of wire types that hold events.
//!
//! Owns: parsing every field a caller sends into the graph's types, and writing the graph's types as wire messages.
//! Never: reads the ledger, submits a command, or decides whether a command is allowed.
//!
//! V1. What passes has been checked: text has its length, a digest its 32 bytes, a payload a format that fits its field.
//!     Behind this module nothing is parsed again.
//! V2. A refusal is `invalid_argument`, names the field as the proto spells it and says what it must be.
//! V3. Every arm of every oneof is handled: matches over wire and graph enums have no wildcard.
//! V4. What goes in comes out: an accepted append read back as an event carries the same fields and bytes.

mod append;
mod bodies;
mod budget;
mod enums;
mod event;
mod fields;
mod filter;
mod fork;
mod import;
mod limits;
mod payload;
mod session;
mod start;
mod tree;
mod waits;

pub use append::{Attach, Converted, attach, commit_step, raise_budget, release, resolve_step, to_append};
pub use budget::budget_state;
pub use enums::{role_from_wire, role_to_wire, status_to_wire};
pub use event::{Detail, PayloadSource, TransferIds, event_to_wire, payload_to_wire};
pub use fields::labels;
pub use fields::{
    dedupe_id, from_seq, instance, reason, session_id, session_key, token_id, token_name, version, workflow,
};
pub use filter::filter_fits;
pub use fork::{Fork, ForkEdit, accept, fork};
pub use import::import;
pub use limits::PIECE_BYTES_MAX;
pub use payload::Intake;
pub use session::{pause_reason, refusal, session, token_offsets};
pub use start::{Start, start};
pub use waits::{decide_approval, signal};

#[cfg(test)]
mod tests;
