//! Contexts of live sessions: reads what their ledgers say, folds it, and stores what came of it through the engine.
//!
//! Owned: how events become a history, when to seal, and the order of reading and storing. Never: the passes (`ccs`).
//!
//! CT1. The history is the session's conversation (`ctx.messages`) and nothing else; `§n` names its n-th part.
//! CT2. What is stored is all there is: a compactor that is killed anywhere is followed by one that makes the same bytes.
//! CT3. A seal never parts a call from its result, and leaves the newest exchange as it is unless the agent waits.
//! CT4. One session's trouble is logged and left; the others go on.

mod conversation;
mod fold;
mod job;
mod reader;
mod texts;

#[cfg(test)]
mod tests;

pub use conversation::{Read, Unfoldable};
pub use fold::{Folded, Made, passes, seal_of};
pub use job::{Contexts, Error, Summary};
