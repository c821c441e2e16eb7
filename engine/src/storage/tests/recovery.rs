//! Recovery at start, on real files (S6, O1 to O5). RocksDB alone notices none of this: in point-in-time mode it opens
//! with half of the synced records after one flipped byte, and then deletes the log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::rig::{LEDGER, commit, commit_many, copy, key, noise, put};
use crate::graph::ids::FrameNumber;
use crate::storage::mark::{self, Mark};
use crate::storage::{
    Fault, LedgerId, Op, OpenError, Opened, Settings, Store, Table, accept_loss, codec, open,
};

const FRAMES: u64 = 50;

fn try_open(dir: &Path) -> Result<Opened, OpenError> {
    open(dir, &Settings::default(), LEDGER)
}

/// A closed ledger of 50 frames, all of them in the log.
fn ledger() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    commit_many(&try_open(dir.path()).unwrap().store, FRAMES, 200);
    dir
}

/// The log in use.
fn log(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("a ledger has a log")
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// All files but the lock, with a hash of their bytes.
fn fingerprint(dir: &Path) -> BTreeMap<PathBuf, blake3::Hash> {
    let mut files = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("db")] {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_file() && !path.ends_with("lock") {
                files.insert(path.clone(), blake3::hash(&fs::read(&path).unwrap()));
            }
        }
    }
    files
}

/// Opens a damaged ledger, which must be refused without touching a file (O3).
fn refused(dir: &Path) -> OpenError {
    let before = fingerprint(dir);
    let error = try_open(dir).err().expect("a damaged ledger was opened");
    assert_eq!(fingerprint(dir), before, "refused with {error}, but files were touched");
    error
}

#[track_caller]
fn assert_lost(error: &OpenError) -> Option<u64> {
    let OpenError::Lost { marked, recovered, .. } = error else { panic!("{error}") };
    assert_eq!(*marked, FrameNumber(FRAMES));
    let text = error.to_string();
    assert!(text.contains(&format!("up to {FRAMES}")) && text.contains("accept-loss"), "{text}");
    let recovered = recovered.as_ref().ok().map(|frame| frame.0);
    assert!(
        recovered.is_none_or(|frame| frame < FRAMES && text.contains(&format!("frame {frame}"))),
        "{text}"
    );
    recovered
}

#[test]
fn an_undamaged_ledger_opens_whole() {
    let dir = ledger();
    let opened = try_open(dir.path()).unwrap();
    assert!(!opened.created);
    assert_eq!((opened.marked, opened.recovered), (FrameNumber(FRAMES), FrameNumber(FRAMES)));
}

// S6: one flipped byte anywhere in the log of acknowledged frames.
#[test]
fn a_flipped_byte_in_the_log_is_refused_by_number() {
    let dir = ledger();
    let length = fs::metadata(log(dir.path())).unwrap().len() as usize;
    let mut found = Vec::new();
    for at in (0..length).step_by(length / 23) {
        let damaged = copy(dir.path());
        edit(&log(damaged.path()), |bytes| bytes[at] ^= 0x10);
        found.extend(assert_lost(&refused(damaged.path())));
    }
    assert!(
        found.iter().any(|frame| *frame > 0),
        "damage in the middle leaves the frames before it: {found:?}"
    );
}

// S6
#[test]
fn a_hole_in_the_log_is_refused_by_number() {
    let dir = ledger();
    edit(&log(dir.path()), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 512].fill(0);
    });
    assert!(assert_lost(&refused(dir.path())).is_some_and(|frame| frame > 10));
}

// S6: the log is cut at the end of a record, so that RocksDB sees no damage at all.
#[test]
fn a_log_that_lost_its_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = try_open(dir.path()).unwrap();
    commit_many(&opened.store, FRAMES - 1, 200);
    let whole = fs::metadata(log(dir.path())).unwrap().len() as usize;
    commit_many(&opened.store, 1, 200);
    drop(opened);
    edit(&log(dir.path()), |bytes| bytes.truncate(whole));
    assert_eq!(assert_lost(&refused(dir.path())), Some(FRAMES - 1));
}

#[test]
fn a_missing_log_or_store_is_refused() {
    let dir = ledger();
    let damaged = copy(dir.path());
    fs::remove_file(log(damaged.path())).unwrap();
    assert_lost(&refused(damaged.path()));
    fs::remove_file(dir.path().join("db/CURRENT")).unwrap();
    assert_lost(&refused(dir.path()));
}

