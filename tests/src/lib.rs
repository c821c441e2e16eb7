//! The real binary under test: starts an engine in a folder of its own, talks to it over TLS, and runs the CLI.
//!
//! Owns every process it starts and ends it by its id, never by name. A failure to start anything is a panic with the
//! engine's last log lines: whoever calls this is a test.
//!
//! ```no_run
//! # async fn test() {
//! let engine = cellaflow_tests::Engine::start().await;
//! let mut sessions = engine.sessions().await;
//! let listed = engine.cli(&["sessions", "list", "--json"]).await.json();
//! # }
//! ```
pub mod agent;
pub mod channel;
mod cli;
pub mod client;
pub mod compactor;
mod connection;
pub mod counter;
pub mod duckdb;
mod engine;
pub mod events;
pub mod payload;
pub mod process;
pub mod python;
pub mod raw;
pub mod sleepers;
pub mod wait;

pub use cli::Ran;
pub use compactor::compactor_binary;
pub use connection::{Authenticated, Connection};
pub use engine::{Engine, Options, binary};
pub use payload::{json, text};
