//! How things look in a prompt. The bytes of a message here are what both the raw and the compacted prompt count.

use super::normalise::{Item, Kind};

/// An item as the agent would send it uncompacted.
#[must_use]
pub fn message(item: &Item) -> String {
    with_text(item, &item.text)
}

/// An item with other text in its place: an excerpt or a stub.
#[must_use]
pub fn with_text(item: &Item, text: &str) -> String {
    match &item.kind {
        Kind::User => format!("user: {text}\n"),
        Kind::Notice => format!("notice: {text}\n"),
        Kind::Assistant | Kind::Reasoning => format!("{text}\n"),
        Kind::Call { tool, .. } => format!("{tool} {text}\n"),
        Kind::Observation { .. } => format!("{text}\n"),
    }
}

/// The two tools with which the agent reads back what was left out. Always sent, always the same bytes.
pub const TOOLS: &str = "ccs_fetch(handle: string, range?: [first_byte, end_byte]): the stored content behind a handle such as §12.\n\
ccs_search(query: string): lines of this session's whole history that contain the words, with their handles.\n";

/// Leads the context.
pub const PREAMBLE: &str =
    "Earlier events are condensed; §n names event n, which ccs_fetch returns in full.\n";
