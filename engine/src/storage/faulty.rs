//! Faults on demand: holds a commit, or fails it at a chosen point.
//!
//! Owns `Gate`, which commits pass through, and `Faulty`, which puts one in front of any store. Never used by the
//! daemon; it is here, and not in a test folder, because the ledger's tests and the property tests share it.
//!
//! FY1. A held commit blocks its caller and nobody else: reads and `position` go on.
//! FY2. A failed commit poisons the store, as a real one would (S3).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::fault::Poison;
use super::{Fault, Frame, KeyRange, Page, Position, Reclaimed, Scan, Snapshot, Stats, Store, Table};

/// Where a commit can be held or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before anything is written.
    Write,
    /// Written, not synced. In front of a store that cannot stop there it is the same as `Write`.
    Sync,
    /// Synced, not yet reported: the caller learns nothing, but recovery will find the frame.
    Report,
}

/// How long a test waits for a commit to come to the gate.
const HELD_WITHIN: Duration = Duration::from_secs(10);

/// Lets commits pass, holds them or fails them; share it with the test.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    hold: Option<Point>,
    waiting: bool,
    /// Fails at this point after so many more passes.
    fail: Option<(Point, u64)>,
}

impl Gate {
    /// Makes a gate that lets everything pass.
    pub fn new() -> Arc<Gate> {
        Arc::new(Gate::default())
    }

    /// Holds the next commit that comes to `point` until `release`.
    pub fn hold(&self, point: Point) {
        self.state.lock().hold = Some(point);
    }

    /// Lets the held commit go on, and all later ones pass.
    pub fn release(&self) {
        self.state.lock().hold = None;
        self.changed.notify_all();
    }

    /// Waits until a commit is being held; false if none came within `HELD_WITHIN`.
    #[must_use]
    pub fn wait_until_held(&self) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.waiting, HELD_WITHIN);
        state.waiting
    }

    /// Fails the `k`-th commit from now, counted from 1, at `point`.
    pub fn fail_at(&self, point: Point, k: u64) {
        self.state.lock().fail = Some((point, k));
    }

    /// Takes a commit through `point`.
    pub(super) fn pass(&self, point: Point) -> Result<(), Fault> {
        let mut state = self.state.lock();
        while state.hold == Some(point) {
            state.waiting = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
        state.waiting = false;
        match &mut state.fail {
            Some((at, left)) if *at == point => *left = left.saturating_sub(1),
            Some(_) | None => return Ok(()),
        }
        if state.fail == Some((point, 0)) {
            state.fail = None;
            return Err(Fault::Io {
                action: format!("committing ({point:?})"),
                detail: "injected by the test".to_owned(),
            });
        }
        Ok(())
    }
}

/// A store behind a gate.
pub struct Faulty<S> {
    inner: S,
    gate: Arc<Gate>,
    poison: Poison,
    /// What this store's `commit` returned for; the inner one may be a frame ahead.
    position: Mutex<Position>,
}

impl<S: Store> Faulty<S> {
    /// Puts `gate` in front of `inner`'s commits.
    pub fn new(inner: S, gate: Arc<Gate>) -> Self {
        let position = Mutex::new(inner.position());
        Faulty { inner, gate, poison: Poison::default(), position }
    }

    /// Returns the store behind the gate, for a look at what it holds.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn pass_and_commit(&self, frame: &Frame) -> Result<(), Fault> {
        self.gate.pass(Point::Write)?;
        self.gate.pass(Point::Sync)?;
        self.inner.commit(frame)?;
        self.gate.pass(Point::Report)?;
        *self.position.lock() = self.inner.position();
        Ok(())
    }
}

impl<S: Store> Store for Faulty<S> {
    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(FaultyView { inner: self.inner.snapshot(), poison: &self.poison })
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.poison.check()?;
        self.inner.get(table, key)
    }

    fn commit(&self, frame: &Frame) -> Result<(), Fault> {
        self.poison.check()?;
        self.pass_and_commit(frame).map_err(|fault| self.poison.set_unless_refused(fault))
    }

    fn reclaim(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.poison.check()?;
        self.inner.reclaim(range)
    }

    fn compact(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.poison.check()?;
        self.inner.compact(range)
    }

    fn checkpoint(&self, dir: &Path) -> Result<Position, Fault> {
        self.poison.check()?;
        self.inner.checkpoint(dir)
    }

    fn rest(&self) -> Result<(), Fault> {
        self.poison.check()?;
        self.inner.rest()
    }

    fn stats(&self) -> Result<Stats, Fault> {
        self.poison.check()?;
        self.inner.stats()
    }

    fn position(&self) -> Position {
        *self.position.lock()
    }
}

/// A view that ends with its store (FY2).
struct FaultyView<'a> {
    inner: Box<dyn Snapshot + 'a>,
    poison: &'a Poison,
}

impl Snapshot for FaultyView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.poison.check()?;
        self.inner.get(table, key)
    }

    fn scan(&self, scan: &Scan<'_>) -> Result<Page, Fault> {
        self.poison.check()?;
        self.inner.scan(scan)
    }

    fn position(&self) -> Result<Position, Fault> {
        self.poison.check()?;
        self.inner.position()
    }
}
