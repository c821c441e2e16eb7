//! The stored form of what is kept of guarded steps beside their lineages.
//!
//! 1. An output is in its row or in pieces beside it, never in both.

use bytes::Bytes;
use cellaflow_proto::disk;
use std::sync::Arc;

use super::fields::{
    Malformed, bytes_of, exact, format_from, format_to, malformed, seq, step_state_from, step_state_to,
};
use crate::graph::event::Format;
use crate::graph::ids::Digest;
use crate::graph::session::GuardOutcome;

/// Row that says which idempotency key a guarded step owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardOwnedRow {
    pub digest: Digest,
}

/// Row that says what is known of a guarded step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardOutcomeRow {
    pub outcome: GuardOutcome,
    /// `None`: there is none, or it is too large to be kept.
    pub output: Option<KeptOutput>,
}

/// An output as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptOutput {
    pub format: Format,
    pub codec: Arc<str>,
    /// Bytes in all.
    pub size: u64,
    /// Content, unless it lies in pieces.
    pub content: Bytes,
    /// Pieces beside the row.
    pub pieces: u32,
}

pub(super) fn owned_to(row: &GuardOwnedRow) -> disk::GuardOwnedRow {
    disk::GuardOwnedRow { digest: bytes_of(&row.digest.0) }
}

pub(super) fn owned_from(row: disk::GuardOwnedRow) -> Result<GuardOwnedRow, Malformed> {
    Ok(GuardOwnedRow { digest: Digest(exact(&row.digest, "guard_owned_row.digest")?) })
}

pub(super) fn outcome_to(row: &GuardOutcomeRow) -> disk::GuardOutcomeRow {
    let outcome = &row.outcome;
    disk::GuardOutcomeRow {
        seq: outcome.seq.0,
        state: step_state_to(outcome.state),
        not_applied: outcome.not_applied,
        output: row.output.as_ref().map(|output| disk::KeptOutput {
            format: format_to(output.format),
            codec: output.codec.to_string(),
            size: output.size,
            content: output.content.clone(),
            pieces: output.pieces,
        }),
    }
}

pub(super) fn outcome_from(row: disk::GuardOutcomeRow) -> Result<GuardOutcomeRow, Malformed> {
    let outcome = GuardOutcome {
        seq: seq(row.seq, "guard_outcome_row.seq")?,
        state: step_state_from(row.state)?,
        not_applied: row.not_applied,
    };
    Ok(GuardOutcomeRow { outcome, output: row.output.map(kept_from).transpose()? })
}

/// 1.
fn kept_from(kept: disk::KeptOutput) -> Result<KeptOutput, Malformed> {
    let content = kept.content.len() as u64;
    let whole = if kept.pieces == 0 { content == kept.size } else { content == 0 };
    if !whole {
        return Err(malformed("kept_output.content", format!("has {content} of {} bytes", kept.size)));
    }
    Ok(KeptOutput {
        format: format_from(kept.format)?,
        size: kept.size,
        pieces: kept.pieces,
        codec: kept.codec.into(),
        content: kept.content,
    })
}
