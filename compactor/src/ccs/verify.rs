//! Pass `verify` (12): the gate. What does not pass is not used; the history stays as it was.

use super::handle;
use super::normalise::{Item, Kind};

pub const VERSION: u32 = 1;

/// Why a seal was turned down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("compacted to {after} tokens from {before}: nothing saved")]
    NotSmaller { before: usize, after: usize },
    #[error("handle {0} leads nowhere")]
    Dangling(u64),
    #[error("an instruction of the user is missing: event {0}")]
    Instruction(u64),
    #[error("the result of a call is kept without its call: {0}")]
    Unpaired(String),
}

/// A proposed context, before it replaces the old one.
pub struct Proposal<'a> {
    pub front: &'a str,
    pub before_tokens: usize,
    pub after_tokens: usize,
    pub watermark: u64,
    pub instructions: &'a [(u64, String)],
    pub tail: &'a [&'a Item],
}

/// Checks a proposal.
pub fn check(p: &Proposal<'_>) -> Result<(), Refused> {
    if p.after_tokens >= p.before_tokens {
        return Err(Refused::NotSmaller { before: p.before_tokens, after: p.after_tokens });
    }
    // Instructions are foreign text and may hold anything; every other line is ours.
    let ours = p
        .instructions
        .iter()
        .fold(p.front.to_owned(), |front, (_, text)| front.replacen(text.as_str(), "", 1));
    for seq in handles(&ours) {
        if seq == 0 || seq > p.watermark {
            return Err(Refused::Dangling(seq));
        }
    }
    if let Some((seq, _)) = p.instructions.iter().find(|(_, text)| !p.front.contains(text.as_str())) {
        return Err(Refused::Instruction(*seq));
    }
    let calls: Vec<&str> = p
        .tail
        .iter()
        .filter_map(|i| match &i.kind {
            Kind::Call { id, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    for item in p.tail {
        if let Kind::Observation { call, .. } = &item.kind
            && !calls.contains(&call.as_str())
        {
            return Err(Refused::Unpaired(call.clone()));
        }
    }
    Ok(())
}

/// The numbers of all handles in a text of ours.
pub fn handles(text: &str) -> impl Iterator<Item = u64> {
    text.split(handle::SIGN).skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}
