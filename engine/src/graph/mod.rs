//! The Cognitive Graph: the pure core. No async, no I/O, no clock, no randomness, no serialisation.
//!
//! `decide` judges a command against what the ledger says and answers with events; `evolve` folds an event into the
//! head; `index` says which rows an event changes. Time, ids and digests come in as arguments.

pub mod command;
pub mod event;
pub mod ids;
pub mod session;
