//! What the storage tests share: two kinds of store behind one handle, frames by the dozen, and dumps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::graph::ids::{LineageId, Seq, SessionId};
use crate::storage::keys::{Item, LedgerKey, Segment};
use crate::storage::{
    Direction, Frame, KeyRange, LedgerId, Memory, Op, Rocks, Row, Scan, Settings, Snapshot, Store, Table,
    codec, open,
};

pub(super) const LEDGER: LedgerId = LedgerId([7; 16]);

/// A store that can be killed.
pub(super) trait Kind: Sized {
    fn fresh() -> Self;
    fn store(&self) -> &dyn Store;
    /// What a kill -9 at this moment leaves, recovered.
    fn killed(self) -> Self;
}

impl Kind for Memory {
    fn fresh() -> Self {
        Memory::new(LEDGER)
    }

    fn store(&self) -> &dyn Store {
        self
    }

    fn killed(self) -> Self {
        Memory::crash(&self).unwrap()
    }
}

/// The store on disk with its folder.
pub(super) struct OnDisk {
    store: Rocks,
    dir: tempfile::TempDir,
}

impl Kind for OnDisk {
    fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), &Settings::default(), LEDGER).unwrap().store;
        OnDisk { store, dir }
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn killed(self) -> Self {
        // Files as the kernel has them while the process still runs: nothing was closed or flushed.
        let dir = copy(self.dir.path());
        let store = open(dir.path(), &Settings::default(), LEDGER).unwrap().store;
        OnDisk { store, dir }
    }
}

impl OnDisk {
    /// Hands out the store; the folder lives as long as the second part.
    pub(super) fn split(self) -> (Rocks, tempfile::TempDir) {
        (self.store, self.dir)
    }
}

/// Copies a folder, as a kill -9 at this moment would leave it. The store's own threads go on meanwhile, so a copy that
/// files came or went under is thrown away: what it holds was never on disk together.
pub(super) fn copy(from: &Path) -> tempfile::TempDir {
    for _ in 0..COPIES_MAX {
        let to = tempfile::tempdir().unwrap();
        let before = names(from);
        match copy_into(from, to.path()) {
            Ok(()) if names(from) == before => return to,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{} cannot be copied: {error}", from.display()),
        }
    }
    panic!("{} did not stand still for a copy", from.display());
}

const COPIES_MAX: u32 = 1_000;

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// All files below a folder, sorted; one that vanishes while it is looked at is left out.
fn names(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(names(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

pub(super) fn key(n: u64) -> Bytes {
    let item = Item::Event { session: SessionId([2; 16]), seq: Seq(n) };
    LedgerKey::new(Segment(1), LineageId([1; 16]), item).bytes()
}

pub(super) fn value(text: impl AsRef<[u8]>) -> Bytes {
    codec::seal(codec::Format::Row, text.as_ref())
}

pub(super) fn put(n: u64, text: impl AsRef<[u8]>) -> Op {
    Op::put(Table::Ledger, key(n), value(text))
}

/// Seals what follows the store's position and commits it.
pub(super) fn commit(store: &dyn Store, ops: Vec<Op>) -> Frame {
    let frame = Frame::follow(&store.position(), 0, ops).unwrap();
    store.commit(&frame).unwrap();
    frame
}

/// Commits `count` frames of one event each, `bytes` long, numbered as the frames are.
pub(super) fn commit_many(store: &dyn Store, count: u64, bytes: usize) {
    for _ in 0..count {
        let n = store.position().frame.0 + 1;
        commit(store, vec![put(n, noise(n, bytes))]);
    }
}

/// Bytes that do not compress and differ by `seed`.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut out);
    out
}

/// All rows of a table, read page by page.
pub(super) fn dump(view: &dyn Snapshot, table: Table) -> Vec<Row> {
    read_all(view, &Scan::forward(table, &everything()))
}

pub(super) fn everything() -> KeyRange {
    KeyRange::new([], [0xff; 64])
}

/// Follows `next` to the end.
pub(super) fn read_all(view: &dyn Snapshot, scan: &Scan<'_>) -> Vec<Row> {
    let (mut rows, mut after) = (Vec::new(), None::<Bytes>);
    loop {
        let page = view.scan(&Scan { after: after.as_deref(), ..scan.clone() }).unwrap();
        assert!(page.rows.len() <= scan.rows_max, "a page has more rows than were asked for");
        rows.extend(page.rows);
        match page.next {
            None => return rows,
            Some(next) => {
                assert_ne!(
                    after,
                    Some(next.clone()),
                    "a page that ends where it began would be read for ever"
                );
                after = Some(next);
            }
        }
    }
}

pub(super) fn backward(scan: Scan<'_>) -> Scan<'_> {
    Scan { direction: Direction::Backward, ..scan }
}
