//! What the compactor folds: the events of a session, and the seals that a trigger appended between them.

use serde::{Deserialize, Serialize};

use super::resource::Resource;

/// One input of the fold, in ledger order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Event(Event),
    Seal(Seal),
}

/// An event with its number in the session's conversation, which is also its handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub seq: u64,
    pub body: Body,
}

/// Payload bytes are as stored: possibly no UTF-8, possibly hostile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    User(Vec<u8>),
    /// The agent's program speaking in the user's place.
    Notice(Vec<u8>),
    Assistant(Vec<u8>),
    Reasoning(Vec<u8>),
    Call(Call),
    Result(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub tool: String,
    /// JSON.
    pub arguments: Vec<u8>,
    pub resources: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub call: String,
    pub content: Vec<u8>,
    pub failed: Option<bool>,
}

/// Freezes what has been folded, but for a verbatim tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The last event that it takes in.
    pub upto: u64,
    pub reason: Reason,
    /// Most tokens that the context is to have; 0: as the settings say.
    pub limit_tokens: u64,
}

impl Seal {
    /// A seal within the settings' own budget.
    #[must_use]
    pub fn new(upto: u64, reason: Reason) -> Self {
        Self { upto, reason, limit_tokens: 0 }
    }
}

/// Why a seal was appended, by precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The provider's cache is cold or will be: the rewrite costs nothing extra.
    Cold,
    /// Another model takes over.
    HandOff,
    /// The tail passed its high mark.
    HighMark,
    /// The window's hard limit.
    Limit,
    Explicit,
}
