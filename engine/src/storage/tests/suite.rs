//! One suite for every kind of store (S1 to S5).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::rig::{
    Kind, LEDGER, OnDisk, backward, commit, commit_many, dump, everything, key, noise, put, read_all, value,
};
use crate::graph::ids::{FrameNumber, Hash};
use crate::storage::{Fault, Frame, KeyRange, Memory, Op, Position, Scan, Store, Table};

/// Makes a test of each function for each kind of store.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod memory { $(#[test] fn $test() { super::$test::<super::Memory>() })* }
        mod rocks { $(#[test] fn $test() { super::$test::<super::OnDisk>() })* }
    };
}

on_every_store!(
    a_new_ledger_stands_before_its_first_frame,
    a_committed_frame_is_read_back,
    a_frame_that_does_not_follow_is_refused_and_changes_nothing,
    operations_apply_in_order,
    a_snapshot_sees_one_state,
    readers_never_see_half_a_frame,
    pages_cover_a_range_in_both_directions,
    a_page_is_bounded_in_bytes_but_never_empty,
    an_acknowledged_frame_survives_a_kill,
    frames_rebuild_the_ledger,
    a_deleted_range_is_reclaimed_and_its_neighbours_stay,
);

// S1
fn a_new_ledger_stands_before_its_first_frame<K: Kind>() {
    let kind = K::fresh();
    assert_eq!(kind.store().position(), Position::genesis(LEDGER));
    assert_eq!(kind.store().snapshot().position().unwrap(), Position::genesis(LEDGER));
    assert_ne!(Position::genesis(LEDGER).frame_hash, Hash([0; 32]));
}

// S1
fn a_committed_frame_is_read_back<K: Kind>() {
    let kind = K::fresh();
    let frame = commit(kind.store(), vec![put(1, "one")]);
    assert_eq!(kind.store().get(Table::Ledger, &key(1)).unwrap(), Some(value("one")));
    assert_eq!(kind.store().get(Table::Rows, &key(1)).unwrap(), None, "the tables are apart");
    let position = kind.store().position();
    assert_eq!((position.frame, position.frame_hash), (FrameNumber(1), frame.hash()));
    assert_eq!(kind.store().snapshot().position().unwrap(), position);
}

// S2
fn a_frame_that_does_not_follow_is_refused_and_changes_nothing<K: Kind>() {
    let kind = K::fresh();
    let store = kind.store();
    let first = Frame::follow(&store.position(), 3, vec![put(1, "one")]).unwrap();
    store.commit(&first).unwrap();
    let at = store.position();
    let seal = |number, previous, epoch| {
        Frame::seal(FrameNumber(number), previous, epoch, vec![put(2, "no")]).unwrap()
    };
    let wrong = [
        ("again", first.clone()),
        ("a gap", seal(3, at.frame_hash, 3)),
        ("another chain", seal(2, Hash([9; 32]), 3)),
        ("an older owner", seal(2, at.frame_hash, 2)),
    ];
    for (what, frame) in wrong {
        let refusal = store.commit(&frame).unwrap_err();
        assert!(matches!(refusal, Fault::OutOfOrder { position: 1, .. }), "{what}: {refusal}");
        assert_eq!(store.position(), at, "{what}");
        assert_eq!(store.get(Table::Ledger, &key(2)).unwrap(), None, "{what}");
    }
    store.commit(&seal(2, at.frame_hash, 4)).unwrap();
    assert_eq!(store.position().shard_epoch, 4);
}

fn operations_apply_in_order<K: Kind>() {
    let kind = K::fresh();
    let gone = KeyRange::new(key(2), key(4));
    commit(kind.store(), (1..=5).map(|n| put(n, "old")).collect());
    commit(
        kind.store(),
        vec![
            put(2, "before the range goes"),
            Op::delete_range(Table::Ledger, gone),
            put(3, "after it went"),
            put(5, "soon gone"),
            Op::delete(Table::Ledger, key(5)),
            Op::delete(Table::Ledger, key(77)),
        ],
    );
    let rows = dump(&*kind.store().snapshot(), Table::Ledger);
    let keys = rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys, [key(1), key(3), key(4)]);
    assert_eq!(rows[1].value, value("after it went"));
}