// RO2: the tables are flushed together, so damage behind a flush cannot leave one ahead of the other.
#[test]
fn damage_behind_a_flush_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = try_open(dir.path()).unwrap();
    while opened.store.stats().unwrap().rows.disk_bytes == 0 {
        let n = opened.store.position().frame.0 + 1;
        let rows = (0..8).map(|k| Op::put(Table::Rows, key(n * 8 + k), noise(n * 8 + k, 30_000)));
        commit(&opened.store, rows.chain([put(n, "small")]).collect());
    }
    let stats = opened.store.stats().unwrap();
    assert!(stats.ledger.disk_bytes > 0, "only one table was flushed: {stats:?}");
    commit_many(&opened.store, 20, 200);
    drop(opened);
    edit(&log(dir.path()), |bytes| {
        let near_the_end = bytes.len() - 2500;
        bytes[near_the_end] ^= 1;
    });
    assert!(matches!(refused(dir.path()), OpenError::Lost { recovered: Ok(_), .. }));
}

// O4: whatever is left of bytes behind the marked frame is a torn tail.
#[test]
fn a_torn_tail_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let opened = try_open(dir.path()).unwrap();
    commit_many(&opened.store, FRAMES, 200);
    let marked = fs::read(dir.path().join(mark::FILE)).unwrap();
    let whole = fs::metadata(log(dir.path())).unwrap().len() as usize;
    commit_many(&opened.store, 1, 200);
    drop(opened);
    fs::write(dir.path().join(mark::FILE), marked).unwrap();
    let end = fs::metadata(log(dir.path())).unwrap().len() as usize;
    for cut in (whole..end).step_by(31).chain([end - 1]) {
        let torn = copy(dir.path());
        edit(&log(torn.path()), |bytes| bytes.truncate(cut));
        let opened =
            try_open(torn.path()).unwrap_or_else(|error| panic!("cut at {cut} of {whole}..{end}: {error}"));
        assert_eq!(opened.recovered, FrameNumber(FRAMES));
        commit_many(&opened.store, 2, 200);
        drop(opened);
        assert_eq!(try_open(torn.path()).unwrap().recovered, FrameNumber(FRAMES + 2));
    }
    let garbage = copy(dir.path());
    edit(&log(garbage.path()), |bytes| {
        bytes.truncate(whole);
        bytes.extend(noise(1, 5000));
    });
    assert_eq!(try_open(garbage.path()).unwrap().recovered, FrameNumber(FRAMES));
    let opened = try_open(dir.path()).unwrap();
    assert_eq!(
        (opened.marked.0, opened.recovered.0),
        (FRAMES, FRAMES + 1),
        "a synced frame without its mark is kept"
    );
}

// M2
#[test]
fn one_bad_slot_of_the_mark_is_survived_and_two_are_refused() {
    let dir = ledger();
    let path = |dir: &Path| dir.join(mark::FILE);
    for at in [10, 4096 + 10] {
        let damaged = copy(dir.path());
        edit(&path(damaged.path()), |bytes| bytes[at] ^= 1);
        assert_eq!(try_open(damaged.path()).unwrap().recovered, FrameNumber(FRAMES));
    }
    for damage in [|bytes: &mut Vec<u8>| bytes.clear(), |bytes: &mut Vec<u8>| bytes.fill(0xaa)] {
        let damaged = copy(dir.path());
        edit(&path(damaged.path()), damage);
        let error = refused(damaged.path());
        let expected =
            OpenError::NoMark { dir: damaged.path().to_owned(), recovered: Ok(FrameNumber(FRAMES)) };
        assert_eq!(error, expected);
        assert!(error.to_string().contains("frame 50"), "{error}");
    }
}

// O2: a store without a mark is damage, not a fresh folder.
#[test]
fn a_missing_mark_is_refused() {
    let dir = ledger();
    fs::remove_file(dir.path().join(mark::FILE)).unwrap();
    assert!(matches!(refused(dir.path()), OpenError::NoMark { recovered: Ok(FrameNumber(FRAMES)), .. }));
}

#[test]
fn a_mark_of_another_ledger_is_refused() {
    let dir = ledger();
    let theirs = LedgerId([8; 16]);
    mark::create(dir.path(), Mark { ledger_id: theirs, frame: FrameNumber(3) }).unwrap();
    let error = refused(dir.path());
    assert!(
        matches!(&error, OpenError::OtherLedger { marked_id, marked: FrameNumber(3), ledger_id, recovered: FrameNumber(FRAMES), .. }
            if *marked_id == theirs && *ledger_id == LEDGER),
        "{error}"
    );
}

