//! The Cognitive Graph: the pure core. No async, no I/O, no clock, no randomness, no serialisation.
//!
//! `decide` judges a command against what the ledger says and answers with events; `evolve` folds an event into the
//! head; `index` says which rows an event changes. Time, ids and digests come in as arguments. Each promise has one
//! file that states and numbers its invariants: lease (L), guard (G), zone (Z), step (P), start (K), end (E), cancel (C),
//! child (H),
//! succession (N), token (T), wait (W), timer (M), signal (S), approval (A), stream (S).
//! succession (N), token (T), wait (W), timer (M), signal (S), approval (A), stream (S), fork (F), hold (H), label (B), version (R),
//! archive (AR), context (CX), import (I).

pub mod archive;
pub mod budget;
pub mod child;
pub mod command;
pub mod context;
pub mod decide;
pub mod event;
pub mod evolve;
pub mod hold;
pub mod ids;
pub mod import;
pub mod index;
pub mod session;
pub mod signal;
pub mod stream;
pub mod version;
pub mod wait;

mod account;
mod approval;
mod cancel;
mod claim;
mod draft;
mod end;
pub mod fork;
mod guard;
pub mod guard_key;
mod label;
mod lease;
mod reject;
mod room;
mod start;
mod step;
mod succession;
mod timer;
mod token;
mod zone;

#[cfg(test)]
mod tests;