// S4
fn a_snapshot_sees_one_state<K: Kind>() {
    let kind = K::fresh();
    commit(kind.store(), vec![put(1, "old"), put(2, "old")]);
    let view = kind.store().snapshot();
    commit(kind.store(), vec![put(1, "new"), Op::delete(Table::Ledger, key(2)), put(3, "new")]);
    assert_eq!(view.get(Table::Ledger, &key(1)).unwrap(), Some(value("old")));
    assert_eq!(dump(&*view, Table::Ledger).len(), 2);
    assert_eq!(view.position().unwrap().frame, FrameNumber(1));
    assert_eq!(kind.store().snapshot().get(Table::Ledger, &key(1)).unwrap(), Some(value("new")));
}

// S2, S4
fn readers_never_see_half_a_frame<K: Kind>() {
    let kind = K::fresh();
    let (store, done) = (kind.store(), AtomicBool::new(false));
    let state = |n: u64| vec![put(1, n.to_string()), put(2, n.to_string())];
    commit(store, state(1));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let view = store.snapshot();
                let expected = Some(value(view.position().unwrap().frame.to_string()));
                assert_eq!(view.get(Table::Ledger, &key(1)).unwrap(), expected);
                assert_eq!(view.get(Table::Ledger, &key(2)).unwrap(), expected);
            }
        });
        (2..200).for_each(|n| drop(commit(store, state(n))));
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

// S4
fn pages_cover_a_range_in_both_directions<K: Kind>() {
    let kind = K::fresh();
    commit(kind.store(), (0..50).map(|n| put(n, n.to_string())).collect());
    let view = kind.store().snapshot();
    let range = KeyRange::new(key(5), key(45));
    for rows_max in [1, 7, 40, 100] {
        let scan = Scan { rows_max, ..Scan::forward(Table::Ledger, &range) };
        let rows = read_all(&*view, &scan);
        let keys = rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys, (5..45).map(key).collect::<Vec<_>>(), "{rows_max} at a time");
        let mut back = read_all(&*view, &backward(scan));
        back.reverse();
        assert_eq!(back, rows, "{rows_max} at a time, backward");
    }
    let exact = Scan { rows_max: 40, ..Scan::forward(Table::Ledger, &range) };
    assert_eq!(view.scan(&exact).unwrap().next, None, "a page that ends with its range says so");
}

// S4, R2
fn a_page_is_bounded_in_bytes_but_never_empty<K: Kind>() {
    let kind = K::fresh();
    commit(kind.store(), (0..10).map(|n| put(n, noise(n, 1000))).collect());
    let view = kind.store().snapshot();
    let range = everything();
    let page = |bytes_max| view.scan(&Scan { bytes_max, ..Scan::forward(Table::Ledger, &range) }).unwrap();
    assert_eq!(page(2500).rows.len(), 3, "the row that passes the limit is the last");
    assert_eq!(page(1).rows.len(), 1);
    assert_eq!(page(0).rows.len(), 1);
    let empty = KeyRange::new(key(3), key(3));
    assert_eq!(view.scan(&Scan::forward(Table::Ledger, &empty)).unwrap().rows, []);
    assert_eq!(view.scan(&Scan::backward(Table::Ledger, &empty)).unwrap().rows, []);
}

// S1: the promise "durable".
fn an_acknowledged_frame_survives_a_kill<K: Kind>() {
    let kind = K::fresh();
    commit_many(kind.store(), 40, 100);
    let (position, rows) = (kind.store().position(), dump(&*kind.store().snapshot(), Table::Ledger));
    let recovered = kind.killed();
    assert_eq!(recovered.store().position(), position);
    assert_eq!(dump(&*recovered.store().snapshot(), Table::Ledger), rows);
    commit_many(recovered.store(), 3, 100);
    assert_eq!(recovered.killed().store().position().frame, FrameNumber(43));
}

