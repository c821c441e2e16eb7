//! The stored form of compacted contexts: how far a session is folded, its versions, and their texts.

use bytes::Bytes;
use cellaflow_proto::disk;

use super::fields::{Malformed, bytes_of, exact};
use crate::graph::context::ContextRow;
use crate::graph::ids::{Seq, TimeMs};

/// A version, without its texts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContextVersionRow {
    /// Last event that it stands for.
    pub covers: Seq,
    /// Leading messages of the conversation that it stands for.
    pub covers_messages: u64,
    /// Tokens of it.
    pub tokens: u64,
    /// Tokens of what it stands for.
    pub history_tokens: u64,
    /// Hash of its texts.
    pub hash: [u8; 32],
    /// Why it was made, as the wire numbers it: the engine never looks.
    pub reason: u32,
    /// Last item that was folded.
    pub upto: u64,
    /// Most tokens that it was to have; 0: as the preset says.
    pub limit_tokens: u64,
    /// Tokens that passes took out.
    pub removed: Vec<(String, u64)>,
    /// Passes that it is of.
    pub passes: String,
    /// When it was stored.
    pub time: TimeMs,
    /// Rows that its texts take.
    pub pieces: u32,
}

pub(super) fn row_to(row: &ContextRow) -> disk::ContextRow {
    disk::ContextRow {
        version: row.version,
        watermark_seq: row.watermark.0,
        covers_seq: row.covers.0,
        passes: row.passes.to_string(),
        state_pieces: row.state_pieces,
        refused: row.refused.to_string(),
    }
}

// What `row!` takes as a path; nothing of it can be malformed.
#[expect(clippy::unnecessary_wraps, reason = "rows are read by functions of one shape")]
pub(super) fn row_from(row: disk::ContextRow) -> Result<ContextRow, Malformed> {
    Ok(ContextRow {
        version: row.version,
        watermark: Seq(row.watermark_seq),
        covers: Seq(row.covers_seq),
        passes: row.passes.into(),
        state_pieces: row.state_pieces,
        refused: row.refused.into(),
    })
}

pub(super) fn version_to(row: &ContextVersionRow) -> disk::ContextVersionRow {
    let removed = row.removed.iter();
    disk::ContextVersionRow {
        covers_seq: row.covers.0,
        covers_messages: row.covers_messages,
        tokens: row.tokens,
        history_tokens: row.history_tokens,
        hash: bytes_of(&row.hash),
        reason: row.reason,
        upto: row.upto,
        limit_tokens: row.limit_tokens,
        removed: removed
            .map(|(pass, tokens)| disk::ContextPass { pass: pass.clone(), tokens: *tokens })
            .collect(),
        passes: row.passes.clone(),
        time_ms: row.time.0,
        pieces: row.pieces,
    }
}

pub(super) fn version_from(row: disk::ContextVersionRow) -> Result<ContextVersionRow, Malformed> {
    let removed = row.removed.into_iter();
    Ok(ContextVersionRow {
        covers: Seq(row.covers_seq),
        covers_messages: row.covers_messages,
        tokens: row.tokens,
        history_tokens: row.history_tokens,
        hash: exact(&row.hash, "context_version_row.hash")?,
        reason: row.reason,
        upto: row.upto,
        limit_tokens: row.limit_tokens,
        removed: removed.map(|pass| (pass.pass, pass.tokens)).collect(),
        passes: row.passes,
        time: TimeMs(row.time_ms),
        pieces: row.pieces,
    })
}

/// A text of a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContextText {
    /// What it holds, as the wire numbers it.
    pub kind: u32,
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: u64,
    /// True if a cache breakpoint belongs after it.
    pub breakpoint: bool,
}

/// The texts of a version as they are stored, cut into rows by the caller.
#[must_use]
pub fn texts_to(texts: &[ContextText]) -> Bytes {
    use prost::Message as _;
    let texts = texts.iter().map(|text| disk::ContextText {
        kind: text.kind,
        text: text.text.clone(),
        tokens: text.tokens,
        breakpoint: text.breakpoint,
    });
    disk::ContextTexts { texts: texts.collect() }.encode_to_vec().into()
}

/// Reads what `texts_to` made.
///
/// # Errors
/// `Malformed` if it is something else.
pub fn texts_from(bytes: &Bytes) -> Result<Vec<ContextText>, Malformed> {
    let stored = super::fields::whole::<disk::ContextTexts>(bytes, "context_texts")?;
    let texts = stored.texts.into_iter().map(|text| ContextText {
        kind: text.kind,
        text: text.text,
        tokens: text.tokens,
        breakpoint: text.breakpoint,
    });
    Ok(texts.collect())
}
