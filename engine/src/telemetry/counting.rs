//! Counts what became durable: an observer of the ledger, so that nothing is counted that did not happen.

use super::{Metrics, NamespaceLabel, ReasonLabel};
use crate::graph::command::Code;
use crate::graph::event::Body;
use crate::ledger::{CommittedEvents, FrameFigures, Observer};

/// Counts into the metrics it was made with.
pub struct Counting(pub Metrics);

impl Observer for Counting {
    fn committed(&self, committed: &CommittedEvents) {
        if committed.head.system {
            return;
        }
        for stored in committed.events.iter() {
            if let Some(counter) = self.counter(&stored.event.body) {
                let namespace = committed.head.namespace.to_string();
                counter.get_or_create(&NamespaceLabel { namespace }).inc();
            }
        }
    }

    fn frame(&self, figures: &FrameFigures) {
        let metrics = &self.0;
        metrics.frames_committed.inc();
        metrics.frame_commands.observe(figures.commands as f64);
        metrics.frame_bytes.observe(figures.bytes as f64);
        metrics.commit_seconds.observe(figures.commit_us as f64 / 1e6);
        metrics.queue_commands.set(gauge(figures.queued_commands));
        metrics.queue_bytes.set(gauge(figures.queued_bytes));
    }

    fn rejected(&self, code: Code) {
        let reason = code.as_str();
        self.0.commands_rejected.get_or_create(&ReasonLabel { reason }).inc();
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

type Counter =
    prometheus_client::metrics::family::Family<NamespaceLabel, prometheus_client::metrics::counter::Counter>;

impl Counting {
    fn counter(&self, body: &Body) -> Option<&Counter> {
        let metrics = &self.0;
        match body {
            Body::SessionStarted(_) => Some(&metrics.sessions_started),
            Body::SessionCompleted { .. }
            | Body::SessionFailed { .. }
            | Body::SessionCancelled(_)
            | Body::SessionContinued(_) => Some(&metrics.sessions_ended),
            Body::LeaseGranted(granted) => granted.takeover.then_some(&metrics.leases_taken_over),
            Body::GuardUnknown { .. } => Some(&metrics.guards_unknown),
            Body::ZoneRolledBack(_) => Some(&metrics.zones_rolled_back),
            Body::LeaseReleased { .. }
            | Body::SessionPaused { .. }
            | Body::SessionResumed { .. }
            | Body::CancelRequested { .. }
            | Body::ForkEdited(_)
            | Body::DivergenceAccepted(_)
            | Body::StepCompleted(_)
            | Body::StepFailed(_)
            | Body::StepHeartbeat { .. }
            | Body::GuardIntent(_)
            | Body::GuardResolved(_)
            | Body::ZoneEntered { .. }
            | Body::ZoneCommitted(_)
            | Body::ZoneFailed(_)
            | Body::TimerStarted { .. }
            | Body::TimerFired { .. }
            | Body::SignalReceived(_)
            | Body::SignalAwaited { .. }
            | Body::SignalDelivered { .. }
            | Body::WaitDropped { .. }
            | Body::ChildSpawned(_)
            | Body::ChildEnded(_)
            | Body::ChildCancelRequested { .. }
            | Body::ApprovalRequested(_)
            | Body::ApprovalDecided(_)
            | Body::BudgetReserved { .. }
            | Body::BudgetRaised { .. }
            | Body::BudgetReleased { .. }
            | Body::LabelsSet(_)
            | Body::SessionReleased { .. }
            | Body::TokenCreated(_)
            | Body::TokenRevoked { .. }
            | Body::Archive(_)
            | Body::WorkflowRegistered(_)
            | Body::WorkflowDrained(_) => None,
        }
    }
}
