//! What durable steps and compacted prompts save in a year: the arithmetic, and nothing else.
//!
//! 1. Without recovery a failed run is paid again from its start; on average it fails half way:
//!    `wasted = runs/day x 365 x steps x cost/step x failure rate x 1/2`.
//! 2. A compacted prompt saves a share of what model calls cost: `ccs = runs/day x 365 x steps x cost/step x share`.
//! 3. Somebody looks at every failed run: `hours = runs/day x 365 x failure rate x 10 minutes`.

/// Days of a year.
const DAYS: f64 = 365.0;
/// Share of a run that is lost when it fails at a moment nobody chooses.
const LOST_SHARE: f64 = 0.5;
/// Minutes that a person spends on a failed run.
pub(super) const MINUTES_PER_FAILURE: f64 = 10.0;
/// Share of the cost that compacted prompts save, unless it is given or switched off.
pub(super) const CCS_SHARE: f64 = 0.45;

/// What the figures follow from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Inputs {
    /// Runs a day.
    pub(super) runs_per_day: f64,
    /// Steps of a run.
    pub(super) steps: f64,
    /// Dollars of a step.
    pub(super) cost_per_step: f64,
    /// Share of runs that fail once, 0 to 1.
    pub(super) failure_rate: f64,
    /// Share of the cost that compacted prompts save, 0 to 1; 0: not counted.
    pub(super) ccs_share: f64,
}

/// What is saved in a year.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    /// Dollars of work that is not paid a second time.
    pub(super) wasted_usd: f64,
    /// Dollars that smaller prompts save.
    pub(super) ccs_usd: f64,
    /// Runs that fail.
    pub(super) failures: f64,
    /// Hours that nobody spends on them.
    pub(super) hours: f64,
}

impl Estimate {
    /// Computes a year.
    pub(super) fn of(inputs: &Inputs) -> Self {
        let runs = inputs.runs_per_day * DAYS;
        let spent = runs * inputs.steps * inputs.cost_per_step;
        let failures = runs * inputs.failure_rate;
        Self {
            wasted_usd: spent * inputs.failure_rate * LOST_SHARE,
            ccs_usd: spent * inputs.ccs_share,
            failures,
            hours: failures * MINUTES_PER_FAILURE / 60.0,
        }
    }

    /// Dollars in all.
    pub(super) fn total_usd(&self) -> f64 {
        self.wasted_usd + self.ccs_usd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Inputs = Inputs {
        runs_per_day: 1_000.0,
        steps: 8.0,
        cost_per_step: 0.05,
        failure_rate: 0.04,
        ccs_share: CCS_SHARE,
    };

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6 * right.abs().max(1.0)
    }

    #[test]
    fn the_product_pages_example_comes_out() {
        let year = Estimate::of(&PAGE);
        assert!(close(year.wasted_usd, 2_920.0), "{year:?}");
        assert!(close(year.ccs_usd, 65_700.0), "{year:?}");
        assert!(close(year.total_usd(), 68_620.0), "{year:?}");
        assert!(close(year.hours, 14_600.0 / 6.0), "{year:?}");
    }

    #[test]
    fn without_compaction_and_without_failures_nothing_is_saved() {
        let year = Estimate::of(&Inputs { ccs_share: 0.0, failure_rate: 0.0, ..PAGE });
        assert_eq!((year.total_usd(), year.hours), (0.0, 0.0));
    }
}
