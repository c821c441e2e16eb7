//! The stored form of heads and rows (`storage::heads`), and of random events.

use bytes::Bytes;
use cellaflow_proto::disk;
use proptest::prelude::*;
use prost::Message;

use super::samples;
use crate::graph::event::{Author, Event, Format, Role};
use crate::graph::ids::{Digest, Epoch, Incarnation, LineageId, Seq, SessionId, TimeMs, TokenId};
use crate::graph::session::{
    GuardOutcome, GuardRow, HEAD_BYTES_MAX, Head, KeyRow, SignalRow, Status, StepRow, StepState, TokenRow,
};
use crate::graph::version::WorkflowRow;
use crate::storage::events::{decode, encode};
use crate::storage::guards::{GuardOutcomeRow, GuardOwnedRow, KeptOutput};
use crate::storage::heads::{LedgerRow, LineageRow, NamespaceRow, Row, StoredHead};
use crate::storage::keys::Segment;

const GOLDEN_HEAD: &str = include_str!("golden_head.in");
const GOLDEN_WAITING_HEAD: &str = include_str!("golden_waiting_head.in");
const GOLDEN_HEAD_BUDGET: &str = include_str!("golden_head_budget.in");

fn stored(head: Head) -> StoredHead {
    StoredHead { head, segment: Segment(20_000) }
}

#[track_caller]
fn round_trip<R: Row + PartialEq + std::fmt::Debug>(row: R) -> String {
    let bytes = row.to_bytes();
    assert_eq!(R::from_bytes(&bytes).unwrap(), row); // H1
    hex::encode(bytes)
}

#[test]
fn the_bytes_of_a_full_head_are_pinned() {
    assert_eq!(round_trip(stored(samples::head())), GOLDEN_HEAD.trim()); // H1
}

#[test]
fn the_bytes_of_a_head_that_owns_idempotency_keys_are_pinned() {
    let head = Head { owns_keys: true, ..samples::head() };
    assert_eq!(round_trip(stored(head)), format!("{}a00301", GOLDEN_HEAD.trim())); // H1
}

#[test]
fn the_bytes_of_what_is_kept_of_guarded_steps_are_pinned() {
    let row = GuardOwnedRow { digest: Digest([1; 32]) };
    assert_eq!(round_trip(row), format!("0a20{}", "01".repeat(32)));
    let outcome = GuardOutcome { seq: Seq(9), state: StepState::Failed, not_applied: true };
    assert_eq!(round_trip(GuardOutcomeRow { outcome, output: None }), "080910041801");
    let outcome = GuardOutcome { seq: Seq(9), state: StepState::Completed, not_applied: false };
    let kept = KeptOutput {
        format: Format::Value,
        codec: "c".into(),
        size: 2,
        content: Bytes::from_static(b"ok"),
        pieces: 0,
    };
    let row = GuardOutcomeRow { outcome: outcome.clone(), output: Some(kept.clone()) };
    assert_eq!(round_trip(row), "08091003220b08011201631802220 26f6b".replace(' ', ""));
    let large = KeptOutput { size: 300_000, content: Bytes::new(), pieces: 2, ..kept };
    let row = GuardOutcomeRow { outcome: outcome.clone(), output: Some(large.clone()) };
    assert_eq!(round_trip(row), "0809100322 0b080112016318e0a7122802".replace(' ', ""));
    let torn = GuardOutcomeRow { outcome, output: Some(KeptOutput { pieces: 0, ..large }) };
    assert_eq!(GuardOutcomeRow::from_bytes(&torn.to_bytes()).unwrap_err().field, "kept_output.content");
}

const GOLDEN_TREE: &str = include_str!("golden_head_tree.in");

#[test]
fn the_bytes_of_a_head_in_a_tree_are_pinned() {
    assert_eq!(round_trip(stored(samples::tree_head())), GOLDEN_TREE.trim()); // H1
}

