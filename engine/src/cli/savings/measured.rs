//! What a ledger says about the runs of a time: sums over listed sessions.
//!
//! 1. A run is a session that was started by somebody: forks are experiments, children are steps of their parents.
//! 2. A run failed if it was taken over at least once from a worker that was gone.
//! 3. The days are those from the first run looked at until now, one at least: a young ledger is not diluted.

use cellaflow_proto::v1;

const MS_PER_DAY: f64 = 86_400_000.0;
const NANOS_PER_DOLLAR: f64 = 1e9;

/// Sums over sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Measured {
    pub(super) runs: u64,
    /// Runs that were taken over.
    pub(super) failed: u64,
    /// Steps and model calls of runs and their children.
    pub(super) steps: u64,
    /// Known cost in nano-dollars.
    pub(super) cost_nanos: i64,
    /// Model calls without a known price.
    pub(super) unpriced_calls: u64,
    /// Start of the first run, ms since the Unix epoch.
    first_ms: u64,
}

impl Measured {
    /// Adds one session.
    pub(super) fn add(&mut self, session: &v1::Session) {
        if !session.forked_from_session.is_empty() {
            return;
        }
        let totals = session.totals.unwrap_or_default();
        self.steps = self.steps.saturating_add(session.steps);
        self.cost_nanos = self.cost_nanos.saturating_add(totals.cost_nanos);
        self.unpriced_calls = self.unpriced_calls.saturating_add(totals.unpriced_calls);
        if !session.parent_id.is_empty() {
            return;
        }
        self.runs += 1;
        self.failed += u64::from(totals.takeovers > 0);
        if self.first_ms == 0 || session.started_ms < self.first_ms {
            self.first_ms = session.started_ms;
        }
    }

    /// Runs a day, until `now_ms`.
    pub(super) fn runs_per_day(&self, now_ms: u64) -> f64 {
        let days = now_ms.saturating_sub(self.first_ms) as f64 / MS_PER_DAY;
        self.runs as f64 / days.max(1.0)
    }

    /// Steps of a run.
    pub(super) fn steps_per_run(&self) -> f64 {
        ratio(self.steps as f64, self.runs as f64)
    }

    /// Dollars of a step.
    pub(super) fn cost_per_step(&self) -> f64 {
        ratio(self.cost_nanos as f64 / NANOS_PER_DOLLAR, self.steps as f64)
    }

    /// Share of runs that failed.
    pub(super) fn failure_rate(&self) -> f64 {
        ratio(self.failed as f64, self.runs as f64)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(started_ms: u64, steps: u64, cost_nanos: i64, takeovers: u64) -> v1::Session {
        let totals = Some(v1::Totals { cost_nanos, takeovers, ..v1::Totals::default() });
        v1::Session { started_ms, steps, totals, ..v1::Session::default() }
    }

    fn sum(sessions: &[v1::Session]) -> Measured {
        let mut sum = Measured::default();
        sessions.iter().for_each(|session| sum.add(session));
        sum
    }

    #[test]
    fn runs_are_counted_by_day_and_interrupted_ones_once() {
        let day = 86_400_000;
        let sum = sum(&[session(day, 4, 1_000_000_000, 0), session(2 * day, 6, 0, 3)]);
        assert_eq!((sum.runs_per_day(5 * day), sum.failure_rate()), (0.5, 0.5));
        assert_eq!((sum.steps_per_run(), sum.cost_per_step()), (5.0, 0.1));
        assert_eq!(sum.runs_per_day(day + 1), 2.0, "less than a day counts as one");
    }

    #[test]
    fn children_belong_to_their_parents_and_forks_to_nobody() {
        let child = v1::Session { parent_id: "p".into(), ..session(1, 5, 500_000_000, 1) };
        let fork = v1::Session { forked_from_session: "p".into(), ..session(1, 9, 9, 1) };
        let sum = sum(&[session(1, 5, 500_000_000, 0), child, fork]);
        assert_eq!((sum.runs, sum.failed, sum.steps, sum.cost_nanos), (1, 0, 10, 1_000_000_000));
    }
}
