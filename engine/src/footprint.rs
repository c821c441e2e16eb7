//! Keeps the daemon's memory small: gives back program text that only the start needed, and heap that only a burst needed.
//!
//! Owns: finding this process's own text mappings, and when to give memory back. Never: touches memory that is in use.
//!
//! Static initialisers of the storage engine run through nearly all of the program once, and kernels with large folios
//! map far more around each page that is touched. Those pages are clean copies of the executable: dropped, they cost
//! a minor fault each when they are needed again. Measured: 27 MB resident idle before, 13 MB after.
//!
//! The C library gives every thread an arena of the heap to itself, up to eight per core, and what one of them has freed no
//! other one can take. Reads run on up to hundreds of threads for a moment: a hundred at once left 40 MB behind.
//!
//! F1. Only mappings of the executable itself are dropped, and only those that were never writable and hold no
//!     relocations: the text, and the read-only segment at offset 0.
//! F2. It happens only while nothing is being committed: shortly after the start, and when the engine has been quiet.

use std::time::Duration;

use crate::ledger::Reader;

/// How long after the start, or after the last frame, text is given back.
const QUIET: Duration = Duration::from_secs(30);
/// How often it is looked whether the ledger is quiet; heap is given back at once then.
const LOOK: Duration = Duration::from_secs(2);
/// How long the first clients get before the start's text is given back.
const SETTLED: Duration = Duration::from_millis(500);
/// Arenas of the heap. The threads that write and those that serve are about as many.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MAX: i32 = 2;

/// Gives memory back after the start and whenever the ledger has been quiet for a while; runs until it is dropped.
pub async fn keep_small(reader: Reader) {
    tokio::time::sleep(SETTLED).await;
    drop_text();
    let (mut before, mut quiet) = (reader.watermark(), Duration::ZERO);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = reader.watermark();
        quiet = if now == before { quiet.saturating_add(LOOK) } else { Duration::ZERO };
        before = now;
        if quiet == Duration::ZERO {
            continue;
        }
        // Reads bring both back as well, and nobody counts them; giving back what was given back costs next to nothing.
        trim_heap();
        if quiet >= QUIET {
            quiet = LOOK;
            drop_text();
        }
    }
}

/// Keeps the heap from spreading over more arenas than few; to be called before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no other way to say it")]
pub fn limit_arenas() {
    // SAFETY: it sets a number that the allocator reads under its own lock; no other thread runs yet.
    let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
    if taken != 1 {
        tracing::debug!("the number of heap arenas was not limited");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn limit_arenas() {}

/// Gives back what was freed in the heap; returns whether there was any.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no other way to say it")]
fn trim_heap() -> bool {
    // SAFETY: the call takes the allocator's own locks and touches only memory that nobody has allocated.
    unsafe { libc::malloc_trim(0) == 1 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim_heap() -> bool {
    false
}

/// Returns the bytes of the mappings that were given back.
#[cfg(target_os = "linux")]
fn drop_text() -> usize {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return 0 };
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return 0 };
    text(&maps, &program.to_string_lossy()).into_iter().map(|(start, bytes)| give_back(start, bytes)).sum()
}

#[cfg(not(target_os = "linux"))]
fn drop_text() -> usize {
    0
}

/// Returns start and length of the mappings of `program` that F1 allows, from the text of `/proc/self/maps`.
#[cfg(any(target_os = "linux", test))]
fn text(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let droppable = |line: &str| {
        let mut fields = line.split_whitespace();
        let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let path = line.split_once('/').map(|(_, path)| format!("/{path}"))?;
        let clean =
            permissions == "r-xp" || (permissions == "r--p" && offset.bytes().all(|digit| digit == b'0'));
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        (clean && path == program).then(|| end.checked_sub(start).map(|bytes| (start, bytes)))?
    };
    maps.lines().filter_map(droppable).collect()
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe call drops clean pages; see F1 for why nothing can observe it")]
fn give_back(start: usize, bytes: usize) -> usize {
    // SAFETY: the range is one whole private, file-backed mapping of this executable that is not writable and was never
    // relocated (F1), so every page equals the file and reads the same when it is faulted in again.
    let dropped = unsafe {
        rustix::mm::madvise(
            std::ptr::with_exposed_provenance_mut(start),
            bytes,
            rustix::mm::Advice::LinuxDontNeed,
        )
    };
    match dropped {
        Ok(()) => bytes,
        Err(error) => {
            tracing::debug!(%error, "program text was not given back");
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55e0-55e1 r--p 00000000 fe:00 12 /opt/my engine/cellaflow
55e2-55e6 r-xp 00002000 fe:00 12 /opt/my engine/cellaflow
55e6-55e7 r--p 00006000 fe:00 12 /opt/my engine/cellaflow
55e8-55e9 rw-p 00007000 fe:00 12 /opt/my engine/cellaflow
55ea-55eb rw-p 00000000 00:00 0 [heap]
7f00-7f09 r-xp 00000000 fe:00 99 /usr/lib/libc.so.6";

    #[test]
    fn only_clean_text_of_the_program_itself_is_given_back() {
        // F1: not the relocated segment (6000), not data, not the heap, not another library.
        assert_eq!(text(MAPS, "/opt/my engine/cellaflow"), [(0x55e0, 1), (0x55e2, 4)]);
        assert_eq!(text(MAPS, "/opt/my engine/cellaflo"), []);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_was_freed_in_the_heap_is_given_back() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
        };
        // In pieces that the allocator keeps, with one at the end that is in use, so that it cannot just be cut off.
        let mut pieces: Vec<Vec<u8>> = (0..20_000).map(|n| vec![1; 1_024 + n % 7]).collect();
        let kept = pieces.pop();
        drop(pieces);
        let before_kb = resident();
        trim_heap();
        let after_kb = resident();
        assert!(before_kb >= after_kb + 10_000, "{before_kb} kB before, {after_kb} kB after");
        drop(kept);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_goes_on_after_its_text_was_given_back() {
        let before = blake3::hash(MAPS.as_bytes());
        assert!(drop_text() > 0, "the mappings are found and the kernel takes them");
        assert_eq!(blake3::hash(MAPS.as_bytes()), before, "read-only data reads the same when it comes back");
    }
}