/// A head under budgets, beside the plain one: each stays readable.
#[test]
fn the_bytes_of_a_head_under_budgets_are_pinned() {
    let mut head = Head { budget: samples::session_budget(), ..samples::head() };
    head.counters.unpriced_calls = 10;
    assert_eq!(round_trip(stored(head)), GOLDEN_HEAD_BUDGET.trim()); // H1
}

#[test]
fn the_bytes_of_a_waiting_head_are_pinned() {
    assert_eq!(round_trip(stored(samples::waiting_head())), GOLDEN_WAITING_HEAD.trim()); // H1
}

#[test]
fn the_largest_head_fits_its_row() {
    for head in [samples::largest_head(), samples::largest_reserved_head()] {
        let largest = StoredHead { segment: Segment(u32::MAX), ..stored(head) };
        let bytes = largest.to_bytes();
        assert!(bytes.len() <= HEAD_BYTES_MAX, "{} bytes", bytes.len()); // H2
        round_trip(largest);
    }
}

#[test]
fn every_status_reads_back() {
    let plain = [
        Status::Pending,
        Status::Running,
        Status::Waiting,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];
    for status in plain {
        round_trip(stored(Head { status, holder: None, ..samples::head() }));
    }
}

#[test]
fn what_this_version_does_not_know_is_refused_by_name() {
    let refused = |change: fn(&mut disk::Head)| {
        let bytes = stored(samples::head()).to_bytes();
        let mut head = disk::Head::decode(bytes).unwrap();
        change(&mut head);
        StoredHead::from_bytes(&head.encode_to_vec().into()).unwrap_err().field
    };
    assert_eq!(refused(|head| head.status = 9), "head.status");
    assert_eq!(refused(|head| head.status = 2), "head.pause_reason");
    assert_eq!(refused(|head| head.counters = None), "head.counters");
    assert_eq!(refused(|head| head.hash = Bytes::new()), "head.hash");
    assert_eq!(refused(|head| head.intents[0].state = 0), "intent state");
    let later = [&stored(samples::head()).to_bytes()[..], &[0xfa, 0x06, 0x00]].concat();
    assert_eq!(StoredHead::from_bytes(&later.into()).unwrap_err().field, "head");
}

#[test]
fn the_bytes_of_rows_are_pinned() {
    let row = StepRow {
        seq: Seq(9),
        attempt: 2,
        epoch: Epoch(3),
        state: StepState::Completed,
        input_digest: None,
        outcome_digest: Some(Digest([1; 32])),
    };
    let ones = "01".repeat(32);
    assert_eq!(round_trip(row), format!("08091002180320033220{ones}"));
    let row = GuardRow { session: SessionId([2; 16]), step_key_hash: [1; 32], input_digest: Digest([1; 32]) };
    let twos = "02".repeat(16);
    assert_eq!(round_trip(row), format!("0a10{twos}1220{ones}1a20{ones}"));
    let row = SignalRow { seq: Seq(9), name: "answer".into(), value_digest: Digest([1; 32]) };
    assert_eq!(round_trip(row), format!("08091206616e737765721a20{ones}"));
    let row = KeyRow { session: SessionId([2; 16]), generation: 3, input_digest: Digest([1; 32]) };
    assert_eq!(round_trip(row), format!("0a10{twos}10031a20{ones}"));
    let row = LineageRow { salt: Some([1; 32]), root: SessionId([2; 16]), namespace: "d".into() };
    assert_eq!(round_trip(row), format!("0a20{ones}1210{twos}1a0164"));
    let row = WorkflowRow {
        namespace: "d".into(),
        workflow: "w".into(),
        version: "2".into(),
        compatible: vec!["1".into()],
        first_seen: Some(TimeMs(5)),
        last_seen: Some(TimeMs(7)),
        draining: Some((TimeMs(6), "ada".into())),
    };
    assert_eq!(round_trip(row), "0a01641201771a0132220131280530063a036164614007");
    let row = LineageRow { salt: None, root: SessionId([2; 16]), namespace: "d".into() };
    assert_eq!(round_trip(row), format!("1210{twos}1a0164"));
    let row =
        NamespaceRow { name: "d".into(), salt: [1; 32], system: SessionId([2; 16]), created: TimeMs(5) };
    assert_eq!(round_trip(row), format!("0a01641220{ones}1a10{twos}2005"));
    let row = LedgerRow { ledger_id: [2; 16], incarnation: Incarnation([2; 16]), created: TimeMs(5) };
    assert_eq!(round_trip(row), format!("0a10{twos}1210{twos}1805"));
    assert_eq!(
        round_trip(samples::budget_row()),
        "0a0b08f40310d804184620c03e1206080b100c18011a0608151016180220c0f683a1f73228e7bf83a1f732"
    );
    let row = TokenRow {
        token: TokenId([2; 16]),
        name: "ci".into(),
        role: Role::Worker,
        namespace: "d".into(),
        created: TimeMs(5),
        expires: Some(TimeMs(6)),
        revoked: None,
    };
    assert_eq!(round_trip(row), format!("0a10{twos}120263691801220164280530 06").replace(' ', ""));
}

