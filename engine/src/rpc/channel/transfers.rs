//! Payloads that a worker sends in pieces, put together again.
//!
//! Owns: the pieces of one stream until an append or start names their transfer. Never: looks into them.
//!
//! Invariants:
//! - T1 One transfer never holds more than `payload_bytes_max`, all transfers of the daemon together never more than
//!   [`Budget`] allows: what goes beyond is dropped, and the request that names the transfer is refused, not the stream.
//! - T2 A transfer is taken once.
//! - T3 A stream keeps at most `TRANSFERS_MAX` transfers; more is a protocol error.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::graph::command::{Code, Rejection};

/// Transfers that one stream may have begun and not used.
pub const TRANSFERS_MAX: usize = 1_024;
/// When a worker may try again after the daemon had no room for its pieces.
const RETRY_AFTER_MS: u64 = 250;

/// Bytes of pieces that all streams may hold together.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Budget {
    /// Allows so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { held: Arc::default(), bytes_max }
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::AcqRel);
        let fits = before.saturating_add(bytes) <= self.bytes_max;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Why a transfer has no bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dropped {
    TooLarge,
    NoRoom,
}

enum Transfer {
    Filling { parts: Vec<Bytes>, bytes: usize },
    Whole(Bytes),
    Dropped(Dropped),
}

/// Too many transfers are open (T3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

/// The transfers of one stream.
pub struct Transfers {
    open: HashMap<u64, Transfer>,
    payload_bytes_max: usize,
    budget: Budget,
    held: usize,
    refused: Option<Dropped>,
}

impl Transfers {
    /// Starts without any.
    #[must_use]
    pub fn new(payload_bytes_max: usize, budget: Budget) -> Self {
        Self { open: HashMap::new(), payload_bytes_max, budget, held: 0, refused: None }
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn piece(&mut self, id: u64, data: Bytes, last: bool) -> Result<(), TooMany> {
        if !self.open.contains_key(&id) && self.open.len() >= TRANSFERS_MAX {
            return Err(TooMany);
        }
        let transfer = match self.open.remove(&id) {
            None => self.grown(Vec::new(), 0, data, last),
            Some(Transfer::Filling { parts, bytes }) => self.grown(parts, bytes, data, last),
            // A piece after the last one: whoever names this transfer does not get what it means.
            Some(Transfer::Whole(whole)) => {
                self.release(whole.len());
                Transfer::Dropped(Dropped::TooLarge)
            }
            Some(Transfer::Dropped(why)) => Transfer::Dropped(why),
        };
        self.open.insert(id, transfer);
        Ok(())
    }

    fn grown(&mut self, mut parts: Vec<Bytes>, bytes: usize, data: Bytes, last: bool) -> Transfer {
        let together = bytes.saturating_add(data.len());
        if together > self.payload_bytes_max {
            self.release(bytes);
            return Transfer::Dropped(Dropped::TooLarge);
        }
        if !self.budget.take(data.len()) {
            self.release(bytes);
            return Transfer::Dropped(Dropped::NoRoom);
        }
        self.held += data.len();
        parts.push(data);
        if last {
            Transfer::Whole(join(parts, together))
        } else {
            Transfer::Filling { parts, bytes: together }
        }
    }

    /// Takes a whole transfer (T2); `None`: there is none, and [`Transfers::refusal`] may say why.
    pub fn take(&mut self, id: u64) -> Option<Bytes> {
        match self.open.remove(&id)? {
            Transfer::Whole(bytes) => {
                self.release(bytes.len());
                Some(bytes)
            }
            Transfer::Filling { bytes, .. } => {
                self.release(bytes);
                None
            }
            Transfer::Dropped(why) => {
                self.refused = Some(why);
                None
            }
        }
    }

    /// Why the last take gave nothing, if that was a limit and not the caller's protocol.
    pub fn refusal(&mut self) -> Option<Rejection> {
        Some(match self.refused.take()? {
            Dropped::TooLarge => Rejection {
                code: Code::InvalidArgument,
                message: format!(
                    "a payload sent in pieces goes on after its last piece or has more than payload_bytes_max = {} \
                     bytes: store it elsewhere and pass its address",
                    self.payload_bytes_max
                ),
                retry_after_ms: None,
            },
            Dropped::NoRoom => Rejection {
                code: Code::Unavailable,
                message:
                    "the engine holds too many unfinished payloads: send the pieces and the request again"
                        .to_owned(),
                retry_after_ms: Some(RETRY_AFTER_MS),
            },
        })
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.held
    }

    fn release(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        self.budget.give_back(bytes);
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

fn join(mut parts: Vec<Bytes>, bytes: usize) -> Bytes {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return only;
    }
    let mut whole = BytesMut::with_capacity(bytes);
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfers(payload_bytes_max: usize, budget: usize) -> (Transfers, Budget) {
        let budget = Budget::new(budget);
        (Transfers::new(payload_bytes_max, budget.clone()), budget)
    }

    fn held(budget: &Budget) -> usize {
        budget.held.load(Ordering::SeqCst)
    }

    #[test]
    fn interleaved_pieces_become_their_payloads_once() {
        let (mut transfers, budget) = transfers(100, 100);
        for (id, data, last) in [(1, "ab", false), (2, "xy", false), (1, "c", true), (2, "", true)] {
            transfers.piece(id, Bytes::from(data), last).unwrap();
        }
        assert_eq!(held(&budget), 5);
        assert_eq!(transfers.take(1).unwrap(), "abc");
        assert_eq!(transfers.take(1), None); // T2
        assert_eq!(transfers.take(2).unwrap(), "xy");
        assert_eq!((held(&budget), transfers.bytes()), (0, 0));
        assert_eq!(transfers.refusal(), None);
    }

    #[test]
    fn t1_a_transfer_over_the_limit_refuses_its_request_only() {
        let (mut transfers, budget) = transfers(3, 100);
        transfers.piece(1, Bytes::from("ab"), false).unwrap();
        transfers.piece(1, Bytes::from("cd"), false).unwrap();
        transfers.piece(1, Bytes::from("e"), true).unwrap();
        assert_eq!(held(&budget), 0);
        assert_eq!(transfers.take(1), None);
        assert_eq!(transfers.refusal().unwrap().code, Code::InvalidArgument);
        transfers.piece(2, Bytes::from("ok"), true).unwrap();
        assert_eq!(transfers.take(2).unwrap(), "ok");
    }

    #[test]
    fn t1_a_full_daemon_says_when_to_try_again_and_a_closed_stream_gives_its_room_back() {
        let (mut first, budget) = transfers(100, 4);
        let mut second = Transfers::new(100, budget.clone());
        first.piece(1, Bytes::from("abcd"), false).unwrap();
        second.piece(1, Bytes::from("e"), true).unwrap();
        assert_eq!(second.take(1), None);
        assert!(second.refusal().unwrap().retry_after_ms.is_some());
        drop(first);
        assert_eq!(held(&budget), 0);
        second.piece(2, Bytes::from("e"), true).unwrap();
        assert_eq!(second.take(2).unwrap(), "e");
    }

    #[test]
    fn t3_too_many_transfers_are_a_protocol_error() {
        let (mut transfers, _) = transfers(100, 100);
        for id in 0..TRANSFERS_MAX as u64 {
            transfers.piece(id, Bytes::new(), true).unwrap();
        }
        assert_eq!(transfers.piece(9_999, Bytes::new(), true), Err(TooMany));
        assert_eq!(transfers.piece(5, Bytes::new(), true), Ok(()), "a known one is not a further one");
    }
}
