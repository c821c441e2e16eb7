//! Restorable: what a compactor has folded of a session, and the versions of its context that came of it.
//!
//! Owns the rules under which that is stored. Never knows what a context says; it is made again from the session's events.
//! What an agent prompted with is in its events, so nothing here is ever the only copy.
//!
//! CX1. Versions count from 1 without gaps and never change.
//! CX2. Two compactors never mix: what is stored names what it was made after, and another state refuses it.
//! CX3. Only a live session's is stored, so its lineage lies where its head says and is not being archived.
//! CX4. The watermark never goes back, and never beyond the session's last event.

use std::sync::Arc;

use super::command::{Code, Rejection, Reply};
use super::decide::{Decision, View, found, invalid, nothing};
use super::end;
use super::ids::{Seq, SessionId};

/// How far a session is folded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContextRow {
    /// Newest version; 0: none.
    pub version: u32,
    /// Last event folded.
    pub watermark: Seq,
    /// Last event that the newest version stands for.
    pub covers: Seq,
    /// Passes that the state is of.
    pub passes: Arc<str>,
    /// Rows that the state takes.
    pub state_pieces: u32,
    /// Why what was last asked for came to nothing; empty: it did not.
    pub refused: Arc<str>,
}

/// Stores how far a session is folded, and at most one new version; becomes no event. The rows come with the submission.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutContext {
    pub session: SessionId,
    /// What the caller went on from (CX2).
    pub expected: (u32, Seq),
    pub row: ContextRow,
}

/// Judges what a compactor stores.
pub(super) fn put(view: &impl View, put: &PutContext) -> Result<Decision, Rejection> {
    let head = found(view, put.session)?;
    if head.status.is_terminal() {
        return Err(end::over(&head)); // CX3
    }
    let known = view.context(put.session).unwrap_or_default();
    if (known.version, known.watermark) != put.expected {
        return Err(Rejection::new(
            Code::ContextConflict,
            format!(
                "the session is folded up to event {} with version {}: another compactor was faster; load its context again",
                known.watermark, known.version
            ),
        ));
    }
    if put.row.version.wrapping_sub(known.version) > 1 {
        return Err(invalid(format!("version must be {}: versions have no gaps", known.version + 1)));
    }
    if put.row.watermark < known.watermark
        || put.row.watermark > head.seq
        || put.row.covers > put.row.watermark
    {
        return Err(invalid(format!(
            "watermark_seq must be from {} to {} and covers_seq at most that",
            known.watermark, head.seq
        )));
    }
    Ok(nothing(put.session, Reply::Done { entry: None }))
}