#[test]
fn the_bytes_of_contexts_are_pinned() {
    use crate::graph::context::ContextRow;
    use crate::storage::contexts::{ContextText, ContextVersionRow, texts_from, texts_to};
    let row = ContextRow {
        version: 2,
        watermark: Seq(9),
        covers: Seq(8),
        passes: "p".into(),
        state_pieces: 3,
        refused: "no".into(),
    };
    assert_eq!(round_trip(row), "080210091808220170280332026e6f");
    let row = ContextVersionRow {
        covers: Seq(8),
        covers_messages: 4,
        tokens: 100,
        history_tokens: 300,
        hash: [1; 32],
        reason: 3,
        upto: 7,
        limit_tokens: 5,
        removed: vec![("mask".into(), 6)],
        passes: "p".into(),
        time: TimeMs(5),
        pieces: 1,
    };
    let wanted =
        format!("08081004186420ac022a20{}300338074005 4a080a046d61736b1006 52017058056001", "01".repeat(32));
    assert_eq!(round_trip(row), wanted.replace(' ', ""));
    let texts = [ContextText { kind: 3, text: "t".into(), tokens: 1, breakpoint: true }];
    assert_eq!(hex::encode(texts_to(&texts)), "0a0908031201741801 2001".replace(' ', ""));
    assert_eq!(texts_from(&texts_to(&texts)).unwrap(), texts);
}

/// A payload's size says how many inline bytes follow: the two change together.
fn resized(mut event: Event, size: u64) -> Event {
    event.state_delta = event.state_delta.map(|payload| crate::graph::event::PayloadRef { size, ..payload });
    event
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What was written reads back, with whatever its numbers and sizes are.
    #[test]
    fn events_round_trip(
        n in 0usize..samples::KINDS + 16,
        seq in 1u64..,
        time in any::<u64>(),
        epoch in 1u64..,
        size in 0u64..9000,
    ) {
        let mut samples = samples::events();
        samples.extend(samples::sparse_events());
        let mut event = resized(samples.swap_remove(n), size);
        (event.seq, event.time) = (Seq(seq), TimeMs(time));
        if let Author::Worker(_) = event.author {
            event.author = Author::Worker(Epoch(epoch));
        }
        let inline: Vec<Bytes> = event.payloads().iter().filter(|payload| payload.inline)
            .enumerate()
            .map(|(n, payload)| vec![u8::try_from(n).unwrap(); usize::try_from(payload.size).unwrap()].into())
            .collect();
        let encoded = encode(&event, &inline).unwrap();
        let decoded = decode(&encoded.bytes).unwrap();
        prop_assert_eq!(decoded.header, encoded.header_bytes());
        prop_assert_eq!(decoded.event, event);
        prop_assert_eq!(decoded.inline, inline);
    }

    /// Damage is an error or another event, never a panic.
    #[test]
    fn damaged_records_never_panic(at in 0usize..2000, bit in 0u8..8, n in 0usize..samples::KINDS) {
        let event = &samples::events()[n];
        let inline: Vec<Bytes> = event.payloads().iter().filter(|payload| payload.inline)
            .map(|payload| vec![0; usize::try_from(payload.size).unwrap()].into())
            .collect();
        let mut record = encode(event, &inline).unwrap().bytes.to_vec();
        let at = at % record.len();
        record[at] ^= 1 << bit;
        let _ = decode(&record.into());
    }

    #[test]
    fn lineages_and_heads_round_trip(salt in any::<[u8; 32]>(), generation in any::<u32>(), epoch in any::<u64>()) {
        round_trip(LineageRow { salt: Some(salt), root: SessionId([1; 16]), namespace: "n".into() });
        let head = Head { generation, epoch: Epoch(epoch), lineage: LineageId([7; 16]), ..samples::head() };
        round_trip(stored(head));
    }
}

