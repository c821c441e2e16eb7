//! Every metric: its name, unit, labels and meaning, on one page (M1).

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Why something was refused: one of our own words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The word.
    pub reason: &'static str,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NamespaceLabel {
    /// Name of the namespace.
    pub namespace: String,
}

/// All metrics; clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,

    /// Connections open on the gRPC port.
    pub connections_open: Gauge,
    /// Connections closed before they reached the router, by reason.
    pub connections_refused: Family<ReasonLabel, Counter>,
    /// Requests refused before they reached a service, by reason.
    pub requests_refused: Family<ReasonLabel, Counter>,
    /// Worker channels open.
    pub workers_connected: Gauge,

    /// Commands that waited for the decider when the last frame was handed over.
    pub queue_commands: Gauge,
    /// Bytes of those.
    pub queue_bytes: Gauge,
    /// Commands that were rejected, by reason code; `fenced`: a newer lease exists.
    pub commands_rejected: Family<ReasonLabel, Counter>,
    /// Frames committed.
    pub frames_committed: Counter,
    /// Commands in one frame.
    pub frame_commands: Histogram,
    /// Bytes of one frame.
    pub frame_bytes: Histogram,
    /// Seconds one commit took, its sync included.
    pub commit_seconds: Histogram,

    /// Sessions started.
    pub sessions_started: Family<NamespaceLabel, Counter>,
    /// Sessions ended, however.
    pub sessions_ended: Family<NamespaceLabel, Counter>,
    /// Leases taken over from a silent worker.
    pub leases_taken_over: Family<NamespaceLabel, Counter>,
    /// Completed steps streamed to a worker instead of being run again.
    pub steps_replayed: Family<NamespaceLabel, Counter>,
    /// Guarded steps whose outcome became unknown.
    pub guards_unknown: Family<NamespaceLabel, Counter>,
    /// Zone attempts rolled back.
    pub zones_rolled_back: Family<NamespaceLabel, Counter>,
}

impl Metrics {
    /// Creates all metrics at zero.
    pub fn new() -> Self {
        // The registry is filled through clones of the metrics before it is shared.
        let mut metrics = Self::unregistered();
        let mut registry = Registry::with_prefix("cellaflow");
        metrics.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    fn unregistered() -> Self {
        Self {
            registry: Arc::new(Registry::default()),
            connections_open: Gauge::default(),
            connections_refused: Family::default(),
            requests_refused: Family::default(),
            workers_connected: Gauge::default(),
            queue_commands: Gauge::default(),
            queue_bytes: Gauge::default(),
            commands_rejected: Family::default(),
            frames_committed: Counter::default(),
            frame_commands: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            frame_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 10)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            sessions_started: Family::default(),
            sessions_ended: Family::default(),
            leases_taken_over: Family::default(),
            steps_replayed: Family::default(),
            guards_unknown: Family::default(),
            zones_rolled_back: Family::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        let r = registry;
        r.register("connections_open", "Connections open on the gRPC port", self.connections_open.clone());
        r.register(
            "connections_refused",
            "Connections closed before the router",
            self.connections_refused.clone(),
        );
        r.register("requests_refused", "Requests refused before a service", self.requests_refused.clone());
        r.register("workers_connected", "Worker channels open", self.workers_connected.clone());
        r.register("queue_commands", "Commands waiting for the decider", self.queue_commands.clone());
        r.register_with_unit(
            "queue",
            "Commands waiting for the decider",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        r.register("commands_rejected", "Commands rejected, by reason code", self.commands_rejected.clone());
        r.register("frames_committed", "Frames committed", self.frames_committed.clone());
        r.register("frame_commands", "Commands in one frame", self.frame_commands.clone());
        r.register_with_unit("frame", "Size of one frame", Unit::Bytes, self.frame_bytes.clone());
        r.register_with_unit(
            "commit",
            "One commit, its sync included",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        r.register("sessions_started", "Sessions started", self.sessions_started.clone());
        r.register("sessions_ended", "Sessions ended, however", self.sessions_ended.clone());
        r.register(
            "leases_taken_over",
            "Leases taken over from a silent worker",
            self.leases_taken_over.clone(),
        );
        r.register("steps_replayed", "Completed steps streamed instead of run", self.steps_replayed.clone());
        r.register("guards_unknown", "Guarded steps with unknown outcome", self.guards_unknown.clone());
        r.register("zones_rolled_back", "Zone attempts rolled back", self.zones_rolled_back.clone());
    }

    /// Returns all values in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
