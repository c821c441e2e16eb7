//! The durable mark (M1 to M3).

use std::fs;
use std::path::Path;

use super::rig::LEDGER;
use crate::graph::ids::FrameNumber;
use crate::storage::LedgerId;
use crate::storage::mark::{self, Mark, MarkFile};

fn mark(frame: u64) -> Mark {
    Mark { ledger_id: LEDGER, frame: FrameNumber(frame) }
}

/// The frames that the two slots name.
fn frames(dir: &Path) -> [u64; 2] {
    let bytes = fs::read(dir.join(mark::FILE)).unwrap();
    [0, 4096].map(|at| u64::from_be_bytes(bytes[at + 20..at + 28].try_into().unwrap()))
}

fn latest(dir: &Path) -> Option<Mark> {
    mark::read(dir).unwrap().and_then(|slots| slots.latest())
}

fn damage(dir: &Path, at: usize) {
    let path = dir.join(mark::FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

// These bytes are on people's disks.
#[test]
fn the_file_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    mark::create(dir.path(), mark(0x0102)).unwrap();
    let bytes = fs::read(dir.path().join(mark::FILE)).unwrap();
    let slot = "43464d310707070707070707070707070707070700000000000001028a6377c6";
    assert_eq!(bytes.len(), 4096 + 32);
    assert_eq!(hex::encode(&bytes[..32]), slot);
    assert_eq!(hex::encode(&bytes[4096..]), slot);
    assert!(bytes[32..4096].iter().all(|byte| *byte == 0));
}

#[test]
fn no_file_is_not_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(mark::read(dir.path()).unwrap(), None);
    fs::write(dir.path().join(mark::FILE), b"").unwrap();
    assert_eq!(mark::read(dir.path()).unwrap().unwrap().latest(), None);
}

// M2
#[test]
fn one_slot_is_written_until_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    mark::create(dir.path(), mark(0)).unwrap();
    let file = MarkFile::resume(dir.path(), mark(5)).unwrap();
    let start = frames(dir.path());
    let kept = start.iter().position(|frame| *frame == 5).expect("the recovered frame was written");
    for frame in [6, 7, 8] {
        file.write(FrameNumber(frame)).unwrap();
        assert_eq!((frames(dir.path())[kept], frames(dir.path())[1 - kept]), (5, frame));
    }
    file.sync_now();
    for frame in [9, 10] {
        file.write(FrameNumber(frame)).unwrap();
        assert_eq!((frames(dir.path())[kept], frames(dir.path())[1 - kept]), (frame, 8));
    }
    assert_eq!(latest(dir.path()), Some(mark(10)));
}

// M2: whichever slot is damaged, the other one says what was synced last, or later.
#[test]
fn one_bad_slot_is_normal_and_two_are_not() {
    for at in [0, 3, 4, 19, 20, 27, 28, 31] {
        let dir = tempfile::tempdir().unwrap();
        mark::create(dir.path(), mark(3)).unwrap();
        damage(dir.path(), at);
        assert_eq!(latest(dir.path()), Some(mark(3)));
        let file = MarkFile::resume(dir.path(), mark(4)).unwrap();
        drop(file);
        assert_eq!(frames(dir.path()), [4, 3], "the bad slot is the one to overwrite");
        damage(dir.path(), at);
        damage(dir.path(), 4096 + at);
        assert_eq!(latest(dir.path()), None);
    }
}

#[test]
fn slots_of_two_ledgers_are_no_mark() {
    let dir = tempfile::tempdir().unwrap();
    mark::create(dir.path(), mark(3)).unwrap();
    let ours = fs::read(dir.path().join(mark::FILE)).unwrap();
    mark::create(dir.path(), Mark { ledger_id: LedgerId([8; 16]), frame: FrameNumber(9) }).unwrap();
    let theirs = fs::read(dir.path().join(mark::FILE)).unwrap();
    fs::write(dir.path().join(mark::FILE), [&ours[..4096], &theirs[4096..]].concat()).unwrap();
    assert_eq!(latest(dir.path()), None);
}
