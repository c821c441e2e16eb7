//! Stores that fail: nothing half there, nothing acknowledged that is not, and no second chance (S3, ME1, FY1, FY2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::rig::{Kind, LEDGER, OnDisk, commit, commit_many, key, put, value};
use crate::graph::ids::FrameNumber;
use crate::storage::faulty::{Faulty, Gate, Point};
use crate::storage::{Fault, Frame, KeyRange, Memory, Scan, Store, Table};

/// A store whose commits pass a gate.
fn gated() -> [(Box<dyn Store>, Arc<Gate>); 2] {
    let (one, two) = (Gate::new(), Gate::new());
    [
        (Box::new(Memory::with_gate(LEDGER, Arc::clone(&one))), one),
        (Box::new(Faulty::new(Memory::new(LEDGER), Arc::clone(&two))), two),
    ]
}

fn next(store: &dyn Store, n: u64) -> Frame {
    Frame::follow(&store.position(), 0, vec![put(n, "x")]).unwrap()
}

// S3
#[test]
fn after_a_failed_commit_every_call_fails() {
    for point in [Point::Write, Point::Sync, Point::Report] {
        for (store, gate) in gated() {
            gate.fail_at(point, 3);
            commit_many(&*store, 2, 10);
            let frame = next(&*store, 3);
            assert!(matches!(store.commit(&frame), Err(Fault::Io { .. })));
            assert_eq!(store.position().frame, FrameNumber(2), "the failed frame was not acknowledged");
            let range = KeyRange::new(key(0), key(9));
            let view = store.snapshot();
            let later = [
                store.commit(&frame),
                store.get(Table::Ledger, &key(1)).map(drop),
                store.reclaim(&range).map(drop),
                store.stats().map(drop),
                view.get(Table::Ledger, &key(1)).map(drop),
                view.scan(&Scan::forward(Table::Ledger, &range)).map(drop),
                view.position().map(drop),
            ];
            for outcome in later {
                assert!(matches!(outcome, Err(Fault::Poisoned { .. })), "{point:?}: {outcome:?}");
            }
        }
    }
}

// ME1, ME2: a power loss leaves the frames synced so far, each of them whole.
#[test]
fn a_crash_leaves_what_was_synced() {
    for (point, left) in [(Point::Write, 4), (Point::Sync, 4), (Point::Report, 5)] {
        let gate = Gate::new();
        let store = Memory::with_gate(LEDGER, Arc::clone(&gate));
        gate.fail_at(point, 5);
        commit_many(&store, 4, 10);
        store.commit(&next(&store, 5)).unwrap_err();
        let recovered = store.crash().unwrap();
        assert_eq!(recovered.position().frame, FrameNumber(left), "{point:?}");
        assert_eq!(recovered.get(Table::Ledger, &key(5)).unwrap().is_some(), left == 5, "{point:?}");
        assert_eq!(store.durable_frames().len(), usize::try_from(left).unwrap());
        commit_many(&recovered, 1, 10);
    }
}

// ME1: what is not synced yet is visible to reads, which is why replies wait for the watermark.
#[test]
fn a_held_sync_shows_in_reads_and_not_in_the_position() {
    let gate = Gate::new();
    let store = Memory::with_gate(LEDGER, Arc::clone(&gate));
    gate.hold(Point::Sync);
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| store.commit(&next(&store, 1)));
        let held = gate.wait_until_held();
        let (read, position) = (store.get(Table::Ledger, &key(1)), store.position());
        let durable = store.crash().and_then(|crashed| crashed.get(Table::Ledger, &key(1)));
        // Looked at first and judged later: a failed assertion must not leave the commit held.
        gate.release();
        commit.join().unwrap().unwrap();
        assert!(held);
        assert_eq!((read, position.frame), (Ok(Some(value("x"))), FrameNumber(0)));
        assert_eq!(durable, Ok(None));
    });
    assert_eq!(store.position().frame, FrameNumber(1));
}

// FY1
#[test]
fn a_held_commit_returns_only_when_released() {
    for point in [Point::Write, Point::Sync, Point::Report] {
        let (gate, returned) = (Gate::new(), AtomicBool::new(false));
        let (disk, _folder) = OnDisk::fresh().split();
        let store = Faulty::new(disk, Arc::clone(&gate));
        gate.hold(point);
        let frame = next(&store, 1);
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| {
                store.commit(&frame).unwrap();
                returned.store(true, Ordering::SeqCst);
            });
            let held = gate.wait_until_held();
            let early = returned.load(Ordering::SeqCst);
            let read = store.get(Table::Ledger, &key(1));
            gate.release();
            commit.join().unwrap();
            assert!(held && !early, "{point:?}");
            assert_eq!(read.unwrap().is_some(), point == Point::Report, "{point:?}");
        });
        assert!(returned.load(Ordering::SeqCst));
        commit(&store, vec![put(2, "y")]);
    }
}

// S2, S3: a refused frame wrote nothing, so the store goes on.
#[test]
fn a_refused_frame_poisons_nothing() {
    for (store, _) in gated() {
        let frame = next(&*store, 1);
        store.commit(&frame).unwrap();
        assert!(matches!(store.commit(&frame), Err(Fault::OutOfOrder { .. })));
        commit_many(&*store, 1, 10);
    }
}
