//! Handles: how a line of the context names the bytes it stands for.
//!
//! H1. A handle is the event's number in its session's ledger; it resolves to the stored payload, byte for byte.
//! H2. Only this module writes the sign; text from outside has it taken out before it enters a line of ours.
//! H3. A number that the session does not have is an error, never somebody else's bytes.

use super::event::{Body, Event};

/// Leads every handle.
pub const SIGN: char = '§';

/// `§12`.
#[must_use]
pub fn show(seq: u64) -> String {
    format!("{SIGN}{seq}")
}

/// The number that a handle names; a range asks for bytes `first..end` of it.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    text.trim().strip_prefix(SIGN)?.parse().ok()
}

/// Why a handle did not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("`{0}` is no handle; copy one from the context, such as §12")]
    Malformed(String),
    #[error("this session has no event {0}; use a handle that the context shows")]
    Unknown(u64),
}

/// The stored bytes of an event: of a call its arguments, of a result its content.
#[must_use]
pub fn bytes(event: &Event) -> &[u8] {
    match &event.body {
        Body::User(b) | Body::Notice(b) | Body::Assistant(b) | Body::Reasoning(b) => b,
        Body::Call(call) => &call.arguments,
        Body::Result(outcome) => &outcome.content,
    }
}

/// Resolves a handle against the events of one session, in order of their numbers; `range` is in bytes.
pub fn fetch<'a>(
    events: &'a [Event],
    handle: &str,
    range: Option<(usize, usize)>,
) -> Result<&'a [u8], Unresolved> {
    let seq = parse(handle).ok_or_else(|| Unresolved::Malformed(handle.chars().take(40).collect()))?;
    let at = events.binary_search_by_key(&seq, |e| e.seq).map_err(|_| Unresolved::Unknown(seq))?;
    let all = events.get(at).map(bytes).ok_or(Unresolved::Unknown(seq))?;
    let Some((first, end)) = range else { return Ok(all) };
    let end = end.min(all.len());
    Ok(all.get(first.min(end)..end).unwrap_or_default())
}
