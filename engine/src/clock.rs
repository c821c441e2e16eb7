//! Time enters the engine here.
//!
//! Owns: reading the wall clock and the monotonic clock. Never: sleeps, timers (tokio's are used at the edges) or
//! any decision about time; the core is given `now` as a value.
//!
//! Invariants:
//! - C1 `mono_us` never goes back, and counts the time the machine spends suspended (a guarded attempt must not
//!   outlive its deadline because a laptop slept).
//! - C2 `wall_ms` may jump either way; whoever stores it takes the maximum with what it stored before.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of wall and monotonic time.
pub trait Clock: Send + Sync + 'static {
    /// Returns milliseconds since 1970-01-01T00:00:00Z.
    fn wall_ms(&self) -> u64;

    /// Returns microseconds since an arbitrary point that is fixed for this machine's boot (C1).
    fn mono_us(&self) -> u64;

    /// Returns by how many milliseconds wall time was moved forward on purpose: that is no jump (`Skipping`).
    fn skipped_ms(&self) -> u64 {
        0
    }

    /// Returns `mono_us` in whole milliseconds.
    fn mono_ms(&self) -> u64 {
        self.mono_us() / 1_000
    }
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn wall_ms(&self) -> u64 {
        // A machine set before 1970 reads as 0 rather than ending the process.
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn mono_us(&self) -> u64 {
        // Linux's CLOCK_MONOTONIC stops while suspended, macOS's does not.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const SINCE_BOOT: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const SINCE_BOOT: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(SINCE_BOOT);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000)
    }
}

/// The operating system's clocks, with a wall clock that can be told to skip time; for tests of agents.
///
/// The monotonic clock is left alone: whoever is alive keeps its lease although days go by.
#[derive(Debug, Default)]
pub struct Skipping(AtomicU64);

impl Skipping {
    /// Creates a clock that is ahead by `skipped_ms` milliseconds.
    pub fn ahead_by(skipped_ms: u64) -> Self {
        Self(AtomicU64::new(skipped_ms))
    }

    /// Moves wall time forward and returns by how many milliseconds it is ahead now.
    pub fn skip(&self, ms: u64) -> u64 {
        self.0.fetch_add(ms, Ordering::SeqCst).saturating_add(ms)
    }
}

impl Clock for Skipping {
    fn wall_ms(&self) -> u64 {
        System.wall_ms().saturating_add(self.skipped_ms())
    }

    fn mono_us(&self) -> u64 {
        System.mono_us()
    }

    fn skipped_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A clock that stands still until it is told to move; for tests.
#[derive(Debug)]
pub struct Manual {
    wall_ms: AtomicU64,
    mono_us: AtomicU64,
}

impl Manual {
    /// Creates a clock that shows `wall_ms` and a monotonic time of one second.
    pub fn at(wall_ms: u64) -> Self {
        Self { wall_ms: AtomicU64::new(wall_ms), mono_us: AtomicU64::new(1_000_000) }
    }

    /// Moves both clocks forward by `ms` milliseconds.
    pub fn advance(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.mono_us.fetch_add(ms.saturating_mul(1_000), Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or a time server does; the monotonic clock stays.
    pub fn jump_wall(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for Manual {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn mono_us(&self) -> u64 {
        self.mono_us.load(Ordering::SeqCst)
    }
}

/// Formats a wall time as RFC 3339 in UTC with milliseconds, for people and logs.
pub fn rfc3339(wall_ms: u64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_ms) * 1_000_000)
        .ok()
        .and_then(|at| at.format(FORMAT).ok())
        .unwrap_or_else(|| format!("{wall_ms} ms since 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_reads_this_century_and_never_goes_back() {
        let first = System.mono_us();
        assert!(System.wall_ms() > 1_700_000_000_000);
        assert!(System.mono_us() >= first); // C1
        assert!(first > 0);
    }

    #[test]
    fn a_skipping_clock_is_ahead_by_what_it_was_told_and_leaves_monotonic_time_alone() {
        const DAY_MS: u64 = 24 * 3_600 * 1_000;
        let clock = Skipping::ahead_by(5);
        assert_eq!(clock.skip(30 * DAY_MS), 30 * DAY_MS + 5);
        let ahead_ms = clock.wall_ms() - System.wall_ms();
        assert!((30 * DAY_MS..=30 * DAY_MS + 1_000).contains(&ahead_ms), "{ahead_ms}");
        assert!(clock.mono_us() <= System.mono_us());
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = Manual::at(1_000);
        let before = clock.mono_ms();
        clock.jump_wall(90_000);
        assert_eq!(clock.mono_ms(), before, "a wall jump leaves the monotonic clock alone");
        clock.advance(5);
        assert_eq!((clock.wall_ms(), clock.mono_ms()), (90_005, before + 5));
    }

    #[test]
    fn rfc3339_is_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_732_338_000_123), "2024-11-23T05:00:00.123Z");
        assert_eq!(rfc3339(u64::MAX), format!("{} ms since 1970", u64::MAX));
    }
}
