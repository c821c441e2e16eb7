//! The state of the fold and the order in which the passes run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::budget::Settings;
use super::dead::Chains;
use super::duplicates::Duplicates;
use super::edits;
use super::event::{Input, Seal};
use super::facts::Facts;
use super::mask;
use super::normalise::{self, Item, Kind};
use super::removed::{self, Removed};
use super::seal::{self, Segment};
use super::tail::{self, Shown};
use super::verify;
use super::words::{Use, Words};
use super::{handle, render, text};

/// Calls without a result that are remembered.
const OPEN_CALLS_MAX: usize = 256;

/// All that is known of a session's history: small, serialisable, folded event by event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ccs {
    settings: Settings,
    /// The last event folded.
    watermark: u64,
    /// Tokens of the whole history as it would be sent uncompacted.
    history_tokens: usize,
    facts: Facts,
    chains: Chains,
    duplicates: Duplicates,
    words: Words,
    open: BTreeMap<String, Item>,
    instructions: Vec<(u64, String)>,
    segments: Vec<Segment>,
    tail: Vec<Shown>,
    /// What precedes the tail since the last seal.
    front: String,
    /// Where in it the instructions end, and the segments.
    cuts: (usize, usize),
    front_tokens: usize,
    /// Tokens that came after the last seal.
    live_tokens: usize,
    removed: Removed,
    /// Folder under which paths are shortened; fixed by the first seal.
    root: Option<String>,
    generation: u32,
    /// Items, rows and lines that passes looked at: a counter for tests of C4.
    work: u64,
}

/// A part of a context, by how long it stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    Instructions,
    Segments,
    Facts,
}

/// What the model is sent for a history, the tools and the base prompt aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Frozen between seals.
    pub front: String,
    /// Verbatim, or cut with a handle.
    pub tail: Vec<String>,
    /// All of it, and the two tools' definitions where anything was left out.
    pub tokens: usize,
    pub generation: u32,
}

impl Context {
    /// The bytes of the prompt after the tools.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = self.front.clone();
        self.tail.iter().for_each(|m| out.push_str(m));
        out
    }
}

