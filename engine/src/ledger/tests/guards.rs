//! Idempotency keys in the store: what is kept beside a lineage, for how long, and what archiving leaves of it.

use super::*;
use crate::clock::Clock as _;
use crate::graph::command::{GuardKey, Taken};
use crate::graph::event::{GuardIntent, GuardPolicy};
use crate::graph::guard_key::KEPT_BYTES_MAX;
use crate::graph::ids::{Digest, TimeMs};
use crate::graph::index::DueKind;
use crate::storage::keys::RowKey;
use crate::storage::{Frame, KeyRange, Op as StoreOp, Table};

const KEY: Digest = Digest([4; 32]);
const STEP: &str = "charge#1";
const RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

impl World {
    /// A submission of the run of `session`.
    fn append(&self, session: SessionId, blobs: Blobs, op: Op) -> Submission {
        let append =
            Append { session, epoch: Epoch(1), after: None, state_delta: None, conversation_delta: None, op };
        Submission { command: Command::Append(append), blobs, ..self.step(session, 1, "unused", b"") }
    }

    fn blobs(&self, session: SessionId) -> Blobs {
        self.ledger.blobs(&self.ledger.lineage(session).unwrap().unwrap().salt)
    }

    /// Asks with the key, with what the reader finds under it, as the edge does.
    async fn ask(&self, session: SessionId) -> Result<Committed, Refused> {
        let mut blobs = self.blobs(session);
        let idempotency_key = blobs.add(bytes(b"invoice-7")).unwrap();
        let reader = self.ledger.reader();
        let taken = reader.guard(&KEY).unwrap().and_then(|row| {
            let outcome = reader.guard_outcome(&row).unwrap()?;
            let output = reader.guard_output(&row, &outcome).unwrap()?;
            Some(Taken { from: (row.session, outcome.outcome.seq), output: blobs.add(output).unwrap() })
        });
        let guard = GuardKey {
            digest: KEY,
            input_digest: Digest([5; 32]),
            step_key_hash: digest::step_key_hash(STEP),
            refuse_in_flight: false,
            output_gone: false,
            former: None,
        };
        let intent = GuardIntent {
            step_key: STEP.into(),
            name: "charge".into(),
            attempt: 1,
            input_digest: Digest([6; 32]),
            attempt_ms: 1_000,
            grace_ms: 0,
            policy: GuardPolicy::Pause,
            idempotency_key,
        };
        self.ledger.submit(self.append(session, blobs, Op::GuardIntent { intent, guard, taken })).await
    }

    async fn charge(&self, session: SessionId, output: &[u8]) {
        self.ask(session).await.unwrap();
        let mut blobs = self.blobs(session);
        let output = blobs.add(bytes(output)).unwrap();
        let step = StepCompleted { guarded: true, ..step_completed(STEP, output) };
        self.ledger.submit(self.append(session, blobs, Op::StepCompleted(step))).await.unwrap();
    }

    async fn end(&self, session: SessionId) {
        let mut blobs = self.blobs(session);
        let output = blobs.add(bytes(b"null")).unwrap();
        self.ledger.submit(self.append(session, blobs, Op::Complete { output })).await.unwrap();
    }

    /// The output that asking with the key gave `session`.
    async fn taken(&self, session: SessionId) -> Vec<u8> {
        let committed = self.ask(session).await.unwrap();
        let [stored] = &committed.events[..] else { panic!("{committed:?}") };
        let Body::StepCompleted(step) = &stored.event.body else { panic!("it was to call: {stored:?}") };
        assert!(step.deduplicated_from.is_some());
        self.ledger.reader().bytes_of(stored, &step.output).unwrap().to_vec()
    }

    /// The same ledger after the lineage of `session` was archived: its range and its head are deleted.
    fn archived(&self, session: SessionId) -> World {
        let place = self.ledger.lineage(session).unwrap().unwrap();
        let store = self.store.crash().unwrap();
        let position = store.position();
        let ops = vec![
            StoreOp::delete_range(Table::Ledger, KeyRange::lineage(place.segment, place.lineage)),
            StoreOp::delete(Table::Rows, RowKey::Head(session).bytes()),
        ];
        store.commit(&Frame::follow(&position, position.shard_epoch, ops).unwrap()).unwrap();
        open_world(store, Gate::new())
    }
}

#[tokio::test]
async fn k7_outputs_outlive_the_lineage_of_their_session() {
    // Inline, and as chunks.
    for output in [b"\"charged\"".to_vec(), incompressible(100_000)] {
        let world = world();
        let owner = world.session().await;
        world.charge(owner, &output).await;
        world.end(owner).await;
        let other = world.session().await;
        assert_eq!(world.taken(other).await, output);
        let third = world.session().await;
        let archived = world.archived(owner);
        assert_eq!(archived.taken(third).await, output);
    }
}

#[tokio::test]
async fn k7_a_large_output_is_copied_from_the_lineage_while_that_is_there() {
    let world = world();
    let owner = world.session().await;
    let large = incompressible(usize::try_from(KEPT_BYTES_MAX).unwrap() + 1);
    world.charge(owner, &large).await;
    let other = world.session().await;
    assert_eq!(world.taken(other).await, large);
    world.end(owner).await;
    let archived = world.archived(owner);
    let row = archived.ledger.reader().guard(&KEY).unwrap().unwrap();
    let outcome = archived.ledger.reader().guard_outcome(&row).unwrap().unwrap();
    assert!(outcome.output.is_none());
    assert!(archived.ledger.reader().guard_output(&row, &outcome).unwrap().is_none());
}

#[tokio::test]
async fn k6_keys_are_dropped_when_their_retention_is_over_and_not_before() {
    let world = world();
    let owner = world.session().await;
    world.charge(owner, &incompressible(100_000)).await;
    let end_ms = world.clock.wall_ms();
    world.end(owner).await;
    let reader = world.ledger.reader();
    let page = reader.due(TimeMs(0), TimeMs(u64::MAX), 10).unwrap();
    let [due] = &page.rows[..] else { panic!("{page:?}") };
    assert_eq!((due.kind, due.due, due.session), (DueKind::Retention, TimeMs(end_ms + RETENTION_MS), owner));
    world.clock.advance(RETENTION_MS);
    // In pages, as the keys of a session that has many.
    let mut pages = 0;
    loop {
        let kept = reader.kept_keys(owner, due.due, due.seq, 2).unwrap();
        let last = kept.last;
        let command = Command::ForgetKeys(kept);
        let submission = Submission { command, ..world.step(owner, 1, "unused", b"") };
        assert_eq!(world.ledger.submit(submission).await.unwrap().events.len(), 0);
        pages += 1;
        if last {
            break;
        }
    }
    assert_eq!(pages, 2, "its key, its outcome and a piece of its output");
    assert!(reader.guard(&KEY).unwrap().is_none());
    assert!(reader.kept_keys(owner, due.due, due.seq, 9).unwrap().rows.is_empty());
    assert!(reader.due(TimeMs(0), TimeMs(u64::MAX), 10).unwrap().rows.is_empty());
    let other = world.session().await;
    let called = world.ask(other).await.unwrap();
    assert!(matches!(&called.events[0].event.body, Body::GuardIntent(_)));
}