// S5, FR3
fn frames_rebuild_the_ledger<K: Kind>() {
    let kind = K::fresh();
    let mut frames = Vec::new();
    for n in 0..20 {
        let old = KeyRange::new(key(n / 2), key(n / 2 + 2));
        let ops = vec![put(n, noise(n, 50)), Op::delete_range(Table::Ledger, old), put(n + 1, "x")];
        frames.push(commit(kind.store(), ops));
    }
    let rebuilt = K::fresh();
    frames.iter().for_each(|frame| rebuilt.store().commit(frame).unwrap());
    assert_eq!(rebuilt.store().position(), kind.store().position());
    for table in Table::ALL {
        assert_eq!(dump(&*rebuilt.store().snapshot(), table), dump(&*kind.store().snapshot(), table));
    }
}

fn a_deleted_range_is_reclaimed_and_its_neighbours_stay<K: Kind>() {
    let kind = K::fresh();
    let dead = KeyRange::new(key(10), key(20));
    commit(kind.store(), (0..30).map(|n| put(n, noise(n, 100))).collect());
    commit(kind.store(), vec![Op::delete_range(Table::Ledger, dead.clone())]);
    let (position, rows) = (kind.store().position(), dump(&*kind.store().snapshot(), Table::Ledger));
    assert_eq!(rows.len(), 20);
    for _ in 0..2 {
        kind.store().reclaim(&dead).unwrap();
        assert_eq!(kind.store().position(), position, "space is no part of the ledger's history");
        assert_eq!(dump(&*kind.store().snapshot(), Table::Ledger), rows);
    }
    let recovered = kind.killed();
    assert_eq!(dump(&*recovered.store().snapshot(), Table::Ledger), rows);
}

/// A change of a small key space, so that changes meet.
#[derive(Clone, Debug)]
enum Change {
    Put(u64, u64),
    Delete(u64),
    DeleteRange(u64, u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..12_u64, any::<u64>()).prop_map(|(n, seed)| Change::Put(n, seed)),
        1 => (0..12_u64).prop_map(Change::Delete),
        1 => (0..12_u64, 0..12_u64).prop_map(|(from, to)| Change::DeleteRange(from, to)),
    ]
}

fn apply(model: &mut BTreeMap<Bytes, Bytes>, change: &Change) -> Op {
    match *change {
        Change::Put(n, seed) => {
            model.insert(key(n), value(seed.to_string()));
            put(n, seed.to_string())
        }
        Change::Delete(n) => {
            model.remove(&key(n));
            Op::delete(Table::Ledger, key(n))
        }
        Change::DeleteRange(from, to) => {
            let range = KeyRange::new(key(from), key(to));
            model.retain(|key, _| !range.contains(key));
            Op::delete_range(Table::Ledger, range)
        }
    }
}

fn stores_agree_with_the_model(frames: &[Vec<Change>]) {
    let (memory, disk) = (Memory::fresh(), OnDisk::fresh());
    let mut model = BTreeMap::new();
    for changes in frames {
        let ops = changes.iter().map(|change| apply(&mut model, change)).collect::<Vec<_>>();
        let frame = commit(memory.store(), ops);
        disk.store().commit(&frame).unwrap();
    }
    let (memory, disk) = (memory.killed(), disk.killed());
    for kind in [memory.store(), disk.store()] as [&dyn Store; 2] {
        let rows = dump(&*kind.snapshot(), Table::Ledger).into_iter().map(|row| (row.key, row.value));
        assert_eq!(rows.collect::<BTreeMap<_, _>>(), model);
    }
    assert_eq!(memory.store().position(), disk.store().position());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    // S5: whatever the frames are, both stores hold what they say, also after a kill.
    #[test]
    fn both_stores_agree_with_the_model(
        frames in prop::collection::vec(prop::collection::vec(change(), 1..6), 0..12)
    ) {
        stores_agree_with_the_model(&frames);
    }
}
