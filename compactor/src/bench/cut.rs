//! Where histories are cut, and what the compactor makes of them there.

use std::collections::BTreeMap;

use crate::ccs::{Ccs, Context, Event, Input, Reason, Seal, Settings};
use crate::transcripts::{Part, Transcript};

/// A history up to a request of the model.
pub struct Cut {
    /// Events before it.
    pub events: usize,
    pub history_tokens: usize,
    pub context: Context,
    /// Tokens that each pass took out.
    pub removed: BTreeMap<String, usize>,
}

/// Positions at which the model was asked: before the first event of each of its calls.
#[must_use]
pub fn requests(transcript: &Transcript, events: &[(usize, Event)]) -> Vec<usize> {
    let mut out = Vec::new();
    let mut before = None;
    for (n, (at, _)) in events.iter().enumerate() {
        let call = transcript.events.get(*at).and_then(|e| e.call);
        if call.is_some() && call != before {
            out.push(n);
        }
        before = call.or(before);
    }
    out
}

/// Cuts at half, three quarters and the end.
#[must_use]
pub fn places(transcript: &Transcript, events: &[(usize, Event)]) -> Vec<usize> {
    let requests = requests(transcript, events);
    let at = |share: usize| requests.get(requests.len() * share / 4).copied();
    let mut out: Vec<usize> =
        [at(2), at(3), Some(events.len())].into_iter().flatten().filter(|n| *n > 0).collect();
    out.dedup();
    out
}

/// Folds the first `upto` events with the triggers of the loop, and seals at the end.
#[must_use]
pub fn fold(events: &[(usize, Event)], upto: usize, settings: &Settings) -> Ccs {
    let mut ccs = Ccs::new(settings.clone());
    for (_, event) in events.iter().take(upto) {
        if ccs.live_tokens() > settings.high_mark_tokens && !matches!(event.body, crate::ccs::Body::Result(_))
        {
            let upto = ccs.watermark();
            ccs.fold(Input::Seal(Seal::new(upto, Reason::HighMark)));
        }
        ccs.fold(Input::Event(event.clone()));
    }
    let upto = ccs.watermark();
    ccs.fold(Input::Seal(Seal::new(upto, Reason::Explicit)));
    ccs
}

#[must_use]
pub fn cut(events: &[(usize, Event)], upto: usize, settings: &Settings) -> Cut {
    let ccs = fold(events, upto, settings);
    Cut { events: upto, history_tokens: ccs.history_tokens(), context: ccs.context(), removed: ccs.removed() }
}

/// The arguments of the next tool calls after an event of the transcript.
pub fn next_calls(transcript: &Transcript, from: usize, count: usize) -> impl Iterator<Item = &str> {
    transcript
        .events
        .iter()
        .skip(from)
        .filter_map(|e| match &e.part {
            Part::ToolCall(call) => Some(call.arguments.as_str()),
            _ => None,
        })
        .take(count)
}
