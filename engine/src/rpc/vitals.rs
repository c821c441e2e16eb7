//! How the process and its disk are: what `status` shows, and whether new sessions are taken.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

/// How long a look at the disk is good for, in ms.
const LOOK_MS: u64 = 1_000;

/// Watches the disk of the data folder, and this process.
pub struct Vitals {
    data_dir: PathBuf,
    disk_free_min_bytes: u64,
    clock: Arc<dyn Clock>,
    started_ms: u64,
    looked_ms: AtomicU64,
    free_bytes: AtomicU64,
}

impl Vitals {
    /// Starts the uptime and takes a first look.
    #[must_use]
    pub fn new(data_dir: PathBuf, disk_free_min_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let started_ms = clock.mono_ms();
        let vitals = Self {
            data_dir,
            disk_free_min_bytes,
            clock,
            started_ms,
            looked_ms: AtomicU64::new(started_ms),
            free_bytes: AtomicU64::new(u64::MAX),
        };
        vitals.look();
        vitals
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        self.clock.mono_ms().saturating_sub(self.started_ms)
    }

    /// Bytes free for this user on the file system of the data folder, at most a second old.
    #[must_use]
    pub fn disk_free_bytes(&self) -> u64 {
        let now_ms = self.clock.mono_ms();
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(looked_ms) >= LOOK_MS;
        let mine =
            || self.looked_ms.compare_exchange(looked_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        if due && mine().is_ok() {
            self.look();
        }
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// True while new sessions are refused: less than `disk_free_min_bytes` are free.
    #[must_use]
    pub fn disk_low(&self) -> bool {
        self.disk_free_bytes() < self.disk_free_min_bytes
    }

    fn look(&self) {
        match rustix::fs::statvfs(&self.data_dir) {
            Ok(disk) => self.free_bytes.store(disk.f_bavail.saturating_mul(disk.f_frsize), Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the free space of the data folder is not known"),
        }
    }
}

/// Resident memory of this process in bytes; 0 where the system does not say.
#[must_use]
pub fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib =
        line.and_then(|line| line.split_ascii_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;

    #[test]
    fn the_disk_is_looked_at_again_after_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Manual::at(1));
        let vitals = Vitals::new(folder.path().to_owned(), u64::MAX, Arc::clone(&clock) as Arc<dyn Clock>);
        assert!(vitals.disk_low() && vitals.disk_free_bytes() > 0);
        vitals.free_bytes.store(7, Ordering::Relaxed);
        clock.advance(LOOK_MS - 1);
        assert_eq!(vitals.disk_free_bytes(), 7);
        clock.advance(1);
        assert_ne!(vitals.disk_free_bytes(), 7);
        assert_eq!(vitals.uptime_ms(), LOOK_MS);
    }
}
