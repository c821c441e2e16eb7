//! Handles: how a line of the context names the bytes it stands for.
//!
//! H1. A handle is a part's number in its session's conversation, from 1; it resolves to the stored text, byte for byte.
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

/// A line that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub seq: u64,
    pub line: String,
}

/// Lines that contain all words of the query, whatever their case, the newest events first, at most `max`.
#[must_use]
pub fn search(events: &[Event], query: &str, max: usize) -> Vec<Hit> {
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    if words.is_empty() {
        return Vec::new();
    }
    let lines = events.iter().rev().flat_map(|event| {
        let content = String::from_utf8_lossy(bytes(event)).into_owned();
        let found: Vec<Hit> = content
            .lines()
            .filter(|l| {
                let lower = l.to_lowercase();
                words.iter().all(|w| lower.contains(w.as_str()))
            })
            .map(|l| Hit { seq: event.seq, line: super::text::line(l, 200) })
            .collect();
        found
    });
    lines.take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::super::event::{Body, Event};
    use super::{Hit, Unresolved, fetch, search};

    fn events() -> Vec<Event> {
        let body = |n: u64| Body::User(format!("first {n}\nThe Quick fox {n} §9").into_bytes());
        (1..=3).map(|seq| Event { seq, body: body(seq) }).collect()
    }

    // H1, H3
    #[test]
    fn a_handle_fetches_its_bytes_or_says_why_not() {
        let events = events();
        assert_eq!(fetch(&events, "§2", Some((0, 7))), Ok(&b"first 2"[..]));
        assert_eq!(fetch(&events, "§2", Some((900, 7))), Ok(&b""[..]));
        assert_eq!(fetch(&events, "§4", None), Err(Unresolved::Unknown(4)));
        assert_eq!(fetch(&events, "4", None), Err(Unresolved::Malformed("4".into())));
    }

    // H2
    #[test]
    fn a_search_finds_lines_newest_first_and_forges_no_handle() {
        let found = search(&events(), "quick FOX", 2);
        let hit = |seq| Hit { seq, line: format!("The Quick fox {seq} 9") };
        assert_eq!(found, [hit(3), hit(2)]);
    }
}
