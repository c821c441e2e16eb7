//! Pass `normalise` (1): stored bytes → readable text in the typed form that the other passes read.
//!
//! Escape sequences of terminals, NUL and other control characters go; invalid UTF-8 becomes the replacement sign; what
//! is longer than `ITEM_BYTES_MAX` keeps its head and its end. The handle leads to all of it.

use serde::{Deserialize, Serialize};

use super::event::{Body, Event};
use super::handle;
use super::resource::Resource;
use super::text;
use super::tokens::Vocabulary;

pub const VERSION: u32 = 1;

/// Bytes of one item that the compactor keeps in memory.
pub const ITEM_BYTES_MAX: usize = 64 * 1024;

/// An event as the passes see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub seq: u64,
    pub kind: Kind,
    pub text: String,
    /// Of the stored bytes.
    pub hash: u64,
    pub bytes: usize,
    /// Of the message as the agent would send it uncompacted.
    pub tokens: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    User,
    Notice,
    Assistant,
    Reasoning,
    Call { id: String, tool: String, resources: Vec<Resource> },
    Observation { call: String, failed: Option<bool> },
}

/// Reads one event.
#[must_use]
pub fn item(event: Event, vocabulary: Vocabulary) -> Item {
    let seq = event.seq;
    let raw = handle::bytes(&event);
    let (hash, bytes) = (text::hash(raw), raw.len());
    let text = clean(raw, seq);
    let kind = match event.body {
        Body::User(_) => Kind::User,
        Body::Notice(_) => Kind::Notice,
        Body::Assistant(_) => Kind::Assistant,
        Body::Reasoning(_) => Kind::Reasoning,
        Body::Call(c) => Kind::Call { id: c.id, tool: c.tool, resources: c.resources },
        Body::Result(o) => Kind::Observation { call: o.call, failed: o.failed },
    };
    let mut item = Item { seq, kind, text, hash, bytes, tokens: 0 };
    let shown = vocabulary.count(&super::render::message(&item));
    // What the cap took out is still part of the history that the agent would have sent.
    item.tokens =
        if bytes > ITEM_BYTES_MAX { shown.saturating_mul(bytes) / item.text.len().max(1) } else { shown };
    item
}

fn clean(raw: &[u8], seq: u64) -> String {
    if raw.len() <= ITEM_BYTES_MAX {
        return strip(&String::from_utf8_lossy(raw));
    }
    let head = raw.get(..ITEM_BYTES_MAX * 3 / 4).unwrap_or_default();
    let tail = raw.get(raw.len() - ITEM_BYTES_MAX / 4..).unwrap_or_default();
    let (head, tail) = (strip(&String::from_utf8_lossy(head)), strip(&String::from_utf8_lossy(tail)));
    format!("{head}\n[… {} bytes in all: {}]\n{tail}", raw.len(), handle::show(seq))
}

/// Removes escape sequences and control characters other than line feed and tab.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // Parameters end with the first byte from @ to ~.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // An operating system command ends with BEL or ESC \.
                Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\\') {},
                _ => {}
            },
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn control_characters_and_escapes_go() {
        assert_eq!(strip("\u{1b}[31mred\u{1b}[0m\0 \u{1b}]0;title\u{7}ok\r\nx\ty"), "red ok\nx\ty");
        assert_eq!(strip("cut off \u{1b}[3"), "cut off ");
    }
}
