//! Tests of the storage promises; the numbers in them are the invariants of the modules' headers.

mod codec;
mod events;
mod faults;
mod frame;
mod heads;
mod keys;
mod mark;
mod recovery;
mod rig;
mod samples;
mod space;
mod suite;
