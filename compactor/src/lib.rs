//! The compactor: a worker beside the engine that reads what its ledger holds and writes what is cheaper to keep and
//! to prompt with.

pub mod archive;
pub mod bench;
pub mod ccs;
pub mod cli;
pub mod clock;
pub mod connection;
pub mod context;
pub mod import;
pub mod metrics;
pub mod report;
pub mod schedule;
pub mod transcripts;
