//! Dispatch as an observer of the ledger: called by the committer for every durable change.

use super::Dispatch;
use super::sessions::{Change, Notice};
use crate::graph::event::Body;
use crate::ledger::{CommittedEvents, Observer};

impl Observer for Dispatch {
    fn committed(&self, committed: &CommittedEvents) {
        if committed.head.system || is_routine(committed) {
            return;
        }
        let now_ms = self.clock.mono_ms();
        let change = Change {
            head: &committed.head,
            bodies: committed.events.iter().map(|stored| &stored.event.body).collect(),
            origin: committed.origin.0,
            now_ms,
        };
        let mut state = self.state.lock();
        let notices = state.sessions.changed(&change, |instance| self.leases.alive(instance, now_ms));
        for notice in notices {
            match notice {
                Notice::Events(conn) => {
                    if let Some(connected) = state.peers.get(&conn) {
                        connected.peer.events(committed.session, &committed.events);
                    }
                }
                Notice::Revoked { conn, epoch, why } => {
                    if let Some(connected) = state.peers.get(&conn) {
                        connected.peer.revoked(committed.session, epoch, why);
                    }
                }
            }
        }
        let offer = !state.sessions.queue.is_empty();
        drop(state);
        if offer {
            self.wake.notify_one();
        }
    }
}

/// True for what a run appends while it runs: nobody has to be told and nothing moves. Nearly every event is.
fn is_routine(committed: &CommittedEvents) -> bool {
    committed.origin.0.is_some()
        && committed.origin.0 == committed.head.holder
        && committed.events.iter().all(|stored| !moves(&stored.event.body))
}

/// True for events that change who may run a session.
fn moves(body: &Body) -> bool {
    match body {
        Body::SessionStarted(_)
        | Body::LeaseGranted(_)
        | Body::LeaseReleased { .. }
        | Body::SessionPaused { .. }
        | Body::SessionResumed { .. }
        | Body::SessionReleased { .. }
        | Body::SessionCompleted { .. }
        | Body::SessionFailed { .. }
        | Body::SessionCancelled(_)
        | Body::SessionContinued(_)
        | Body::CancelRequested { .. } => true,
        Body::StepCompleted(_)
        | Body::ForkEdited(_)
        | Body::DivergenceAccepted(_)
        | Body::StepFailed(_)
        | Body::StepHeartbeat { .. }
        | Body::GuardIntent(_)
        | Body::GuardUnknown { .. }
        | Body::GuardResolved(_)
        | Body::ZoneEntered { .. }
        | Body::ZoneCommitted(_)
        | Body::ZoneFailed(_)
        | Body::ZoneRolledBack(_)
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
        | Body::TokenCreated(_)
        | Body::TokenRevoked { .. }
        | Body::Archive(_)
        | Body::WorkflowRegistered(_)
        | Body::WorkflowDrained(_) => false,
    }
}
