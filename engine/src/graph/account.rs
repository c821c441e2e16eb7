//! What a session has used. Owns the sums in a head; never prices anything (costs come with the events).
//!
//! 1. Every model call that was paid for is in the totals, whatever became of it.
//! 2. What was paid for and not kept (failed attempts, rolled-back zones) is in the wasted sums as well.
//! 3. An unknown cost adds nothing; `unpriced_calls` says how many calls the sum lacks.

use super::event::{Body, LlmCall, Resolution, StepCompleted, Usage};
use super::ids::NanoDollars;
use super::session::Counters;

impl Counters {
    /// Adds what an event says was used.
    pub(super) fn count(&mut self, body: &Body) {
        match body {
            Body::StepCompleted(step) => self.step(step),
            Body::StepFailed(step) => {
                self.steps = self.steps.saturating_add(u64::from(step.is_final));
                step.usage.iter().for_each(|usage| self.wasted(usage));
            }
            Body::GuardResolved(resolved) => match &resolved.resolution {
                Resolution::Output(_) | Resolution::Failure(_) => {
                    self.steps = self.steps.saturating_add(1);
                }
                Resolution::NotApplied(_) | Resolution::Retry => {}
            },
            Body::ZoneCommitted(zone) => {
                self.steps = self.steps.saturating_add(1);
                self.spend(zone.cost);
                zone.llm_calls.iter().for_each(|call| self.call(call));
            }
            Body::ZoneFailed(zone) => {
                self.steps = self.steps.saturating_add(u64::from(zone.is_final));
                zone.usage.iter().for_each(|usage| self.wasted(usage));
            }
            Body::ZoneRolledBack(zone) => {
                self.wasted_tokens = self.wasted_tokens.saturating_add(zone.wasted_tokens);
            }
            Body::ForkEdited(edited) => {
                self.steps = self.steps.saturating_add(u64::from(edited.edit.step_key().is_some()));
            }
            Body::LeaseGranted(grant) => {
                self.takeovers = self.takeovers.saturating_add(u64::from(grant.takeover));
            }
            Body::SessionStarted(_)
            | Body::DivergenceAccepted(_)
            | Body::LeaseReleased { .. }
            | Body::SessionPaused { .. }
            | Body::SessionResumed { .. }
            | Body::SessionCompleted { .. }
            | Body::SessionFailed { .. }
            | Body::StepHeartbeat { .. }
            | Body::SessionCancelled(_)
            | Body::SessionContinued(_)
            | Body::CancelRequested { .. }
            | Body::ChildSpawned(_)
            | Body::ChildEnded(_)
            | Body::ChildCancelRequested { .. }
            | Body::GuardIntent(_)
            | Body::GuardUnknown { .. }
            | Body::ZoneEntered { .. }
            | Body::TimerStarted { .. }
            | Body::TimerFired { .. }
            | Body::SignalReceived(_)
            | Body::SignalAwaited { .. }
            | Body::SignalDelivered { .. }
            | Body::WaitDropped { .. }
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
            | Body::WorkflowDrained(_) => {}
        }
    }

    fn step(&mut self, step: &StepCompleted) {
        self.steps = self.steps.saturating_add(1);
        self.spend(step.cost);
        step.llm.iter().for_each(|call| self.call(call));
    }

    fn call(&mut self, call: &LlmCall) {
        self.usage(&call.usage);
    }

    fn usage(&mut self, usage: &Usage) {
        self.llm_calls = self.llm_calls.saturating_add(1);
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.cached_read_tokens = self.cached_read_tokens.saturating_add(usage.cached_read_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(usage.cache_write_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.spend(usage.cost.unwrap_or_default());
        self.unpriced_calls = self.unpriced_calls.saturating_add(u64::from(usage.cost.is_none()));
    }

    fn wasted(&mut self, usage: &Usage) {
        self.usage(usage);
        self.wasted_tokens =
            [usage.input_tokens, usage.cached_read_tokens, usage.cache_write_tokens, usage.output_tokens]
                .into_iter()
                .fold(self.wasted_tokens, u64::saturating_add);
        let cost = usage.cost.unwrap_or_default();
        self.wasted_cost = NanoDollars(self.wasted_cost.0.saturating_add(cost.0));
    }

    fn spend(&mut self, cost: NanoDollars) {
        self.cost = NanoDollars(self.cost.0.saturating_add(cost.0));
    }
}
