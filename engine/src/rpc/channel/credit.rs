//! Credit: how many bytes one side may send before the other has said that it took them.
//!
//! A worker's message costs its encoded size and `FRAMING_BYTES`; all of it comes back, for a request when its answer
//! is handed to the transport, for anything else at once. An engine's message costs something only if it carries
//! content (events and pieces): its encoded size. Either side may count less than the other: a grant never raises the
//! credit above the window, so that differences do not add up.
//!
//! Invariants:
//! - K1 What a worker has sent and not been granted again never passes twice its window; beyond, the stream ends.
//! - K2 Content is sent while any credit is left: a message larger than the rest, or than the window, is never stuck.
//! - K3 Answers need no credit of the worker, so that a replay that stands still stalls no live session.

/// What a message costs beside its own bytes: tag and length.
pub const FRAMING_BYTES: usize = 8;

/// What a worker has sent and the engine still holds.
#[derive(Debug)]
pub struct Received {
    window: u64,
    held: u64,
}

/// The worker sent more than it was granted (K1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun {
    pub held: u64,
    pub window: u64,
}

impl Received {
    /// Starts with a window of so many bytes.
    #[must_use]
    pub fn new(window: u64) -> Self {
        Self { window, held: 0 }
    }

    /// Notes bytes received.
    ///
    /// # Errors
    /// [`Overrun`].
    pub fn take(&mut self, bytes: u64) -> Result<(), Overrun> {
        self.held = self.held.saturating_add(bytes);
        // One window of tolerance, because the worker may count less than its messages' encoded size.
        if self.held > self.window.saturating_mul(2) {
            return Err(Overrun { held: self.held, window: self.window });
        }
        Ok(())
    }

    /// Notes bytes granted again.
    pub fn give_back(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }
}

/// What the engine may still send to a worker.
#[derive(Debug)]
pub struct Sending {
    window: i64,
    left: i64,
}

impl Sending {
    /// Starts with a window of so many bytes.
    #[must_use]
    pub fn new(window: u64) -> Self {
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        Self { window, left: window }
    }

    /// True while content may be sent (K2).
    #[must_use]
    pub fn open(&self) -> bool {
        self.left > 0
    }

    /// Notes content sent.
    pub fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Notes a grant of the worker.
    pub fn grant(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(bytes).min(self.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_an_overrun_of_twice_the_window_is_noticed() {
        let mut received = Received::new(100);
        assert_eq!(received.take(150), Ok(()));
        received.give_back(60);
        assert_eq!(received.take(110), Ok(()));
        assert_eq!(received.take(1), Err(Overrun { held: 201, window: 100 }));
    }

    #[test]
    fn k2_a_message_larger_than_the_window_is_sent_and_paid_for() {
        let mut sending = Sending::new(100);
        assert!(sending.open());
        sending.spend(250);
        assert!(!sending.open());
        sending.grant(150);
        assert!(!sending.open(), "nothing is left of the window yet");
        sending.grant(1);
        assert!(sending.open());
    }

    #[test]
    fn grants_do_not_add_up_beyond_the_window() {
        let mut sending = Sending::new(100);
        sending.grant(1_000);
        sending.spend(100);
        assert!(!sending.open());
    }
}