/// Rows of the archive: these bytes are on people's disks.
#[test]
fn the_archives_rows_are_pinned() {
    use crate::graph::archive::{ArchiveRow, Away, Claim, CommitRow, Part, Purpose, StubRow};
    use crate::graph::ids::ClaimId;
    use crate::storage::archives::SegmentRow;
    let claim = ClaimId([0xc1; 16]);
    let row = ArchiveRow {
        claim: Some(Claim { id: claim, epoch: Seq(9), expires: TimeMs(5), purpose: Purpose::Restore(7) }),
        parts: vec![Part { claim, epoch: Seq(9), bare: true }],
        away: Some(Away {
            salt: Some([0x5a; 32]),
            root: SessionId([0x51; 16]),
            namespace: "default".into(),
            at: TimeMs(4),
            segment: 6,
            sessions: 2,
            ended: TimeMs(3),
        }),
        held: true,
        erasing: true,
        manifest: "m".into(),
        restored: Some(TimeMs(8)),
    };
    let (c, s) = ("c1".repeat(16), "51".repeat(16));
    let away = format!("0a20{}1210{s}1a0764656661756c742004280630023803", "5a".repeat(32));
    let pinned = format!("0a10{c}100918052002280732160a10{c}10091801");
    let bytes = hex::encode(row.to_bytes());
    assert!(
        bytes.starts_with(&pinned) && bytes.contains(&away) && bytes.ends_with("40014a016d50015808"),
        "{bytes}"
    );
    assert_eq!(ArchiveRow::from_bytes(&row.to_bytes()).unwrap(), row);
    assert_eq!(ArchiveRow::from_bytes(&ArchiveRow::default().to_bytes()).unwrap(), ArchiveRow::default());
    let stub = StubRow {
        key: "k".into(),
        result: Some(Digest([1; 32])),
        seq: Seq(3),
        hash: crate::graph::ids::Hash([2; 32]),
    };
    assert_eq!(
        hex::encode(stub.to_bytes()),
        format!("0a016b1220{}18032220{}", "01".repeat(32), "02".repeat(32))
    );
    assert_eq!(StubRow::from_bytes(&stub.to_bytes()).unwrap(), stub);
    let commit = CommitRow {
        system: SessionId([0x51; 16]),
        epoch: Seq(9),
        manifest: "m".into(),
        manifest_digest: [3; 32],
    };
    assert_eq!(hex::encode(commit.to_bytes()), format!("0a10{s}12016d1a20{}2009", "03".repeat(32)));
    assert_eq!(CommitRow::from_bytes(&commit.to_bytes()).unwrap(), commit);
    let segment = SegmentRow { dead_bytes: 300 };
    assert_eq!(hex::encode(segment.to_bytes()), "08ac02");
    assert_eq!(SegmentRow::from_bytes(&segment.to_bytes()).unwrap(), segment);
}
