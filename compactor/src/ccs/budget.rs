//! Pass `budget` (10): how many tokens each part of the context may take.
//!
//! B1. Floors come first: instructions and facts are never cut for the tail's sake.
//! B2. The budget depends on the history's length and the settings alone, so that a fold can be split anywhere.

use serde::{Deserialize, Serialize};

use super::tokens::Vocabulary;

pub const VERSION: u32 = 1;

/// One preset; shares are in thousandths so that they are exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub vocabulary: Vocabulary,
    /// The context is to be this many times smaller than the history.
    pub ratio: usize,
    /// Least and most tokens that a context aims at after a seal.
    pub budget_tokens_min: usize,
    pub budget_tokens_max: usize,
    /// The tail, the segments and the identifiers get at least this share, whatever the floors take.
    pub rest_permille_min: usize,
    pub tail_permille: usize,
    pub segments_permille: usize,
    /// A warm seal is due when the live tail has grown past this.
    pub high_mark_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vocabulary: Vocabulary::O200k,
            ratio: 13,
            budget_tokens_min: 1_200,
            budget_tokens_max: 16_000,
            rest_permille_min: 450,
            tail_permille: 500,
            segments_permille: 250,
            high_mark_tokens: 12_000,
        }
    }
}

/// Tokens for each part that may shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    pub segments: usize,
    pub tail: usize,
    pub words: usize,
}

impl Settings {
    /// The aim for a history of so many tokens; `limit_tokens`: what the prompt has room for, 0: enough.
    #[must_use]
    pub fn budget(&self, history_tokens: usize, limit_tokens: u64) -> usize {
        let aim = (history_tokens / self.ratio.max(1)).clamp(self.budget_tokens_min, self.budget_tokens_max);
        match usize::try_from(limit_tokens) {
            Ok(0) | Err(_) => aim,
            Ok(limit) => aim.min(limit),
        }
    }

    /// What is left beside the floors, by part.
    #[must_use]
    pub fn shares(&self, budget: usize, floors: usize) -> Shares {
        let rest = budget.saturating_sub(floors).max(budget * self.rest_permille_min / 1000);
        let (tail, segments) = (rest * self.tail_permille / 1000, rest * self.segments_permille / 1000);
        Shares { segments, tail, words: rest.saturating_sub(tail + segments) }
    }

    /// A line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "default: budget 1/{} of the history within {}..{} tokens, verbatim tail {} % of what the floors leave, \
             warm seal at {} tokens of live tail",
            self.ratio,
            self.budget_tokens_min,
            self.budget_tokens_max,
            self.tail_permille / 10,
            self.high_mark_tokens
        )
    }
}
