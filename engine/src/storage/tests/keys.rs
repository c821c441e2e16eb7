//! The key space (K1 to K4): golden bytes, order, and back again.

use proptest::prelude::*;

use crate::graph::ids::{ClaimId, Digest, LineageId, Seq, SessionId, TimeMs};
use crate::storage::KeyRange;
use crate::storage::keys::{Due, Item, LedgerKey, NAMESPACE_BYTES_MAX, RowKey, Segment, guarded};

const SESSION: SessionId = SessionId([0x51; 16]);
const LINEAGE: LineageId = LineageId([0x1a; 16]);
const DIGEST: Digest = Digest([0xd1; 32]);

fn item(item: Item) -> LedgerKey {
    LedgerKey::new(Segment(0x0102_0304), LINEAGE, item)
}

// K1: these bytes are on people's disks.
#[test]
fn row_keys_are_pinned() {
    let (s, d) = ("51".repeat(16), "d1".repeat(32));
    let due = RowKey::Due { at: TimeMs(0x0102), session: SESSION, what: Due::Intent, seq: Seq(9) };
    let golden = [
        (RowKey::Position, "01".to_owned()),
        (RowKey::Incarnation, "02".to_owned()),
        (RowKey::Head(SESSION), format!("10{s}")),
        (RowKey::SessionKey(DIGEST), format!("11{d}")),
        (RowKey::Guard(DIGEST), format!("12{d}")),
        (RowKey::Locator(LINEAGE), format!("13{}", "1a".repeat(16))),
        (RowKey::Namespace("acme"), "2061636d65".to_owned()),
        (RowKey::Token(DIGEST), format!("21{d}")),
        (
            RowKey::List { system: SessionId([0x55; 16]), session: SESSION },
            format!("30{}{s}", "55".repeat(16)),
        ),
        (RowKey::Live(SESSION), format!("31{s}")),
        (RowKey::Ended { system: SESSION, session: SESSION }, format!("39{s}{s}")),
        (
            RowKey::ToStart { by: SessionId([0x55; 16]), session: SESSION },
            format!("34{}{s}", "55".repeat(16)),
        ),
        (
            RowKey::Label { system: SessionId([0x55; 16]), label: [0x1b; 16], session: SESSION },
            format!("33{}{}{s}", "55".repeat(16), "1b".repeat(16)),
        ),
        (due, format!("320000000000000102{s}020000000000000009")),
    ];
    for (key, hex) in golden {
        assert_eq!(hex::encode(key.bytes()), hex);
        assert_eq!(RowKey::parse(&key.bytes()).unwrap(), key);
    }
    let guarded = RowKey::Guarded { session: SESSION, step: DIGEST, part: guarded::OUTPUT };
    assert_eq!(hex::encode(guarded.bytes()), format!("36{s}{d}00000002"));
    assert_eq!(RowKey::parse(&guarded.bytes()).unwrap(), guarded);
    let archive = [
        (RowKey::Archive(LINEAGE), format!("14{}", "1a".repeat(16))),
        (RowKey::Commit(ClaimId([0xc1; 16])), format!("15{}", "c1".repeat(16))),
        (RowKey::Stub(SESSION), format!("16{}", "51".repeat(16))),
        (RowKey::Segment(Segment(0x0102)), "3800000102".to_owned()),
    ];
    for (key, hex) in archive {
        assert_eq!(hex::encode(key.bytes()), hex);
        assert_eq!(RowKey::parse(&key.bytes()).unwrap(), key);
    }
    let budget = RowKey::Budget(SESSION);
    assert_eq!(hex::encode(budget.bytes()), format!("35{}", "51".repeat(16)));
    assert_eq!(RowKey::parse(&budget.bytes()).unwrap(), budget);
    let workflow = RowKey::Workflow(DIGEST);
    assert_eq!(hex::encode(workflow.bytes()), format!("37{}", "d1".repeat(32)));
    assert_eq!(RowKey::parse(&workflow.bytes()).unwrap(), workflow);
    let whats = [Due::Timer, Due::Intent, Due::Retry, Due::Wait, Due::Retention, Due::Archive, Due::Budget];
    assert_eq!(whats.map(|what| what as u8), [1, 2, 3, 4, 5, 6, 7]);
    let whats = [
        Due::Timer,
        Due::Intent,
        Due::Retry,
        Due::Wait,
        Due::Retention,
        Due::Archive,
        Due::Budget,
        Due::Deadline,
    ];
    assert_eq!(whats.map(|what| what as u8), [1, 2, 3, 4, 5, 6, 7, 9]);
}

