//! The laws of the core on random commands, and one file of given/when/then tests per promise.

mod model;
mod story;

mod account;
mod cancel;
mod child;
mod budget;
mod end;
mod evolve;
mod guard;
mod index;
mod laws;
mod lease;
mod start;
mod step;
mod stream;
mod succession;
mod token;
mod zone;
