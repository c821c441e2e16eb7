//! The fold of one session: conversation and compaction together, as they are stored between two runs.
//!
//! F1. The state is all there is (CT2): it is stored after every event that was read, or not at all.
//! F2. A version's number is the engine's; what makes it is the seal that is stored with it.

use cellaflow_proto::v1;
use serde::{Deserialize, Serialize};

use super::conversation::{Conversation, Read, Unfoldable};
use crate::ccs::{self, Block, Ccs, Input, PASSES, Reason, Seal, Settings};

/// Tokens that must have come since the last seal before a cold one is worth its while.
const COLD_TOKENS_MIN: usize = 1_500;
/// Of what an agent has for its prompt, a context takes at most this share: the rest is for what comes after it.
const LIMIT_PERMILLE: u64 = 500;

/// What is kept of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Folded {
    conversation: Conversation,
    ccs: Ccs,
    /// Tokens that the agent said it has for a prompt; 0: it never did.
    budget_tokens: u64,
    unfoldable: Option<Unfoldable>,
    /// The last event read (F1).
    read: u64,
    /// Tokens since the last seal when the gate turned one down: the next try is a high mark later.
    turned_down: usize,
}

/// A context that a seal made.
#[derive(Debug, Clone)]
pub struct Made {
    pub version: v1::ContextVersion,
    pub blocks: Vec<v1::ContextBlock>,
}

impl Folded {
    /// Nothing is folded yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            conversation: Conversation::default(),
            ccs: Ccs::new(settings),
            budget_tokens: 0,
            unfoldable: None,
            read: 0,
            turned_down: 0,
        }
    }

    /// Reads back what `to_bytes` made; `None`: it is of other passes or another preset, and is folded anew.
    #[must_use]
    pub fn from_bytes(state: &[u8], made_by: &str, settings: &Settings) -> Option<Self> {
        if made_by != passes(settings) {
            return None;
        }
        serde_json::from_slice(state).ok()
    }

    /// What is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps have texts and numbers as keys")
    }

    /// Reads an event; what may be folded is folded.
    pub fn take(&mut self, read: Read) {
        self.read = read.seq;
        if self.unfoldable.is_some() {
            return;
        }
        if let Err(why) = self.conversation.take(read) {
            self.unfoldable = Some(why);
            return;
        }
        self.give(false);
    }

    /// Reads an event without folding anything: what is folded, the seals to come say.
    pub fn read_only(&mut self, read: Read) {
        self.read = read.seq;
        if self.unfoldable.is_none()
            && let Err(why) = self.conversation.take(read)
        {
            self.unfoldable = Some(why);
        }
    }

    /// Takes a seal that was taken before, over exactly what it was taken over.
    pub fn seal_again(&mut self, seal: Seal) {
        for event in self.conversation.give_up_to(seal.upto) {
            self.ccs.fold(Input::Event(event));
        }
        self.ccs.fold(Input::Seal(seal));
    }

    /// The last event read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Why nothing of it is ever folded.
    #[must_use]
    pub fn unfoldable(&self) -> Option<Unfoldable> {
        self.unfoldable
    }

    /// True if the session has a conversation.
    #[must_use]
    pub fn talks(&self) -> bool {
        self.conversation.parts() > 0
    }

    /// Notes how many tokens the agent has.
    pub fn has_room(&mut self, budget_tokens: u64) {
        if budget_tokens > 0 {
            self.budget_tokens = budget_tokens;
        }
    }

    /// True once what came since the last seal has passed its high mark.
    #[must_use]
    pub fn is_high(&self) -> bool {
        self.ccs.live_tokens() > self.turned_down + self.ccs.settings().high_mark_tokens
    }

    /// True if a rewrite that costs nothing extra is worth its while.
    #[must_use]
    pub fn is_worth_it(&self) -> bool {
        self.ccs.live_tokens() >= COLD_TOKENS_MIN
    }

    /// Folds the newest exchange, too: the agent waits.
    pub fn give_all(&mut self) {
        self.give(true);
    }

    fn give(&mut self, all: bool) {
        for event in self.conversation.give(all) {
            self.ccs.fold(Input::Event(event));
        }
    }

    /// Seals; `None`: the gate turned it down, and everything is as it was.
    pub fn seal(&mut self, reason: Reason) -> Option<Seal> {
        let limit_tokens = self.budget_tokens * LIMIT_PERMILLE / 1_000;
        let seal = Seal { upto: self.ccs.watermark(), reason, limit_tokens };
        let before = self.ccs.generation();
        self.ccs.fold(Input::Seal(seal));
        let taken = self.ccs.generation() > before;
        self.turned_down = if taken { 0 } else { self.ccs.live_tokens() };
        taken.then_some(seal)
    }

    /// What the last seal made.
    #[must_use]
    pub fn made(&self, version: u32, seal: Seal) -> Made {
        let vocabulary = self.ccs.settings().vocabulary;
        let blocks: Vec<v1::ContextBlock> = self
            .ccs
            .blocks()
            .into_iter()
            .map(|(kind, text)| v1::ContextBlock {
                kind: kind_to_wire(kind).into(),
                tokens: vocabulary.count(&text) as u64,
                text,
                breakpoint: true,
            })
            .collect();
        let tools = vocabulary.count(ccs::render::TOOLS) as u64;
        let (covers_messages, covers_seq) = self.conversation.given();
        let removed = self.ccs.removed().into_iter();
        Made {
            version: v1::ContextVersion {
                version,
                covers_seq,
                covers_messages,
                tokens: tools + blocks.iter().map(|block| block.tokens).sum::<u64>(),
                history_tokens: self.ccs.history_tokens() as u64,
                hash: hash(&blocks),
                reason: reason_to_wire(seal.reason).into(),
                upto: seal.upto,
                limit_tokens: seal.limit_tokens,
                removed: removed
                    .map(|(pass, tokens)| v1::PassTokens { pass, tokens: tokens as u64 })
                    .collect(),
                passes: passes(self.ccs.settings()),
                time_ms: 0,
            },
            blocks,
        }
    }
}