// K1, K3
#[test]
fn ledger_keys_are_pinned() {
    let prefix = format!("01020304{}", "1a".repeat(16));
    let (s, d) = ("51".repeat(16), "d1".repeat(32));
    let evidence = Item::Evidence { session: SESSION, entry: Seq(7), attempt: 2, n: 3 };
    let golden = [
        (Item::Lineage, "01".to_owned()),
        (Item::Event { session: SESSION, seq: Seq(0x0a0b) }, format!("02{s}0000000000000a0b")),
        (Item::Step { session: SESSION, step: DIGEST }, format!("03{s}{d}")),
        (Item::Chunk { digest: DIGEST, n: 5 }, format!("04{d}00000005")),
        (Item::SignalId { session: SESSION, id: [0x1d; 16] }, format!("06{s}{}", "1d".repeat(16))),
        (evidence, format!("05{s}00000000000000070000000200000003")),
        (Item::Context { session: SESSION, version: 2, n: 3 }, format!("08{s}0000000200000003")),
    ];
    for (what, hex) in golden {
        assert_eq!(hex::encode(item(what).bytes()), format!("{prefix}{hex}"));
        assert_eq!(LedgerKey::parse(&item(what).bytes()).unwrap(), item(what));
    }
}

// K4
#[test]
fn what_is_no_key_is_refused() {
    let head = RowKey::Head(SESSION).bytes();
    let long = [head.as_ref(), &[0]].concat();
    let name = [&[0x20_u8][..], &[b'n'; NAMESPACE_BYTES_MAX + 1]].concat();
    let due = RowKey::Due { at: TimeMs(1), session: SESSION, what: Due::Timer, seq: Seq(1) }.bytes();
    let unknown_due = [&due[..25], &[99], &due[26..]].concat();
    for bytes in [&[][..], &head[..16], &long, &name, &[0x20], &[0x20, 0xff], &[0x99], &unknown_due] {
        assert!(!RowKey::parse(bytes).unwrap_err().reserved, "{}", hex::encode(bytes));
    }
    assert!(RowKey::parse(&[0x40]).unwrap_err().to_string().contains("reserved"));
    let event = item(Item::Event { session: SESSION, seq: Seq(1) }).bytes();
    for length in 0..event.len() {
        assert!(LedgerKey::parse(&event[..length]).is_err(), "{length} bytes of an event's key");
    }
    let bytes = [&event[..20], &[0x07]].concat();
    assert!(LedgerKey::parse(&bytes).unwrap_err().reserved);
}

#[test]
fn a_segment_is_a_day_of_lineage_starts() {
    let day = 24 * 60 * 60 * 1000;
    assert_eq!(Segment::at(TimeMs(0), day), Segment(0));
    assert_eq!(Segment::at(TimeMs(day - 1), day), Segment(0));
    assert_eq!(Segment::at(TimeMs(day * 20_000), day), Segment(20_000));
    assert_eq!(Segment::at(TimeMs(u64::MAX), 1), Segment(u32::MAX));
}

// K3: a lineage is one range, and its neighbours are not in it.
#[test]
fn a_lineage_is_one_range() {
    let all = [
        Item::Lineage,
        Item::Event { session: SessionId([0xff; 16]), seq: Seq(u64::MAX) },
        Item::Step { session: SESSION, step: DIGEST },
        Item::Chunk { digest: Digest([0xff; 32]), n: u32::MAX },
        Item::Evidence { session: SESSION, entry: Seq(0), attempt: 0, n: 0 },
        Item::Context { session: SESSION, version: u32::MAX, n: u32::MAX },
    ];
    for lineage in [LineageId([0; 16]), LINEAGE, LineageId([0xff; 16])] {
        for segment in [Segment(0), Segment(7), Segment(u32::MAX)] {
            let range = KeyRange::lineage(segment, lineage);
            for what in all {
                let key = LedgerKey::new(segment, lineage, what).bytes();
                assert!(range.contains(&key) && KeyRange::segment(segment).contains(&key));
                let other = LedgerKey::new(segment, LineageId([0x1b; 16]), what).bytes();
                assert!(!range.contains(&other));
                let other = LedgerKey::new(Segment(segment.0 ^ 1), lineage, what).bytes();
                assert!(!range.contains(&other) && !KeyRange::segment(segment).contains(&other));
            }
        }
    }
}

