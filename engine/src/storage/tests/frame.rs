//! The frame (FR1, FR2).

use super::rig::{LEDGER, key, put, value};
use crate::graph::ids::{Digest, FrameNumber, Hash, LineageId};
use crate::storage::keys::{Item, LedgerKey, Segment};
use crate::storage::{FRAME_BYTES_MAX, Fault, Frame, KeyRange, Op, Position, Table};

fn seal(ops: Vec<Op>) -> Frame {
    Frame::seal(FrameNumber(5), Hash([1; 32]), 2, ops).unwrap()
}

// FR1
#[test]
fn a_frame_is_never_empty() {
    let refused = Frame::follow(&Position::genesis(LEDGER), 0, Vec::new()).unwrap_err();
    assert!(matches!(refused, Fault::BadFrame { frame: 1, .. }));
}

// FR1
#[test]
fn a_frame_is_bounded() {
    let big = bytes::Bytes::from(vec![0; FRAME_BYTES_MAX / 2]);
    let op = |n| Op::put(Table::Ledger, key(n), big.clone());
    let refused = Frame::follow(&Position::genesis(LEDGER), 0, vec![op(1), op(2)]).unwrap_err();
    assert!(refused.to_string().contains("frame_bytes_max"), "{refused}");
}

// FR2
#[test]
fn every_part_of_a_frame_changes_its_hash() {
    let base = seal(vec![put(1, "a"), put(2, "b")]);
    let others = [
        Frame::seal(FrameNumber(6), Hash([1; 32]), 2, base.ops().to_vec()).unwrap(),
        Frame::seal(FrameNumber(5), Hash([2; 32]), 2, base.ops().to_vec()).unwrap(),
        Frame::seal(FrameNumber(5), Hash([1; 32]), 3, base.ops().to_vec()).unwrap(),
        seal(vec![put(2, "b"), put(1, "a")]),
        seal(vec![put(1, "a")]),
        seal(vec![put(1, "a"), put(2, "c")]),
        seal(vec![put(1, "a"), put(3, "b")]),
        seal(vec![put(1, "a"), Op::put(Table::Rows, key(2), value("b"))]),
        seal(vec![put(1, "a"), Op::delete(Table::Ledger, key(2))]),
        seal(vec![put(1, "a"), Op::delete_range(Table::Ledger, KeyRange::new(key(2), key(3)))]),
    ];
    for (n, other) in others.iter().enumerate() {
        assert_ne!(other.hash(), base.hash(), "variant {n}");
    }
}

// FR2: the key of a chunk names the digest of its bytes, so they need no second hash.
#[test]
fn chunk_bytes_are_not_hashed_twice() {
    let chunk =
        LedgerKey::new(Segment(1), LineageId([1; 16]), Item::Chunk { digest: Digest([3; 32]), n: 0 }).bytes();
    let with = |text: &str| seal(vec![Op::put(Table::Ledger, chunk.clone(), value(text))]).hash();
    assert_eq!(with("abc"), with("xyz"));
    assert_ne!(with("abc"), with("abcd"));
}

// A stored chain must verify for ever: this hash may never change.
#[test]
fn the_hash_of_a_frame_is_pinned() {
    let frame = Frame::follow(
        &Position::genesis(LEDGER),
        1,
        vec![
            put(1, "one"),
            Op::delete(Table::Rows, key(2)),
            Op::delete_range(Table::Ledger, KeyRange::new(key(3), key(4))),
        ],
    )
    .unwrap();
    assert_eq!(
        Position::genesis(LEDGER).frame_hash.to_string(),
        "688e30c9182955882ca44957a793d4a28d35d36ce0aa36bfe128f88546888da9"
    );
    assert_eq!(frame.hash().to_string(), "2536d27134eb36be91fd88c7c73f82f41782012ae83d48ff026014032a90b5a0");
}
