//! Promise: restorable. What the archive may do to a lineage, and when (`graph::archive`).

use std::sync::Arc;

use super::story::{Story, payload, session, system};
use crate::graph::archive::{ArchiveCommand, ArchiveEvent, Ask, Commit, Leaving, Purpose, Restore, StubRow};
use crate::graph::command::{Code, Command, Op};
use crate::graph::decide::Decision;
use crate::graph::event::Body;
use crate::graph::ids::{ClaimId, LineageId, Seq, TimeMs};

const SYSTEM: u8 = 200;
const CLAIM_MS: u64 = 1_000;

fn claim(n: u8) -> ClaimId {
    ClaimId([n; 16])
}

/// A session that has ended, and the system session of its namespace.
struct World {
    story: Story,
    lineage: LineageId,
}

impl World {
    fn new() -> Self {
        let mut story = Story::running();
        let lineage = story.head().lineage;
        story.ok(system(SYSTEM));
        story.run(Op::Complete { output: payload(3) });
        Self { story, lineage }
    }

    fn ask(&mut self, ask: Ask) -> Result<Decision, Code> {
        let command = Command::Archive(ArchiveCommand { system: session(SYSTEM), ask });
        self.story.submit(command).map_err(|no| no.code)
    }

    fn claimed(&mut self, n: u8, purpose: Purpose) -> Option<Seq> {
        let ask = Ask::Claim {
            claim: claim(n),
            lineages: vec![self.lineage],
            claim_ms: CLAIM_MS,
            purpose,
            by: "compactor".into(),
        };
        let decision = self.ask(ask).unwrap();
        decision.events.first().map(|event| match &event.body {
            Body::Archive(ArchiveEvent::Claimed(claimed)) => claimed.epoch,
            other => panic!("{other:?}"),
        })
    }

    fn commit(&mut self, n: u8, epoch: Seq) -> Result<Decision, Code> {
        let head = self.story.head();
        let stub = StubRow { key: "".into(), result: None, seq: head.seq, hash: head.hash };
        self.commit_as(n, epoch, stub)
    }

    fn commit_as(&mut self, n: u8, epoch: Seq, stub: StubRow) -> Result<Decision, Code> {
        let leaving = Leaving {
            lineage: self.lineage,
            segment: 1,
            salt: Some([7; 32]),
            root: session(1),
            namespace: "default".into(),
            sessions: vec![(session(1), stub)],
            events: 3,
            dead_bytes: 100,
        };
        self.ask(Ask::Commit(Arc::new(Commit {
            claim: claim(n),
            epoch,
            manifest: "m".into(),
            manifest_digest: [1; 32],
            lineages: vec![leaving],
        })))
    }

    fn restored(&mut self, n: u8, segment: u32) -> Result<Decision, Code> {
        self.ask(Ask::Restored(Arc::new(Restore {
            claim: claim(n),
            lineage: self.lineage,
            segment,
            sessions: vec![session(1)],
            salt: [7; 32],
            root: session(1),
            namespace: "default".into(),
        })))
    }
}

#[test]
fn a_lineage_has_one_claim_until_that_runs_out() {
    let mut world = World::new();
    let first = world.claimed(1, Purpose::Archive).unwrap();
    assert_eq!(world.claimed(2, Purpose::Archive), None, "another one holds it"); // AR1
    assert_eq!(world.claimed(1, Purpose::Archive), Some(first), "renewing keeps the epoch");
    world.story.now = TimeMs(world.story.now.0 + CLAIM_MS);
    let second = world.claimed(2, Purpose::Archive).unwrap();
    assert!(second > first);
    assert_eq!(world.commit(1, first), Err(Code::ClaimLost)); // AR2
    assert!(world.commit(2, second).is_ok());
}

#[test]
fn a_claim_that_is_over_commits_nothing_even_if_nobody_took_the_lineage() {
    let mut world = World::new();
    let epoch = world.claimed(1, Purpose::Archive).unwrap();
    world.story.now = TimeMs(world.story.now.0 + CLAIM_MS);
    assert_eq!(world.commit(1, epoch), Err(Code::ClaimLost)); // AR2
}

#[test]
fn a_commit_names_the_sessions_as_they_ended() {
    let mut world = World::new();
    let epoch = world.claimed(1, Purpose::Archive).unwrap();
    let head = world.story.head();
    let early = StubRow { key: "".into(), result: None, seq: Seq(head.seq.0 - 1), hash: head.hash };
    assert_eq!(world.commit_as(1, epoch, early), Err(Code::InvalidArgument)); // AR3
    world.commit(1, epoch).unwrap();
    let rows = &world.story.model.rows;
    assert!(rows.left.contains(&(1, world.lineage)) && rows.stubs.contains_key(&session(1))); // AR5
    assert_eq!((rows.dead.get(&1), rows.commits.len()), (Some(&100), 1));
    assert_eq!(world.claimed(2, Purpose::Archive), None, "it is archived already");
    world.ask(Ask::Published { claim: claim(1) }).unwrap();
    assert!(world.story.model.rows.commits.is_empty());
}

#[test]
fn a_restored_lineage_lies_where_it_never_was() {
    let mut world = World::new();
    let epoch = world.claimed(1, Purpose::Archive).unwrap();
    world.commit(1, epoch).unwrap();
    assert_eq!(world.claimed(2, Purpose::Restore(1)), None, "it was there before"); // AR6
    world.claimed(2, Purpose::Restore(2)).unwrap();
    assert_eq!(world.restored(2, 3), Err(Code::ClaimLost), "the claim names the segment");
    world.restored(2, 2).unwrap();
    let row = &world.story.model.rows.archive[&world.lineage];
    assert!(row.away.is_none() && row.claim.is_none());
    assert_eq!(row.parts.len(), 1, "its commit stays known");
}

#[test]
fn what_is_held_is_not_archived() {
    let mut world = World::new();
    let lineage = world.lineage;
    let hold = |held| Ask::Hold { lineage, held, by: "ada".into(), reason: "court".into() };
    world.ask(hold(true)).unwrap();
    assert_eq!(world.claimed(1, Purpose::Archive), None); // AR7
    world.ask(hold(false)).unwrap();
    assert!(world.claimed(1, Purpose::Archive).is_some());
}

#[test]
fn only_a_system_session_takes_what_the_archive_does() {
    let mut world = World::new();
    let command = ArchiveCommand { system: session(1), ask: Ask::Published { claim: claim(1) } };
    assert_eq!(world.story.code(Command::Archive(command)), Code::InvalidArgument);
}
