//! Values that nothing can compress or deduplicate.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// How far apart two values begin in the pool: a prime, so that they come round late.
const STRIDE: usize = 1_009;
const POOL_BYTES: usize = 8 << 20;

static POOL: OnceLock<Bytes> = OnceLock::new();
/// Where the next `Values` begins, so that no two give the same.
static BEGIN: AtomicUsize = AtomicUsize::new(0);

/// Cuts values out of a pool of random bytes without copying.
pub struct Values {
    pool: Bytes,
    next: usize,
    bytes: usize,
}

impl Values {
    /// Values of `bytes` bytes each, at most as many as the pool has.
    #[must_use]
    pub fn of(bytes: usize) -> Values {
        let begin = BEGIN.fetch_add(STRIDE * STRIDE, Ordering::Relaxed);
        let pool = POOL.get_or_init(random).clone();
        Values { next: begin % (pool.len() - bytes), pool, bytes }
    }

    /// The next value.
    pub fn cut(&mut self) -> Bytes {
        let from = self.next;
        self.next = (self.next + STRIDE) % (self.pool.len() - self.bytes);
        self.pool.slice(from..from + self.bytes)
    }
}

fn random() -> Bytes {
    let mut pool = vec![0; POOL_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut pool);
    pool.into()
}
