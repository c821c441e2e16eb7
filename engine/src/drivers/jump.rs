//! Notices that the wall clock jumped ahead of the monotonic one.
//!
//! Owns: the verdict whether wall time can be trusted to let things expire. Never: reads a clock.
//!
//! Invariants:
//! - J1 A forward step of more than `JUMP_MS_MAX` between two looks holds; nothing may expire by wall time meanwhile.
//! - J2 It holds until the wall clock is back where the monotonic clock says it should be, or the engine is restarted.
//! - J3 Slow drift and backward steps never hold.

/// Forward step of the wall clock against the monotonic clock, in milliseconds, beyond which timers are held.
pub const JUMP_MS_MAX: u64 = 60_000;

/// What a look at the clocks found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Wall time runs with the monotonic clock.
    Steady,
    /// Wall time has just jumped forward by this many milliseconds.
    Jumped { ahead_ms: u64 },
    /// It is still ahead.
    Held,
    /// It is back.
    Back,
}

/// Compares the two clocks from look to look.
#[derive(Clone, Copy, Debug)]
pub struct Jump {
    wall_ms: u64,
    mono_ms: u64,
    held: bool,
}

impl Jump {
    /// Starts from a first look.
    #[must_use]
    pub fn new(wall_ms: u64, mono_ms: u64) -> Self {
        Self { wall_ms, mono_ms, held: false }
    }

    /// Looks at the clocks again.
    pub fn look(&mut self, wall_ms: u64, mono_ms: u64) -> Verdict {
        let expected = self.wall_ms.saturating_add(mono_ms.saturating_sub(self.mono_ms));
        let ahead_ms = wall_ms.saturating_sub(expected);
        if ahead_ms > JUMP_MS_MAX {
            // J2: the base stays where it was, so that "back" is measured against it.
            let first = !std::mem::replace(&mut self.held, true);
            return if first { Verdict::Jumped { ahead_ms } } else { Verdict::Held };
        }
        let back = std::mem::replace(&mut self.held, false);
        (self.wall_ms, self.mono_ms) = (wall_ms, mono_ms); // J3
        if back { Verdict::Back } else { Verdict::Steady }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j1_a_jump_of_more_than_a_minute_holds_until_the_clock_is_back() {
        let mut jump = Jump::new(1_000_000, 0);
        assert_eq!(jump.look(1_000_100, 100), Verdict::Steady);
        assert_eq!(jump.look(1_061_200, 1_200), Verdict::Steady, "exactly a minute is not more than one");
        assert_eq!(jump.look(1_200_300, 1_300), Verdict::Jumped { ahead_ms: 139_000 });
        assert_eq!(jump.look(1_200_400, 1_400), Verdict::Held);
        assert_eq!(jump.look(1_061_500, 1_500), Verdict::Back); // J2
        assert_eq!(jump.look(1_061_600, 1_600), Verdict::Steady);
    }

    #[test]
    fn j3_drift_backward_steps_and_long_pauses_never_hold() {
        let mut jump = Jump::new(1_000_000, 0);
        let mut wall = 1_000_000;
        for tick in 1..1_000 {
            wall += 200; // twice as fast as the monotonic clock
            assert_eq!(jump.look(wall, tick * 100), Verdict::Steady);
        }
        assert_eq!(jump.look(500_000, 100_000), Verdict::Steady);
        assert_eq!(jump.look(500_000 + 7_200_000, 100_000 + 7_200_000), Verdict::Steady, "both slept");
    }
}
