//! What a session's prompts cost beside what they would have cost with the whole conversation in each.
//!
//! As `archive/queries/contexts.sql` computes it over archived sessions: in thousandths of a model's input price per token;
//! a cached token is read for 0.1 of it and written for 1.25, a prefix stays cached for five minutes, output is left out.
//! A call that only led to reading back what was left out (a page fault) is charged, and is not in the baselines.

use cellaflow_proto::content::ContextUsed;
use cellaflow_proto::v1;
use serde_json::{Value, json};

const CACHED_PERMILLE: u64 = 100;
const WRITTEN_PERMILLE: u64 = 1_250;
const PLAIN_PERMILLE: u64 = 1_000;
const LIFETIME_MS: u64 = 5 * 60 * 1_000;

/// A prompt.
#[derive(Debug, Default)]
struct Call {
    time_ms: u64,
    base: u64,
    sent: u64,
    whole: u64,
    shared: u64,
    fallback: bool,
    /// It read back what was left out; it did something else.
    fetched: bool,
    worked: bool,
}

/// The prompts of a session.
#[derive(Debug, Default)]
pub(super) struct Prompts(Vec<Call>);

/// What they come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    pub(super) calls: u64,
    pub(super) faults: u64,
    pub(super) fallbacks: u64,
    pub(super) sent: u64,
    pub(super) whole: u64,
    /// In thousandths of the input price.
    compacted: u64,
    cached: u64,
    uncached: u64,
    base: u64,
}

impl Prompts {
    /// Takes an event; `used`: it says what a prompt was made of.
    pub(super) fn note(&mut self, event: &v1::Event, used: Option<&ContextUsed>) {
        if let Some(used) = used {
            self.0.push(Call {
                time_ms: event.time_ms,
                base: used.base_tokens,
                sent: used.tokens,
                whole: used.raw_tokens,
                shared: used.shared_tokens,
                fallback: used.fallback,
                ..Call::default()
            });
            return;
        }
        let Some(v1::event::Body::StepCompleted(step)) = &event.body else { return };
        let Some(last) = self.0.last_mut().filter(|_| step.llm.is_none()) else { return };
        let fetches = step.resources.iter().any(|resource| resource.kind == "context");
        last.fetched |= fetches;
        last.worked |= !fetches;
    }

    pub(super) fn bill(&self) -> Bill {
        let mut bill = Bill::default();
        let (mut before, mut before_whole) = (None::<&Call>, None::<&Call>);
        for call in &self.0 {
            let fault = call.fetched && !call.worked;
            let prompt = call.base + call.sent;
            bill.calls += 1;
            bill.sent += call.sent;
            bill.base += call.base;
            bill.fallbacks += u64::from(call.fallback);
            let warm = |last: &&Call| call.time_ms.saturating_sub(last.time_ms) <= LIFETIME_MS;
            let hit = before.filter(warm).map_or(0, |_| call.base + call.shared);
            bill.compacted += cost(prompt, hit);
            before = Some(call);
            if fault {
                bill.faults += 1;
                continue;
            }
            let prompt = call.base + call.whole;
            bill.whole += call.whole;
            bill.uncached += prompt * PLAIN_PERMILLE;
            bill.cached += cost(prompt, before_whole.filter(warm).map_or(0, |last| call.base + last.whole));
            before_whole = Some(call);
        }
        bill
    }
}

fn cost(prompt: u64, hit: u64) -> u64 {
    let hit = hit.min(prompt);
    hit * CACHED_PERMILLE + (prompt - hit) * WRITTEN_PERMILLE
}

impl Bill {
    /// Lines for a person; none without prompts.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        if self.calls == 0 {
            return Vec::new();
        }
        let faults = format!("{} page faults charged, {} fallbacks", self.faults, self.fallbacks);
        vec![
            ("prompts", format!("{}, {faults}", self.calls)),
            ("tokens sent", format!("{} of {}: {} less", self.sent, self.whole, less(self.sent, self.whole))),
            (
                "cost saved",
                format!(
                    "{} against a cached baseline, {} against an uncached one",
                    less(self.compacted, self.cached),
                    less(self.compacted, self.uncached)
                ),
            ),
            (
                "base prompt",
                format!("{} of what was sent", percent(self.base * 1_000, self.base + self.sent)),
            ),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "calls": self.calls,
            "page_faults": self.faults,
            "fallbacks": self.fallbacks,
            "sent_tokens": self.sent,
            "whole_tokens": self.whole,
            "tokens_saved": share(self.sent, self.whole),
            "saved_against_cached": share(self.compacted, self.cached),
            "saved_against_uncached": share(self.compacted, self.uncached),
            "base_prompt_share": 1.0 - share(self.base, self.base + self.sent),
        })
    }
}

/// From 0 to 1, less than nothing if it became dearer.
fn share(after: u64, before: u64) -> f64 {
    if before == 0 { 0.0 } else { 1.0 - after as f64 / before as f64 }
}

fn less(after: u64, before: u64) -> String {
    format!("{:.1} %", share(after, before) * 100.0)
}

fn percent(part_permille: u64, whole: u64) -> String {
    let tenths = part_permille.checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, time_ms: u64, step: v1::StepCompleted) -> v1::Event {
        let body = Some(v1::event::Body::StepCompleted(step));
        v1::Event { seq, time_ms, body, ..v1::Event::default() }
    }

    fn step(kind: &str) -> v1::StepCompleted {
        let resource = v1::Resource { kind: kind.into(), id: "x".into(), ..v1::Resource::default() };
        v1::StepCompleted { resources: vec![resource], ..v1::StepCompleted::default() }
    }

    fn used(tokens: u64, raw_tokens: u64, shared_tokens: u64) -> ContextUsed {
        ContextUsed { base_tokens: 100, tokens, raw_tokens, shared_tokens, ..ContextUsed::default() }
    }

    /// The same story as the query's: work, a page fault, and a call after the cache has gone.
    #[test]
    fn a_bill_charges_page_faults_and_leaves_them_out_of_the_baselines() {
        let mut prompts = Prompts::default();
        let none = v1::StepCompleted::default;
        let llm = || v1::StepCompleted { llm: Some(v1::LlmCall::default()), ..none() };
        prompts.note(&event(2, 0, none()), Some(&used(1_000, 1_000, 0)));
        prompts.note(&event(3, 1_000, llm()), None);
        prompts.note(&event(4, 2_000, step("file")), None);
        prompts.note(&event(5, 3_000, none()), Some(&used(500, 2_000, 0)));
        prompts.note(&event(6, 4_000, llm()), None);
        prompts.note(&event(7, 5_000, step("context")), None);
        prompts.note(&event(8, 603_000, none()), Some(&used(700, 3_000, 500)));
        let bill = prompts.bill();
        assert_eq!((bill.calls, bill.faults, bill.sent, bill.whole), (3, 1, 2_200, 4_000));
        // Written, then 100 tokens read from the cache, then all written again.
        assert_eq!(bill.compacted, 1_375_000 + 10_000 + 625_000 + 1_000_000);
        assert_eq!((bill.cached, bill.uncached), (1_375_000 + 3_875_000, 4_200_000));
        assert_eq!(bill.json()["base_prompt_share"], 0.12);
        assert!(bill.lines().iter().any(|(_, line)| line.contains("42.7 % against a cached")), "{bill:?}");
        assert_eq!(Prompts::default().bill().lines(), []);
    }
}
