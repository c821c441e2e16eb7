//! Tests of the storage promises; the numbers in them are the invariants of the modules' headers.

mod codec;
mod faults;
mod frame;
mod heads;
mod keys;
mod mark;
mod recovery;
mod rig;
mod space;
mod suite;
