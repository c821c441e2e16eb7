//! The watermark: the last frame that is durable. Everything readers and callers see is at or below it.
//!
//! 1. It only grows, and only the committer moves it, after the store's commit has returned.
//! 2. A ticket holds a lower bound of what its holder has read; the overlay keeps every later change until it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::graph::ids::FrameNumber;

/// The last durable frame, and who still relies on older states.
#[derive(Debug, Default)]
pub struct Watermark {
    frame: AtomicU64,
    tickets: Mutex<BTreeMap<u64, usize>>,
}

impl Watermark {
    /// Starts at the frame that recovery found.
    #[must_use]
    pub fn at(frame: FrameNumber) -> Arc<Self> {
        Arc::new(Self { frame: AtomicU64::new(frame.0), tickets: Mutex::default() })
    }

    /// The last durable frame.
    #[must_use]
    pub fn get(&self) -> FrameNumber {
        FrameNumber(self.frame.load(Ordering::Acquire))
    }

    /// Moves on to a frame that has just become durable.
    pub fn publish(&self, frame: FrameNumber) {
        self.frame.store(frame.0, Ordering::Release);
    }

    /// Announces a read before it is made.
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        let mut tickets = self.tickets.lock();
        let frame = self.frame.load(Ordering::Acquire);
        *tickets.entry(frame).or_insert(0) += 1;
        Ticket { watermark: Arc::clone(self), frame }
    }

    /// The newest frame whose changes nobody needs from the overlay any more: all that was or will be read holds them.
    #[must_use]
    pub fn settled(&self) -> FrameNumber {
        let tickets = self.tickets.lock();
        let oldest = tickets.keys().next().copied();
        FrameNumber(oldest.unwrap_or_else(|| self.frame.load(Ordering::Acquire)))
    }
}

/// Holds back the overlay while a command carries what it read.
#[derive(Debug)]
pub struct Ticket {
    watermark: Arc<Watermark>,
    frame: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut tickets = self.watermark.tickets.lock();
        if let Some(count) = tickets.get_mut(&self.frame) {
            *count -= 1;
            if *count == 0 {
                tickets.remove(&self.frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_holds_back_what_settled_until_it_is_dropped() {
        let watermark = Watermark::at(FrameNumber(5));
        let old = watermark.ticket();
        watermark.publish(FrameNumber(9));
        let young = watermark.ticket();
        assert_eq!(watermark.settled(), FrameNumber(5)); // 2
        drop(old);
        assert_eq!(watermark.settled(), FrameNumber(9));
        drop(young);
        watermark.publish(FrameNumber(12));
        assert_eq!(watermark.settled(), FrameNumber(12)); // 1
    }
}
