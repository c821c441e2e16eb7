//! `bench DIR`: measures compaction on transcripts, offline and without a model.
//!
//! Owned: the seven measurements of `Report`. Never: the passes' own code in judging them: the probes (`probes`) and
//! identifiers (`future`) are found by code that shares nothing with `ccs`.
//!
//! B1. One preset for every figure.
//! B2. Everything is counted that the model would be sent: front, tail, handles, the two tools' definitions.
//! B3. The figures are a function of the files: no clock, no randomness.

pub mod command;
mod cut;
mod future;
mod hostile;
mod load;
mod measure;
mod money;
mod names;
mod prices;
mod probes;
mod report;
#[cfg(test)]
mod tests;

pub use load::{events, load};
pub use measure::{Report, measure};
pub use report::{json_line, table};
