//! The channel's promises, end to end on a memory store.

mod bounds;
mod leases;
mod order;
mod rig;