impl Ccs {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            watermark: 0,
            history_tokens: 0,
            facts: Facts::default(),
            chains: Chains::default(),
            duplicates: Duplicates::default(),
            words: Words::default(),
            open: BTreeMap::new(),
            instructions: Vec::new(),
            segments: Vec::new(),
            tail: Vec::new(),
            front: String::new(),
            cuts: (0, 0),
            front_tokens: 0,
            live_tokens: 0,
            removed: Removed::default(),
            root: None,
            generation: 0,
            work: 0,
        }
    }

    /// Folds one input. Events at or below the watermark were folded before and are passed over.
    pub fn fold(&mut self, input: Input) {
        match input {
            Input::Event(event) if event.seq <= self.watermark => {}
            Input::Event(event) => {
                self.watermark = event.seq;
                let item = normalise::item(event, self.settings.vocabulary);
                self.take(item);
            }
            Input::Seal(seal) => self.seal(seal),
        }
    }

    #[must_use]
    pub fn context(&self) -> Context {
        let tools = if self.generation == 0 { 0 } else { self.settings.vocabulary.count(render::TOOLS) };
        let tail_tokens: usize = self.tail.iter().map(|s| s.tokens).sum();
        Context {
            front: self.front.clone(),
            tail: self.tail.iter().map(|s| s.message.clone()).collect(),
            tokens: tools + self.front_tokens + tail_tokens,
            generation: self.generation,
        }
    }

    /// The context right after a seal, by how long its parts stay as they are: instructions, segments, and facts with
    /// the tail. An empty part is left out.
    #[must_use]
    pub fn blocks(&self) -> Vec<(Block, String)> {
        let (instructions, segments) = self.cuts;
        let part = |from: usize, to: usize| self.front.get(from..to).unwrap_or_default().to_owned();
        let mut last = part(segments, self.front.len());
        self.tail.iter().for_each(|shown| last.push_str(&shown.message));
        let all = [
            (Block::Instructions, part(0, instructions)),
            (Block::Segments, part(instructions, segments)),
            (Block::Facts, last),
        ];
        all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }

    /// How many seals were taken.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    #[must_use]
    pub fn history_tokens(&self) -> usize {
        self.history_tokens
    }

    /// Tokens that came after the last seal: what the high mark is compared with.
    #[must_use]
    pub fn live_tokens(&self) -> usize {
        self.live_tokens
    }

    /// Tokens that the tail has now.
    #[must_use]
    pub fn tail_tokens(&self) -> usize {
        self.tail.iter().map(|s| s.tokens).sum()
    }

    /// Tokens that each pass took out so far.
    #[must_use]
    pub fn removed(&self) -> std::collections::BTreeMap<String, usize> {
        self.removed.by_pass()
    }

    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }

    fn take(&mut self, item: Item) {
        self.work += 1;
        self.history_tokens += item.tokens;
        self.facts.note(&item);
        match &item.kind {
            Kind::Call { id, resources, .. } => {
                for resource in resources {
                    self.chains.note(item.seq, resource);
                }
                let place = place(&item).unwrap_or_default();
                for text in edits::texts(&item.text) {
                    self.words.note(&text, Use::Argument, item.seq, &place);
                }
                self.open.insert(id.clone(), item.clone());
                if self.open.len() > OPEN_CALLS_MAX {
                    self.open.pop_first();
                }
            }
            Kind::Observation { call, .. } => {
                self.duplicates.note(item.hash, item.bytes, item.seq);
                let made = self.open.remove(call);
                let place = made.as_ref().and_then(place).unwrap_or_default();
                self.words.note(&item.text, Use::Observed, item.seq, &place);
                if let Some(made) = made {
                    self.facts.settle(&made, &item);
                }
            }
            Kind::User | Kind::Assistant | Kind::Reasoning | Kind::Notice => {
                self.words.note(&item.text, Use::Said, item.seq, "");
            }
        }
        let shown = tail::shown(&item, &item.text, self.settings.vocabulary);
        self.live_tokens += shown.tokens;
        self.tail.push(shown);
    }

    fn seal(&mut self, seal: Seal) {
        // Events beyond the seal would have to be folded after it: such a seal comes late and changes nothing.
        if seal.upto != self.watermark {
            return;
        }
        let mut next = self.clone();
        if next.propose(seal.limit_tokens).is_ok() {
            *self = next;
        }
    }

    /// Seals in place; on an error the caller drops the copy.
    fn propose(&mut self, limit_tokens: u64) -> Result<(), verify::Refused> {
        let vocabulary = self.settings.vocabulary;
        self.root = self.root.take().or_else(|| root(self.facts.files.keys()));
        let root = self.root.clone();
        let short = move |s: &str| root.as_deref().map_or_else(|| s.to_owned(), |r| s.replace(r, ""));
        let budget = self.settings.budget(self.history_tokens, limit_tokens);

        let items: Vec<Item> = self.tail.iter().map(|s| s.item.clone()).collect();
        let rows = self.facts.rows()
            + self.words.rows()
            + self.segments.iter().map(|s| s.entries.len()).sum::<usize>();
        self.work += (items.len() + rows) as u64;
        let units = tail::units(&items);
        let facts = self.facts.render(&short);
        let said: Vec<&Item> = items.iter().filter(|i| matches!(i.kind, Kind::User)).collect();
        let said_tokens: usize = said.iter().map(|i| i.tokens).sum();
        let head = format!("{}{}", render::PREAMBLE, self.instructions_text());
        let floor_text = format!("{}{head}{facts}{}", render::TOOLS, self.facts.ids.render(&head));
        let floors = vocabulary.count(&floor_text) + said_tokens;
        let mut shares = self.settings.shares(budget, floors);

        let chosen = {
            let around = tail::Around {
                chains: &self.chains,
                duplicates: &self.duplicates,
                vocabulary,
                share: shares.tail,
            };
            tail::choose(&units, &around)
        };
        let around = mask::Around { chains: &self.chains, short: &short, vocabulary };
        let mut entries = Vec::new();
        let mut span: Option<(u64, u64)> = None;
        let mut count = 0;
        let mut moved: Vec<(u64, String)> = Vec::new();
        for (unit, shown) in units.iter().zip(&chosen) {
            if shown.is_some() {
                continue;
            }
            let last = unit.result.map_or(unit.head.seq, |r| r.seq);
            span = Some((span.map_or(unit.head.seq, |s| s.0), span.map_or(last, |s| s.1.max(last))));
            count += 1;
            if unit.head.kind == Kind::User {
                moved.push((unit.head.seq, unit.head.text.clone()));
            }
            let entry = mask::entry(*unit, &around);
            let tokens = if unit.head.kind == Kind::User {
                unit.head.tokens
            } else {
                entry.as_ref().map_or(0, |e| e.tokens)
            };
            self.removed.seal(*unit, tokens, removed::why(*unit, &self.chains, &self.duplicates));
            entries.extend(entry);
        }
        drop(units);
        self.instructions.extend(moved);
        if let Some(span) = span {
            let new = seal::freeze(entries, span, count, (shares.segments, vocabulary));
            seal::push(&mut self.segments, new, shares.segments, vocabulary);
        }
        let mut kept: Vec<Shown> = chosen.into_iter().flatten().flatten().collect();
        kept.sort_by_key(|s| s.item.seq);
        self.removed.tail(&kept, &self.duplicates);
        self.tail = kept;

        let mut front = format!("{}{}", render::PREAMBLE, self.instructions_text());
        let instructions = front.len();
        if let Some(root) = &self.root {
            front.push_str(&format!("Paths below are under {root}\n"));
        }
        for segment in &self.segments {
            front.push_str(&segment.bytes);
        }
        self.cuts = (instructions, front.len());
        front.push_str(&facts);
        let mut visible = front.clone();
        self.tail.iter().for_each(|s| visible.push_str(&s.message));
        front.push_str(&short(&self.facts.ids.render(&visible)));
        let used = vocabulary.count(&front) + self.tail_tokens() + vocabulary.count(render::TOOLS);
        shares.words = shares
            .words
            .max(budget.saturating_sub(used))
            .min(budget.saturating_sub(used).max(shares.words / 2));
        front.push_str(&self.names(&visible, &short, shares.words));
        self.front_tokens = vocabulary.count(&front);
        self.front = front;
        self.generation += 1;
        self.live_tokens = 0;
        let context = self.context();
        let tail: Vec<&Item> = self.tail.iter().map(|s| &s.item).collect();
        verify::check(&verify::Proposal {
            front: &self.front,
            before_tokens: self.history_tokens,
            after_tokens: context.tokens,
            watermark: self.watermark,
            instructions: &self.instructions,
            tail: &tail,
        })
    }

    fn instructions_text(&self) -> String {
        if self.instructions.is_empty() {
            return String::new();
        }
        let mut out = String::from("The user said:\n");
        for (seq, text) in &self.instructions {
            out.push_str(&format!("{} {text}\n", handle::show(*seq)));
        }
        out
    }

    /// Names in play that nothing else shows, by where they were seen, within the share.
    fn names(&self, visible: &str, short: &dyn Fn(&str) -> String, share: usize) -> String {
        let seen: std::collections::BTreeSet<&str> = text::identifiers(visible).collect();
        let mut left = share.saturating_sub(8);
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in self.words.ranked(self.watermark) {
            if seen.contains(word.name.as_str()) || word.name.len() > 48 {
                continue;
            }
            let place = short(&word.place);
            let place = text::line(&place, 200);
            let place =
                place.rsplit('/').next().filter(|p| !p.contains(' ') && p.len() < 40).unwrap_or_default();
            let mut cost = self.settings.vocabulary.count(&word.name) + 1;
            if !groups.contains_key(place) {
                cost += self.settings.vocabulary.count(place) + 2;
            }
            if cost > left {
                break;
            }
            left -= cost;
            groups.entry(place.to_owned()).or_default().push(word.name);
        }
        if groups.is_empty() {
            return String::new();
        }
        let mut out = String::from("Names in play, by where:\n");
        for (place, names) in groups {
            let lead = if place.is_empty() { String::new() } else { format!("{place}: ") };
            out.push_str(&format!("{lead}{}\n", names.join(" ")));
        }
        out
    }
}

/// Where a call's output comes from, for the names seen in it.
fn place(call: &Item) -> Option<String> {
    let Kind::Call { resources, .. } = &call.kind else { return None };
    resources.iter().find(|r| r.kind == "file").map(|r| r.id.clone())
}

/// The folder that most absolute paths share, with its closing slash.
fn root<'a>(paths: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for path in
        paths.filter(|p| p.starts_with('/') && !p.contains(|c: char| c.is_control() || c == handle::SIGN))
    {
        let top: Vec<&str> = path.split('/').take(4).collect();
        groups.entry(top.join("/")).or_default().push(path);
    }
    let (_, paths) = groups.into_iter().max_by_key(|(_, paths)| paths.len())?;
    let first = paths.first()?;
    let mut common = first.rsplit_once('/')?.0;
    while !paths.iter().all(|p| p.strip_prefix(common).is_some_and(|rest| rest.starts_with('/'))) {
        common = common.rsplit_once('/')?.0;
    }
    // One folder is left to every name: `config.go` alone says too little.
    common = common.rsplit_once('/')?.0;
    (common.matches('/').count() >= 2).then(|| format!("{common}/"))
}
