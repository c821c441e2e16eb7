//! The seven measurements, gathered.

use std::collections::BTreeMap;

use crate::ccs::{Event, Input, Reason, Seal, Settings, text};
use crate::transcripts::Transcript;

use super::cut::{self, Cut};
use super::future::{self, Use};
use super::load::{self, Session};
use super::money::{self, Cost};
use super::prices::{self, Table};
use super::probes::{self, Class, Found, Visible};
use super::{hostile, names};

/// Histories from here on count for the targets.
pub const LONG_TOKENS: usize = 16_000;
/// Sessions from here on are long in calls.
pub const LONG_CALLS: usize = 50;
/// What was mentioned within so many calls before the cut is near.
const NEAR_CALLS: usize = 10;

/// A ratio at one cut.
#[derive(Debug, Clone)]
pub struct Ratio {
    pub format: &'static str,
    pub name: String,
    pub raw: usize,
    pub sent: usize,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub retained: usize,
    pub recoverable: usize,
    pub lost: usize,
}

/// Future use of one kind of context: by horizon, all and far.
#[derive(Debug, Clone, Copy, Default)]
pub struct FutureUse {
    pub all_10: Use,
    pub all_40: Use,
    pub far_10: Use,
    pub far_40: Use,
    pub tokens: usize,
}

/// All that `bench` found.
#[derive(Debug, Default)]
pub struct Report {
    pub settings: Settings,
    pub sessions: usize,
    pub ratios: Vec<Ratio>,
    pub probes: BTreeMap<Class, Tally>,
    pub lost_examples: Vec<String>,
    pub stale: usize,
    /// By kind of context: raw, ccs, window, mask-5, mask-10.
    pub future: BTreeMap<&'static str, FutureUse>,
    /// By price table: over sessions with many calls, and over all.
    pub money: Vec<(Table, Cost, Cost)>,
    /// By number of compactions: retained share of all probes, and lost.
    pub chains: BTreeMap<usize, Tally>,
    pub hostile: Vec<String>,
    /// Tokens that each pass took out of the long histories.
    pub removed: BTreeMap<String, usize>,
    pub randomised: Vec<Ratio>,
    pub prices_date: String,
}

/// Measures sessions under one preset; `progress` is told after each.
#[must_use]
pub fn measure(sessions: &[Session], settings: &Settings, progress: &dyn Fn(usize)) -> Report {
    let prices = prices::built_in();
    let mut report = Report {
        settings: settings.clone(),
        sessions: sessions.len(),
        money: prices.tables.iter().map(|t| (t.clone(), Cost::default(), Cost::default())).collect(),
        prices_date: prices.date.clone(),
        ..Report::default()
    };
    for (n, session) in sessions.iter().enumerate() {
        let events = load::events(&session.transcript);
        let plain: Vec<Event> = events.iter().map(|(_, e)| e.clone()).collect();
        for place in cut::places(&session.transcript, &events) {
            let cut = cut::cut(&events, place, settings);
            report.ratio(session, &cut);
            report.probe(session, &cut, &plain, &events);
            if cut.history_tokens >= LONG_TOKENS {
                cut.removed
                    .iter()
                    .for_each(|(pass, n)| *report.removed.entry(pass.clone()).or_default() += n);
                report.future(&session.transcript, &cut, &events);
            }
        }
        report.chain(session, &events, &plain);
        report.cost(session, &events, &prices);
        let renamed = names::randomised(&session.transcript);
        let events = load::events(&renamed);
        for place in cut::places(&renamed, &events) {
            let cut = cut::cut(&events, place, settings);
            report.randomised.push(ratio(session, &cut));
        }
        progress(n + 1);
    }
    report.hostile = hostile::check(50 << 20, settings);
    report
}

fn ratio(session: &Session, cut: &Cut) -> Ratio {
    Ratio {
        format: session.format.name(),
        name: session.name.clone(),
        raw: cut.history_tokens,
        sent: cut.context.tokens,
    }
}

impl Report {
    fn ratio(&mut self, session: &Session, cut: &Cut) {
        self.ratios.push(ratio(session, cut));
    }

    fn probe(&mut self, session: &Session, cut: &Cut, plain: &[Event], events: &[(usize, Event)]) {
        let upto = events.get(cut.events - 1).map_or(0, |(at, _)| at + 1);
        let visible = Visible::new(&cut.context.front, &cut.context.tail);
        let before = plain.get(..cut.events).unwrap_or_default();
        for probe in probes::probes(&session.transcript, upto) {
            self.stale += usize::from(visible.stale(&probe));
            if probe.needs.is_empty() {
                continue;
            }
            let found = visible.look(&probe, before);
            let tally = self.probes.entry(probe.class).or_default();
            count(tally, found);
            if found != Found::Retained && probe.class != Class::Ids || found == Found::Lost {
                let what = format!(
                    "{found:?} {} at {}: {} {:?}",
                    session.name,
                    cut.events,
                    probe.class.name(),
                    probe.needs
                );
                self.lost_examples.push(what.chars().take(220).collect());
            }
        }
    }

