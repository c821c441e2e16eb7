//! Compressed Cognitive State: a long history becomes a context that is many times smaller and loses nothing.
//!
//! Owned: the passes, the state they fold, and the bytes of the context. Never: storage, clocks, randomness, the network,
//! or names of tools.
//!
//! C1. The same inputs give the same bytes, on every machine and in every locale.
//! C2. `fold(all) == fold(fold(prefix), suffix)`, at any split, seals included: the state is all there is.
//! C3. Between two seals the bytes of the front do not change, and the tail only grows at its end.
//! C4. The work for an event does not depend on how many came before it.
//! C5. Whatever is left out has a handle in the context, or lies in a range that the context names.
//! C6. Text from outside never becomes a handle or a heading of ours.
//! C7. A proposal that fails the gate (`verify`) is not used: the context stays as it was.

pub mod budget;
pub mod dead;
pub mod duplicates;
pub mod edits;
pub mod event;
pub mod facts;
pub mod handle;
#[cfg(test)]
mod laws;
pub mod logs;
pub mod mask;
pub mod normalise;
pub mod ordered;
pub mod removed;
pub mod render;
pub mod resource;
pub mod route;
pub mod seal;
mod state;
pub mod tail;
pub mod text;
pub mod tokens;
pub mod verify;
pub mod words;

pub use budget::Settings;
pub use event::{Body, Call, Event, Input, Outcome, Reason, Seal};
pub use state::{Block, Ccs, Context};

/// Name and version of every pass, in order: part of an artefact's identity.
pub const PASSES: [(&str, u32); 12] = [
    ("normalise", normalise::VERSION),
    ("route", route::VERSION),
    ("deduplicate", duplicates::VERSION),
    ("eliminate-dead", dead::VERSION),
    ("coalesce-edits", edits::VERSION),
    ("mine-logs", logs::VERSION),
    ("words", words::VERSION),
    ("mask", mask::VERSION),
    ("project-facts", facts::VERSION),
    ("budget", budget::VERSION),
    ("seal", seal::VERSION),
    ("verify", verify::VERSION),
];
