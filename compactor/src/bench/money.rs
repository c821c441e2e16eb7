//! What a session costs, call by call: as it was with the provider's cache, without one, and with compaction.
//!
//! Per call: p·(ρ·hit + ω·(C − hit)) + q·p·out; `hit` is the longest common prefix with the previous prompt, in rendered
//! bytes, nothing past the cache's lifetime or under the provider's minimum. Costs are in units of p per token.
//!
//! M1. A page fault (a call needs content that the context does not show) is charged: a call over the full context,
//!     the fetched content, and its stay in the context until the next seal.

use std::collections::BTreeSet;

use crate::ccs::{Body, Ccs, Event, Input, Reason, Seal, Settings, edits, handle, text};
use crate::transcripts::Transcript;

use super::prices::Table;
use super::{cut, future};

/// Output tokens of a call that only fetches.
const FETCH_OUTPUT_TOKENS: usize = 60;

/// A session's cost under one table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub calls: usize,
    pub uncached: f64,
    pub cached: f64,
    pub compacted: f64,
    /// The base prompt's part of `cached`.
    pub base: f64,
    /// What `cached` pays for history that was sent before: the most that any compaction could save.
    pub resent: f64,
    pub faults: usize,
    pub seals: usize,
    /// Calls without a seal whose prompt extends the previous one, and all without a seal.
    pub stable: usize,
    pub unsealed: usize,
    pub tokens_raw: usize,
    pub tokens_compacted: usize,
}

impl Cost {
    pub fn add(&mut self, o: &Self) {
        self.calls += o.calls;
        self.uncached += o.uncached;
        self.cached += o.cached;
        self.compacted += o.compacted;
        self.base += o.base;
        self.resent += o.resent;
        self.faults += o.faults;
        self.seals += o.seals;
        self.stable += o.stable;
        self.unsealed += o.unsealed;
        self.tokens_raw += o.tokens_raw;
        self.tokens_compacted += o.tokens_compacted;
    }

    /// Against the cached baseline, from 0 to 1.
    #[must_use]
    pub fn net_saving(&self) -> f64 {
        if self.cached > 0.0 { 1.0 - self.compacted / self.cached } else { 0.0 }
    }

    #[must_use]
    pub fn uncached_saving(&self) -> f64 {
        if self.uncached > 0.0 { 1.0 - self.compacted / self.uncached } else { 0.0 }
    }
}

/// The previous prompt, behind the base.
#[derive(Default)]
struct Prompt {
    text: String,
    tokens: usize,
    generation: u32,
}

/// Replays a session's calls under one table.
pub struct Replay<'a> {
    pub transcript: &'a Transcript,
    pub events: &'a [(usize, Event)],
    pub settings: &'a Settings,
    pub table: &'a Table,
    pub base_tokens: usize,
}