#[test]
fn ranges_start_and_end_where_they_say() {
    let event = |seq| item(Item::Event { session: SESSION, seq: Seq(seq) }).bytes();
    let events = KeyRange::events(Segment(0x0102_0304), LINEAGE, SESSION, Seq(5));
    assert!(!events.contains(&event(4)) && events.contains(&event(5)) && events.contains(&event(u64::MAX)));
    let of = |attempt, n| item(Item::Evidence { session: SESSION, entry: Seq(7), attempt, n }).bytes();
    let second = KeyRange::evidence(Segment(0x0102_0304), LINEAGE, SESSION, Seq(7), 2);
    assert!(!second.contains(&of(1, u32::MAX)) && second.contains(&of(2, 0)) && !second.contains(&of(3, 0)));
    let zone = KeyRange::zone_evidence(Segment(0x0102_0304), LINEAGE, SESSION, Seq(7));
    assert!(zone.contains(&of(0, 0)) && zone.contains(&of(u32::MAX, u32::MAX)));
    let chunk = |n| item(Item::Chunk { digest: DIGEST, n }).bytes();
    let chunks = KeyRange::chunks(Segment(0x0102_0304), LINEAGE, DIGEST, 1);
    assert!(!chunks.contains(&chunk(0)) && chunks.contains(&chunk(1)));
    let due = |at| RowKey::Due {
        at: TimeMs(at),
        session: SessionId([0xff; 16]),
        what: Due::Timer,
        seq: Seq(u64::MAX),
    };
    let now = KeyRange::due(TimeMs(5), TimeMs(100));
    assert!(
        now.contains(&due(5).bytes())
            && !now.contains(&due(4).bytes())
            && now.contains(&due(100).bytes())
            && !now.contains(&due(101).bytes())
    );
    assert!(KeyRange::due(TimeMs(0), TimeMs(u64::MAX)).contains(&due(u64::MAX).bytes()));
    let list = KeyRange::list(SESSION);
    assert!(list.contains(&RowKey::List { system: SESSION, session: SessionId([0xff; 16]) }.bytes()));
    assert!(!list.contains(&RowKey::List { system: SessionId([0x52; 16]), session: SESSION }.bytes()));
    assert!(KeyRange::namespaces().contains(&RowKey::Namespace("z").bytes()));
    assert!(!KeyRange::namespaces().contains(&RowKey::Token(DIGEST).bytes()));
}

fn any_item() -> impl Strategy<Value = Item> {
    let session = || any::<[u8; 16]>().prop_map(SessionId);
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    let seq = || any::<u64>().prop_map(Seq);
    prop_oneof![
        Just(Item::Lineage),
        (session(), seq()).prop_map(|(session, seq)| Item::Event { session, seq }),
        (session(), digest()).prop_map(|(session, step)| Item::Step { session, step }),
        (digest(), any::<u32>()).prop_map(|(digest, n)| Item::Chunk { digest, n }),
        (session(), seq(), any::<u32>(), any::<u32>())
            .prop_map(|(session, entry, attempt, n)| { Item::Evidence { session, entry, attempt, n } }),
        (session(), any::<u32>(), any::<u32>())
            .prop_map(|(session, version, n)| { Item::Context { session, version, n } }),
    ]
}

fn any_ledger_key() -> impl Strategy<Value = LedgerKey> {
    (any::<u32>(), any::<[u8; 16]>(), any_item())
        .prop_map(|(segment, lineage, item)| LedgerKey::new(Segment(segment), LineageId(lineage), item))
}

fn any_due() -> impl Strategy<Value = RowKey<'static>> {
    (any::<u64>(), any::<[u8; 16]>(), any::<u64>()).prop_map(|(at, session, seq)| RowKey::Due {
        at: TimeMs(at),
        session: SessionId(session),
        what: Due::Retry,
        seq: Seq(seq),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // K2: the derived order compares the fields as numbers, in the order in which the key has them.
    #[test]
    fn bytes_sort_as_the_fields_do(a in any_ledger_key(), b in any_ledger_key(), segment in 0..2_u32) {
        let same = LedgerKey { segment: a.segment, lineage: a.lineage, item: b.item };
        let near = LedgerKey { segment: Segment(segment), ..b };
        for b in [b, same, near] {
            prop_assert_eq!(a.bytes().cmp(&b.bytes()), a.cmp(&b));
        }
    }

    // K2
    #[test]
    fn what_is_due_sorts_by_time(a in any_due(), b in any_due()) {
        prop_assert_eq!(a.bytes().cmp(&b.bytes()), a.cmp(&b));
    }

    // K4
    #[test]
    fn a_key_reads_back(key in any_ledger_key()) {
        prop_assert_eq!(LedgerKey::parse(&key.bytes()).unwrap(), key);
    }

    // K4: what parses is what it came from.
    #[test]
    fn no_other_bytes_are_a_key(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(key) = LedgerKey::parse(&bytes) {
            prop_assert_eq!(key.bytes(), bytes.clone());
        }
        if let Ok(key) = RowKey::parse(&bytes) {
            prop_assert_eq!(key.bytes(), bytes);
        }
    }
}
