//! Transcripts that people already have, as sessions of the ledger: they ended elsewhere, and come in whole.
//!
//! Owns what a transcript's parts become in a session. Never parses (`transcripts` does), and never writes by itself: the
//! engine takes a session in as one command, or not at all.
//!
//! M1. The same transcript gives the same request, byte for byte, so that importing it again is recognised.
//! M2. A call of the model is a step "llm" and a call of a tool a step of the tool's name, in the order in which they
//!     ended; what the model was sent is the conversation.
//! M3. What the transcript does not say is not made up: no price, no cost; counted tokens are marked as estimated; a
//!     time that is missing is that of the part before.

pub mod command;
mod prices;
mod session;

pub use prices::Prices;
pub use session::{Named, digest, request};

#[cfg(test)]
mod tests;
