//! What benchmarks share: a ledger to put steps into, raw RocksDB beside it, values that nothing can compress.
//!
//! Owns the shape of a step (one event with 1 KB of output, as a worker commits it). Never runs in CI, but for a small
//! `archive`.

pub mod archive;
pub mod beside;
pub mod floor;
pub mod ledger;
pub mod raw;
pub mod shape;
pub mod values;

/// Bytes of a step's output in the workloads that are named "1 KB".
pub const STEP_BYTES: usize = 1_024;

/// The middle of some figures.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let (lower, upper) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
    f64::midpoint(lower, upper)
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// What is published.
    Full,
    /// For daily work: seconds.
    Quick,
    /// Whether it works.
    Smoke,
}

impl Mode {
    /// Picks the amount for this mode.
    #[must_use]
    pub fn pick<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Mode::Full => full,
            Mode::Quick => quick,
            Mode::Smoke => smoke,
        }
    }
}
