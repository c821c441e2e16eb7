//! Pass `seal` (11): generations, like a log-structured tree. The tail is live; sealed segments are frozen bytes.
//!
//! S1. A segment's bytes never change; a merge makes a new segment of several and drops them.
//! S2. A merge keeps the most valuable lines in order; what it drops stays reachable by number (`§a–§b` in its head).

use serde::{Deserialize, Serialize};

use super::mask::Entry;
use super::tokens::Vocabulary;
use super::{handle, text};

pub const VERSION: u32 = 1;

/// Segments together may pass their share by this much before they are merged.
const SLACK_PERMILLE: usize = 1250;

/// A run of events, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub first: u64,
    pub last: u64,
    /// Units that were sealed into it, shown or not.
    pub units: usize,
    pub entries: Vec<Entry>,
    pub bytes: String,
    pub tokens: usize,
    pub hash: u64,
}

/// Makes a segment of what fits the share.
#[must_use]
pub fn freeze(mut entries: Vec<Entry>, span: (u64, u64), units: usize, fit: (usize, Vocabulary)) -> Segment {
    let (share, vocabulary) = fit;
    select(&mut entries, share);
    let mut bytes =
        format!("Events {}–{}: {} of {units} shown\n", handle::show(span.0), span.1, entries.len());
    for entry in &entries {
        bytes.push_str(&entry.text);
        bytes.push('\n');
    }
    let tokens = vocabulary.count(&bytes);
    let hash = text::hash(bytes.as_bytes());
    Segment { first: span.0, last: span.1, units, entries, bytes, tokens, hash }
}

/// Keeps the entries with the most value for their tokens, newer ones counting more, within the share.
fn select(entries: &mut Vec<Entry>, share: usize) {
    let newest = entries.last().map_or(0, |e| e.seq);
    let mut order: Vec<(f64, u64, usize)> =
        entries.iter().map(|e| (density(e, newest), e.seq, e.tokens)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let mut left = share;
    let mut keep: Vec<u64> = Vec::new();
    for (_, seq, tokens) in order {
        if tokens <= left {
            left -= tokens;
            keep.push(seq);
        }
    }
    keep.sort_unstable();
    entries.retain(|e| keep.binary_search(&e.seq).is_ok());
}

fn density(entry: &Entry, newest: u64) -> f64 {
    let age = newest.saturating_sub(entry.seq) as f64;
    f64::from(entry.value) / (entry.tokens as f64).sqrt() / (1.0 + age / 60.0)
}

/// Adds a segment; merges all into one once they pass their share by the slack.
pub fn push(segments: &mut Vec<Segment>, new: Segment, share: usize, vocabulary: Vocabulary) {
    segments.push(new);
    let total: usize = segments.iter().map(|s| s.tokens).sum();
    if segments.len() < 2 || total * 1000 <= share * SLACK_PERMILLE {
        return;
    }
    let first = segments.first().map_or(0, |s| s.first);
    let last = segments.last().map_or(0, |s| s.last);
    let units = segments.iter().map(|s| s.units).sum();
    let entries = segments.drain(..).flat_map(|s| s.entries).collect();
    segments.push(freeze(entries, (first, last), units, (share, vocabulary)));
}