impl Replay<'_> {
    #[must_use]
    pub fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        let mut ccs = Ccs::new(self.settings.clone());
        let requests = cut::requests(self.transcript, self.events);
        let mut prompt = Prompt::default();
        let mut fetched = Fetched::default();
        let (mut folded, mut raw_before, mut last_ms) = (0, 0, None);
        for (n, at) in requests.iter().enumerate() {
            for (_, event) in self.events.get(folded..*at).unwrap_or_default() {
                ccs.fold(Input::Event(event.clone()));
            }
            folded = *at;
            // Beyond a window the model could not be sent the raw history: no baseline, no saving.
            if self.table.window_tokens.is_some_and(|w| self.base_tokens + ccs.history_tokens() > w) {
                break;
            }
            cost.calls += 1;
            let now =
                self.events.get(*at).and_then(|(i, _)| self.transcript.events.get(*i)).and_then(|e| e.at_ms);
            let gap = now.zip(last_ms).map_or(0, |(a, b): (i64, i64)| a - b);
            let cold = n == 0 || gap > self.table.lifetime_s * 1000;
            last_ms = now.or(last_ms);
            self.trigger(&mut ccs, cold && n > 0);
            let until = requests.get(n + 1).copied().unwrap_or(self.events.len());
            let mine = self.events.get(*at..until).unwrap_or_default();
            let output = self.output(mine);
            self.baseline(&mut cost, ccs.history_tokens(), raw_before, (cold, output));
            raw_before = ccs.history_tokens();
            self.compacted(&mut cost, &ccs, &mut prompt, (&mut fetched, cold, output));
            self.faults(&mut cost, &ccs, &mut fetched, (*at, mine));
        }
        cost
    }

    fn trigger(&self, ccs: &mut Ccs, cold: bool) {
        let upto = ccs.watermark();
        let aim = self.settings.budget(ccs.history_tokens(), 0);
        if cold && ccs.live_tokens() > aim / 2 {
            ccs.fold(Input::Seal(Seal::new(upto, Reason::Cold)));
        } else if ccs.live_tokens() > self.settings.high_mark_tokens {
            ccs.fold(Input::Seal(Seal::new(upto, Reason::HighMark)));
        }
    }

    fn price(&self, tokens: usize, hit: usize) -> f64 {
        let hit = if hit < self.table.prefix_tokens_min { 0 } else { hit.min(tokens) };
        self.table.cached * hit as f64 + self.table.write * (tokens - hit) as f64
    }

    fn baseline(&self, cost: &mut Cost, history: usize, before: usize, (cold, output): (bool, usize)) {
        let tokens = self.base_tokens + history;
        let hit = if cold { 0 } else { self.base_tokens + before };
        let out = self.table.output * output as f64;
        cost.cached += self.price(tokens, hit) + out;
        cost.uncached += tokens as f64 + out;
        cost.base += self.price(self.base_tokens, if cold { 0 } else { self.base_tokens });
        cost.resent += self.price(before, if cold { 0 } else { before });
        cost.tokens_raw += tokens;
    }

    fn compacted(&self, cost: &mut Cost, ccs: &Ccs, prompt: &mut Prompt, more: (&mut Fetched, bool, usize)) {
        let (fetched, cold, output) = more;
        let context = ccs.context();
        let sealed = context.generation != prompt.generation;
        if sealed {
            fetched.clear();
            cost.seals += 1;
        }
        let tokens = self.base_tokens + context.tokens + fetched.tokens;
        let text = context.text();
        let hit = if sealed {
            self.base_tokens + self.settings.vocabulary.count(common(&prompt.text, &text))
        } else {
            let stable = text.starts_with(&prompt.text);
            cost.unsealed += 1;
            cost.stable += usize::from(stable);
            self.base_tokens + if stable { prompt.tokens } else { 0 }
        };
        let hit = if cold { 0 } else { hit };
        cost.compacted += self.price(tokens, hit) + self.table.output * output as f64;
        cost.tokens_compacted += tokens;
        *prompt = Prompt { text, tokens: context.tokens + fetched.tokens, generation: context.generation };
    }

    /// Charges what the calls of this response need and the context does not show.
    fn faults(
        &self,
        cost: &mut Cost,
        ccs: &Ccs,
        fetched: &mut Fetched,
        (at, mine): (usize, &[(usize, Event)]),
    ) {
        if ccs.context().generation == 0 {
            return;
        }
        let shown = ccs.context().text();
        for (_, event) in mine {
            let Body::Call(call) = &event.body else { continue };
            let Some(seq) = self.missing(call, at, &shown, fetched) else { continue };
            let Some((_, event)) = self.events.get(seq) else { continue };
            let content = String::from_utf8_lossy(handle::bytes(event)).into_owned();
            let tokens = self.settings.vocabulary.count(&content);
            let context = self.base_tokens + ccs.context().tokens + fetched.tokens;
            cost.faults += 1;
            cost.compacted +=
                self.price(context + tokens, context) + self.table.output * FETCH_OUTPUT_TOKENS as f64;
            cost.tokens_compacted += context + tokens;
            fetched.add(&content, tokens);
        }
    }

    /// The event that the call needs to see: the newest with a text it repeats, or with most of its names.
    fn missing(&self, call: &crate::ccs::Call, at: usize, shown: &str, fetched: &Fetched) -> Option<usize> {
        let before = self.events.get(..at)?;
        let visible = |text: &str| shown.contains(text) || fetched.text.contains(text);
        let arguments = String::from_utf8_lossy(&call.arguments);
        for text in edits::texts(&arguments) {
            let line = text.lines().map(str::trim).filter(|l| l.len() >= 24).max_by_key(|l| l.len());
            let Some(line) = line.filter(|l| !visible(l)) else { continue };
            let had =
                |(_, e): &(usize, Event)| matches!(e.body, Body::Result(_)) && has(handle::bytes(e), line);
            if let Some(found) = before.iter().rposition(had) {
                return Some(found);
            }
        }
        let names: BTreeSet<String> = future::arguments(&arguments);
        let absent: Vec<&String> = names.iter().filter(|n| !visible(n)).collect();
        if absent.is_empty() || absent.len() * 2 < names.len() {
            return None;
        }
        // Names that were never seen are the agent's own: no fault.
        let hits = |e: &Event| absent.iter().filter(|n| has(handle::bytes(e), n)).count();
        let found = before.iter().rposition(|(_, e)| hits(e) * 2 >= absent.len() && hits(e) > 0)?;
        (absent.len() * 2 >= names.len()).then_some(found)
    }

    fn output(&self, mine: &[(usize, Event)]) -> usize {
        let made = mine
            .iter()
            .filter(|(_, e)| matches!(e.body, Body::Assistant(_) | Body::Reasoning(_) | Body::Call(_)));
        let counted: usize = made
            .map(|(_, e)| self.settings.vocabulary.count(&String::from_utf8_lossy(handle::bytes(e))))
            .sum();
        let call = mine.first().and_then(|(i, _)| self.transcript.events.get(*i)).and_then(|e| e.call);
        let usage = call.and_then(|c| self.transcript.calls.get(c)).and_then(|c| c.usage);
        // Interrupted streams leave a first, small count: what was written is the least it can be.
        usage.map_or(counted, |u| counted.max(usize::try_from(u.output_tokens).unwrap_or(counted)))
    }
}

#[derive(Default)]
struct Fetched {
    text: String,
    tokens: usize,
}

impl Fetched {
    fn add(&mut self, content: &str, tokens: usize) {
        self.text.push_str(content);
        self.text.push('\n');
        self.tokens += tokens;
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn has(bytes: &[u8], needle: &str) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.contains(needle))
}

fn common<'a>(a: &str, b: &'a str) -> &'a str {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    text::prefix(b, same)
}

/// The base prompt in tokens: what the first call was sent beyond the history, or the system texts where the
/// provider's count is missing.
#[must_use]
pub fn base_tokens(transcript: &Transcript, events: &[(usize, Event)], settings: &Settings) -> usize {
    let system: usize = transcript
        .events
        .iter()
        .map(|e| match &e.part {
            crate::transcripts::Part::System(text) => settings.vocabulary.count(text),
            _ => 0,
        })
        .sum();
    let first = cut::requests(transcript, events).first().copied().unwrap_or(0);
    let mut ccs = Ccs::new(settings.clone());
    for (_, event) in events.iter().take(first) {
        ccs.fold(Input::Event(event.clone()));
    }
    let sent = transcript.calls.first().and_then(|c| c.usage).map_or(0, |u| u.prompt_tokens());
    let beyond = usize::try_from(sent).unwrap_or(0).saturating_sub(ccs.history_tokens());
    system.max(beyond)
}