/// blake3 over the texts, each after its length.
fn hash(blocks: &[v1::ContextBlock]) -> bytes::Bytes {
    let mut hasher = blake3::Hasher::new();
    for block in blocks {
        hasher.update(&(block.text.len() as u64).to_le_bytes()).update(block.text.as_bytes());
    }
    bytes::Bytes::copy_from_slice(hasher.finalize().as_bytes())
}

/// Name and version of every pass, and the preset: what another one made is never gone on with.
#[must_use]
pub fn passes(settings: &Settings) -> String {
    let passes: Vec<String> = PASSES.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let preset = serde_json::to_vec(settings).expect("settings are plain values");
    let preset = blake3::hash(&preset).to_hex();
    format!("conversation 1, {}; preset {}", passes.join(", "), preset.get(..16).unwrap_or_default())
}

fn kind_to_wire(kind: Block) -> v1::BlockKind {
    match kind {
        Block::Instructions => v1::BlockKind::Instructions,
        Block::Segments => v1::BlockKind::Segments,
        Block::Facts => v1::BlockKind::Facts,
    }
}

fn reason_to_wire(reason: Reason) -> v1::SealReason {
    match reason {
        Reason::Cold => v1::SealReason::Cold,
        Reason::HandOff => v1::SealReason::HandOff,
        Reason::HighMark => v1::SealReason::HighMark,
        Reason::Limit => v1::SealReason::Limit,
        Reason::Explicit => v1::SealReason::Explicit,
    }
}

/// The seal that made a version.
#[must_use]
pub fn seal_of(version: &v1::ContextVersion) -> Seal {
    let reason = match version.reason() {
        v1::SealReason::Cold => Reason::Cold,
        v1::SealReason::HandOff => Reason::HandOff,
        v1::SealReason::HighMark => Reason::HighMark,
        v1::SealReason::Limit => Reason::Limit,
        v1::SealReason::Explicit | v1::SealReason::Unspecified => Reason::Explicit,
    };
    Seal { upto: version.upto, reason, limit_tokens: version.limit_tokens }
}
