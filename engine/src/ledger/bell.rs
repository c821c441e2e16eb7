//! Wakes one thread, which never spins: on few cores a thread that spins takes them from the ones it waits for.
//!
//! B1. What was there before a `ring` is seen by a `wait` that begins, or goes on, after it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;

/// A bell of one sleeper.
#[derive(Debug, Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// Wakes the sleeper, if it sleeps; cheap if not.
    pub(super) fn ring(&self) {
        // B1: whoever looked before this fence saw no `asleep`, or is woken.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until `look` finds something. Always called by the same thread.
    pub(super) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        self.sleeper.get_or_init(std::thread::current);
        loop {
            if let Some(found) = look() {
                return found;
            }
            self.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // Once more: what came before the line above has rung for nobody.
            if let Some(found) = look() {
                self.asleep.store(false, Ordering::SeqCst);
                return found;
            }
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn nothing_that_is_rung_for_is_missed() {
        // B1
        const TIMES: u32 = 100_000;
        let shared = Arc::new((Bell::default(), AtomicU32::new(0)));
        let ringer = Arc::clone(&shared);
        let ringing = std::thread::spawn(move || {
            for n in 1..=TIMES {
                ringer.1.store(n, Ordering::Release);
                ringer.0.ring();
            }
        });
        let mut seen = 0;
        while seen < TIMES {
            seen = shared.0.wait(|| Some(shared.1.load(Ordering::Acquire)).filter(|n| *n > seen));
        }
        ringing.join().unwrap();
    }
}