    fn future(&mut self, transcript: &Transcript, cut: &Cut, events: &[(usize, Event)]) {
        let from = events.get(cut.events).map_or(usize::MAX, |(at, _)| *at);
        let raw: Vec<String> = events.iter().take(cut.events).map(|(_, e)| message(e)).collect();
        let history = future::names(&raw.concat());
        let near_from = near(events, cut.events);
        let near = future::names(&raw.get(near_from..).unwrap_or_default().concat());
        let contexts = [
            ("raw", raw.concat()),
            ("ccs", cut.context.text().replace("\\n", " ").replace("\\t", " ")),
            ("window", window(&raw, cut.context.tokens, &self.settings)),
            ("mask-5", masked(events, cut.events, 5)),
            ("mask-10", masked(events, cut.events, 10)),
        ];
        let ten = future::needed(cut::next_calls(transcript, from, 10), &history);
        let forty = future::needed(cut::next_calls(transcript, from, 40), &history);
        let far_10 = ten.difference(&near).cloned().collect();
        let far_40 = forty.difference(&near).cloned().collect();
        for (name, text) in contexts {
            let shown = future::names(&text);
            let entry = self.future.entry(name).or_default();
            entry.all_10.add(future::shown(&ten, &shown));
            entry.all_40.add(future::shown(&forty, &shown));
            entry.far_10.add(future::shown(&far_10, &shown));
            entry.far_40.add(future::shown(&far_40, &shown));
            entry.tokens += self.settings.vocabulary.count(&text);
        }
    }

    fn chain(&mut self, session: &Session, events: &[(usize, Event)], plain: &[Event]) {
        for compactions in [1, 2, 4, 8] {
            let mut ccs = crate::ccs::Ccs::new(self.settings.clone());
            for (n, (_, event)) in events.iter().enumerate() {
                ccs.fold(Input::Event(event.clone()));
                let due = (n + 1) * compactions / events.len() > n * compactions / events.len();
                if due {
                    let upto = ccs.watermark();
                    ccs.fold(Input::Seal(Seal::new(upto, Reason::Explicit)));
                }
            }
            let context = ccs.context();
            let visible = Visible::new(&context.front, &context.tail);
            for probe in probes::probes(&session.transcript, session.transcript.events.len()) {
                if !probe.needs.is_empty() {
                    count(self.chains.entry(compactions).or_default(), visible.look(&probe, plain));
                }
            }
        }
    }

    fn cost(&mut self, session: &Session, events: &[(usize, Event)], prices: &prices::Prices) {
        let base_tokens = money::base_tokens(&session.transcript, events, &self.settings);
        for (table, sums) in prices.tables.iter().zip(&mut self.money) {
            let replay = money::Replay {
                transcript: &session.transcript,
                events,
                settings: &self.settings,
                table,
                base_tokens,
            };
            let cost = replay.cost();
            if cost.calls >= LONG_CALLS {
                sums.1.add(&cost);
            }
            sums.2.add(&cost);
        }
    }
}

fn count(tally: &mut Tally, found: Found) {
    match found {
        Found::Retained => tally.retained += 1,
        Found::Recoverable => tally.recoverable += 1,
        Found::Lost => tally.lost += 1,
    }
}

fn message(event: &Event) -> String {
    let text = String::from_utf8_lossy(crate::ccs::handle::bytes(event)).into_owned();
    match &event.body {
        crate::ccs::Body::Call(call) => {
            format!("{} {}\n", call.tool, text.replace("\\n", "\n").replace("\\t", "\t"))
        }
        _ => format!("{text}\n"),
    }
}

/// The newest messages within a budget; of the first that does not fit, its end.
fn window(raw: &[String], budget: usize, settings: &Settings) -> String {
    let mut left = budget;
    let mut kept: Vec<&str> = Vec::new();
    for message in raw.iter().rev() {
        let tokens = settings.vocabulary.count(message);
        if tokens > left {
            let bytes = message.len() * left / tokens.max(1);
            kept.push(text::suffix(message, bytes));
            break;
        }
        left -= tokens;
        kept.push(message);
    }
    kept.reverse();
    kept.concat()
}

/// All messages, observations replaced but for the last few.
fn masked(events: &[(usize, Event)], upto: usize, keep: usize) -> String {
    let before = events.get(..upto).unwrap_or_default();
    let total = before.iter().filter(|(_, e)| matches!(e.body, crate::ccs::Body::Result(_))).count();
    let mut seen = 0;
    let mut out = String::new();
    for (_, event) in before {
        if matches!(event.body, crate::ccs::Body::Result(_)) {
            seen += 1;
            if seen + keep <= total {
                out.push_str("[masked]\n");
                continue;
            }
        }
        out.push_str(&message(event));
    }
    out
}

/// The event with which the last few calls before a cut begin.
fn near(events: &[(usize, Event)], upto: usize) -> usize {
    let calls = events
        .iter()
        .take(upto)
        .enumerate()
        .filter(|(_, (_, e))| matches!(e.body, crate::ccs::Body::Call(_)));
    let places: Vec<usize> = calls.map(|(n, _)| n).collect();
    places.get(places.len().saturating_sub(NEAR_CALLS)).copied().unwrap_or(0)
}