// O5
#[test]
fn only_accept_loss_gets_past_a_loss() {
    let dir = ledger();
    edit(&log(dir.path()), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let left = assert_lost(&refused(dir.path())).unwrap();
    let accepted = accept_loss(dir.path()).unwrap();
    assert_eq!((accepted.marked, accepted.recovered.0), (Some(FrameNumber(FRAMES)), left));
    let opened = try_open(dir.path()).unwrap();
    assert_eq!(opened.recovered.0, left);
    commit_many(&opened.store, 1, 200);
    drop(opened);
    assert_eq!(try_open(dir.path()).unwrap().recovered.0, left + 1);
}

#[test]
fn accept_loss_takes_what_is_there_when_the_mark_is_gone() {
    let dir = ledger();
    fs::remove_file(dir.path().join(mark::FILE)).unwrap();
    let accepted = accept_loss(dir.path()).unwrap();
    assert_eq!((accepted.marked, accepted.recovered), (None, FrameNumber(FRAMES)));
    assert_eq!(try_open(dir.path()).unwrap().recovered, FrameNumber(FRAMES));
}

#[test]
fn accept_loss_refuses_when_nothing_is_lost_or_nothing_is_there() {
    let dir = ledger();
    assert!(matches!(accept_loss(dir.path()), Err(OpenError::NothingLost { .. })));
    let opened = try_open(dir.path()).unwrap();
    assert!(matches!(accept_loss(dir.path()), Err(OpenError::Locked { .. })));
    drop(opened);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(accept_loss(empty.path()), Err(OpenError::NothingThere { .. })));
    assert_eq!(mark::read(empty.path()).unwrap(), None);
}

// O2: the process ended between the mark and the store, or while the store was being made.
#[test]
fn an_unfinished_ledger_is_made_anew() {
    let first = LedgerId([3; 16]);
    let prepare = |remains: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        mark::create(dir.path(), Mark { ledger_id: first, frame: FrameNumber(0) }).unwrap();
        remains(dir.path());
        dir
    };
    let without_current = |dir: &Path| {
        fs::create_dir(dir.join("db")).unwrap();
        fs::write(dir.join("db/MANIFEST-000001"), b"half").unwrap();
    };
    let without_position = |dir: &Path| {
        let made = tempfile::tempdir().unwrap();
        drop(try_open(made.path()).unwrap());
        fs::rename(made.path().join("db"), dir.join("db")).unwrap();
        edit(&log(dir), Vec::clear);
    };
    for remains in [&|_: &Path| {}, &without_current, &without_position] as [&dyn Fn(&Path); 3] {
        let dir = prepare(remains);
        let opened = try_open(dir.path()).unwrap();
        assert_eq!(
            (opened.created, opened.store.position().ledger_id),
            (true, first),
            "the mark has named it already"
        );
        commit_many(&opened.store, 2, 10);
        drop(opened);
        assert_eq!(try_open(dir.path()).unwrap().recovered, FrameNumber(2));
    }
}

// M3: the process ended while the mark was being written; nothing else exists yet.
#[test]
fn a_half_written_mark_of_a_new_ledger_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(mark::NEW_FILE), b"CF").unwrap();
    assert!(try_open(dir.path()).unwrap().created);
}

// O1
#[test]
fn a_ledger_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let opened = try_open(dir.path()).unwrap();
    let error = try_open(dir.path()).err().unwrap();
    assert_eq!(error, OpenError::Locked { dir: dir.path().to_owned(), pid: Some(std::process::id()) });
    drop(opened);
    assert!(try_open(dir.path()).is_ok());
}

#[test]
fn a_foreign_folder_is_refused_and_left_alone() {
    for name in ["CURRENT", "notes.txt", "db2"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), b"mine").unwrap();
        let error = try_open(dir.path()).err().unwrap();
        assert_eq!(error, OpenError::Foreign { dir: dir.path().to_owned(), file: name.to_owned() });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "not even a lock was left");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("db")).unwrap();
    fs::write(dir.path().join("db/000012.sst"), b"theirs").unwrap();
    assert!(matches!(refused(dir.path()), OpenError::Foreign { file, .. } if file == "db/000012.sst"));
}

// C1: an older engine meets a newer one's row.
#[test]
fn an_unknown_format_on_disk_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let opened = try_open(dir.path()).unwrap();
    let mut newer = vec![0x7f];
    newer.extend(crc32c::crc32c(b"\x7fbody").to_be_bytes());
    newer.extend(b"body");
    commit(&opened.store, vec![Op::put(Table::Rows, key(1), Bytes::from(newer))]);
    drop(opened);
    let store = try_open(dir.path()).unwrap().store;
    let value = store.get(Table::Rows, &key(1)).unwrap().unwrap();
    let fault = codec::open(Table::Rows, &key(1), &value).unwrap_err();
    assert!(matches!(fault, Fault::UnknownFormat { format: 0x7f, .. }));
}
