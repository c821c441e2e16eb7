//! The Cellaflow engine: a durable runtime for AI agents. ARCHITECTURE.md is the map.

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dev;
pub mod dispatch;
pub mod drivers;
pub mod engine;
pub mod footprint;
pub mod graph;
pub mod ids;
pub mod ledger;
pub mod rpc;
pub mod stale;
pub mod storage;
pub mod telemetry;
