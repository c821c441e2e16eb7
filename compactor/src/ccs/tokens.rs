//! Token counts with the vocabularies that providers use.

use serde::{Deserialize, Serialize};

use super::text;

/// A vocabulary of byte-pair encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Vocabulary {
    #[default]
    O200k,
    Cl100k,
}

/// Texts beyond this are counted in their first part and scaled: a 50 MB line must not hold up the fold.
const COUNTED_BYTES_MAX: usize = 1 << 20;

impl Vocabulary {
    #[must_use]
    pub fn count(self, text: &str) -> usize {
        let tokenizer = match self {
            Self::O200k => bpe_openai::o200k_base(),
            Self::Cl100k => bpe_openai::cl100k_base(),
        };
        if text.len() <= COUNTED_BYTES_MAX {
            return tokenizer.count(text);
        }
        let head = text::prefix(text, COUNTED_BYTES_MAX);
        tokenizer.count(head).saturating_mul(text.len()) / head.len().max(1)
    }
}
