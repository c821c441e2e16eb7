//! What lies below every system on this machine: a sync, and RocksDB without anything around it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::beside::one_put;
use crate::raw::Raw;
use crate::values::Values;
use crate::{Mode, STEP_BYTES, median};

/// The floor; times are medians in milliseconds.
#[derive(Debug, Serialize)]
pub struct Floor {
    /// 1 KB appended to a file and synced (fdatasync).
    pub sync_p50_ms: f64,
    /// One synced put of 1 KB.
    pub seq_1k_p50_ms: f64,
    /// The same, in puts per second.
    pub seq_1k_per_s: f64,
    /// Synced batches of 64 puts of 1 KB, in puts per second.
    pub batch_64_per_s: f64,
    /// One synced put of 100 KB.
    pub seq_100k_p50_ms: f64,
    /// Reading 10,000 puts of 1 KB in order.
    pub scan_10000_ms: f64,
}

/// Measures the floor in an empty folder.
///
/// # Panics
/// If the disk or the database fails.
#[must_use]
pub fn measure(folder: &Path, mode: Mode) -> Floor {
    let times = mode.pick(5_000, 1_000, 50);
    let sync_p50_ms = sync(&folder.join("file"), times);
    let mut raw = Raw::open(&folder.join("puts"), STEP_BYTES);
    let started = Instant::now();
    let seq_1k_p50_ms = puts(&mut raw, STEP_BYTES, 1, times);
    let seq_1k_per_s = f64::from(u32::try_from(times).expect("few")) / started.elapsed().as_secs_f64();
    let batches = times / 10;
    let started = Instant::now();
    puts(&mut raw, STEP_BYTES, 64, batches);
    let batch_64_per_s =
        f64::from(u32::try_from(batches * 64).expect("few")) / started.elapsed().as_secs_f64();
    let mut large = Raw::open(&folder.join("large"), 100 << 10);
    let seq_100k_p50_ms = puts(&mut large, 100 << 10, 1, times / 10);
    Floor {
        sync_p50_ms,
        seq_1k_p50_ms,
        seq_1k_per_s,
        batch_64_per_s,
        seq_100k_p50_ms,
        scan_10000_ms: scan(folder),
    }
}

fn sync(path: &Path, times: usize) -> f64 {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a new file");
    let mut values = Values::of(STEP_BYTES);
    let mut ms: Vec<f64> = (0..times)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&values.cut()).expect("a write");
            file.sync_data().expect("a sync");
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&mut ms)
}

fn puts(raw: &mut Raw, bytes: usize, in_batch: usize, times: usize) -> f64 {
    let put = one_put(bytes);
    let mut ms: Vec<f64> = (0..times.max(1))
        .map(|_| {
            let started = Instant::now();
            raw.write(&put, in_batch);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&mut ms)
}

fn scan(folder: &Path) -> f64 {
    let mut raw = Raw::open(&folder.join("scan"), STEP_BYTES);
    puts(&mut raw, STEP_BYTES, 100, 100);
    let mut ms: Vec<f64> = (0..5)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(raw.scan(), 10_000 * STEP_BYTES, "everything is read");
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&mut ms)
}
