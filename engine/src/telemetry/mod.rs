//! What the engine tells about itself: logs, spans and metrics.
//!
//! Owns: the names and units of every metric and span (this page and [`metrics`]), the form of log lines, and the
//! Prometheus listener. Never: a payload, a token, a key or a message of an agent, in any of them.
//!
//! Invariants:
//! - M1 A metric's name is `cellaflow_<what>_<unit>`; labels are words of our own or a namespace, never ids.
//! - M2 The listener serves metrics only and is bound to loopback unless the settings say otherwise.
//! - M3 Log lines go to stderr; stdout belongs to the commands' own output.
//!
//! Spans, all of level debug:
//!
//! | span | fields | from – to |
//! |---|---|---|
//! | `rpc` | path, token (its name), role, namespace | request checked – response headers |

mod counting;
pub mod listener;
pub mod logs;
mod metrics;

pub use counting::Counting;
pub use listener::serve_metrics;
pub use metrics::{Metrics, NamespaceLabel, ReasonLabel};
