//! The laws of the core on random commands, and one file of given/when/then tests per promise.

mod model;
mod story;

mod account;
mod archive;
mod budget;
mod cancel;
mod child;
mod end;
mod evolve;
mod fork;
mod guard;
mod guard_key;
mod hold;
mod import;
mod index;
mod laws;
mod lease;
mod start;
mod step;
mod stream;
mod succession;
mod token;
mod version;
mod wait;
mod zone;
