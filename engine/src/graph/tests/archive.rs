//! Promise: restorable. What the archive may do to a lineage, and when (`graph::archive`).

use std::sync::Arc;

use super::story::{Story, payload, session, system};
use crate::graph::archive::{
    ArchiveCommand, ArchiveEvent, ArchiveRow, Ask, Commit, Erase, Fate, Gone, Leaving, Purpose, Restore,
    Rewrite, RewrittenLineage, StubRow,
};
use crate::graph::command::{Code, Command, ForgetKeys, Op};
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
    /// Where it lies.
    segment: u32,
}

impl World {
    fn new() -> Self {
        let mut story = Story::running();
        let lineage = story.head().lineage;
        story.ok(system(SYSTEM));
        story.run(Op::Complete { output: payload(3) });
        Self { story, lineage, segment: 1 }
    }

    fn ask(&mut self, ask: Ask) -> Result<Decision, Code> {
        let command = Command::Archive(ArchiveCommand { system: session(SYSTEM), ask });
        self.story.submit(command).map_err(|no| no.code)
    }

    fn claimed(&mut self, n: u8, purpose: Purpose) -> Option<Seq> {
        self.claimed_or_renewed(n, purpose, false)
    }

    fn renewed(&mut self, n: u8) -> Option<Seq> {
        self.claimed_or_renewed(n, Purpose::Archive, true)
    }

    fn claimed_or_renewed(&mut self, n: u8, purpose: Purpose, renews: bool) -> Option<Seq> {
        let ask = Ask::Claim {
            claim: claim(n),
            lineages: vec![self.lineage],
            claim_ms: CLAIM_MS,
            purpose,
            by: "compactor".into(),
            renews,
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
            segment: self.segment,
            salt: Some([7; 32]),
            root: session(1),
            namespace: "default".into(),
            sessions: vec![(session(1), stub)],
            ended: TimeMs(7),
            bare: false,
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
    assert_eq!(world.renewed(1), Some(first), "renewing keeps the epoch");
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
fn a_renewal_takes_nothing_that_the_claim_has_lost() {
    // It was granted again in a new epoch, for a worker that could only be refused.
    let mut world = World::new();
    world.claimed(1, Purpose::Archive).unwrap();
    world.story.now = TimeMs(world.story.now.0 + CLAIM_MS);
    assert_eq!(world.renewed(1), None, "it is over"); // AR2
    assert!(world.claimed(2, Purpose::Archive).is_some(), "and keeps nobody away");
    assert_eq!(world.renewed(1), None);
}

#[test]
fn a_row_says_when_its_lineage_came_back() {
    let mut world = World::new();
    world.archived(1);
    assert_eq!(world.row().restored, None);
    world.claimed(2, Purpose::Restore(2)).unwrap();
    world.story.now = TimeMs(world.story.now.0 + 5);
    let now = world.story.now;
    world.restored(2, 2).unwrap();
    assert_eq!(world.row().restored, Some(now));
    world.segment = 2;
    world.archived(3);
    assert_eq!(world.row().restored, None, "it has left again");
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

impl World {
    fn archived(&mut self, n: u8) -> Seq {
        let epoch = self.claimed(n, Purpose::Archive).unwrap();
        self.commit(n, epoch).unwrap();
        epoch
    }

    fn gone(whole: bool) -> Arc<Gone> {
        let rows = Vec::new();
        let guards = ForgetKeys { session: session(1), due: TimeMs(0), seq: Seq(0), rows, last: false };
        Arc::new(Gone { key: None, guards, whole })
    }

    fn erase(&mut self) -> Result<Decision, Code> {
        let (lineage, sessions) = (self.lineage, vec![Self::gone(false)]);
        let erase = Erase { lineage, by: "ada".into(), reason: "asked".into(), sessions };
        self.ask(Ask::Erase(Arc::new(erase)))
    }

    fn hold(&mut self, held: bool) -> Result<Decision, Code> {
        self.ask(Ask::Hold { lineage: self.lineage, held, by: "ada".into(), reason: "court".into() })
    }

    fn rewrite(&mut self, n: u8, epoch: Seq, replaces: (u8, Seq), fate: Fate) -> Result<Decision, Code> {
        let gone = if fate == Fate::Dropped { vec![Self::gone(true)] } else { Vec::new() };
        self.ask(Ask::Rewrite(Arc::new(Rewrite {
            claim: claim(n),
            epoch,
            replaces: (claim(replaces.0), replaces.1),
            manifest: "n".into(),
            manifest_digest: [2; 32],
            lineages: vec![RewrittenLineage { lineage: self.lineage, fate, gone }],
        })))
    }

    fn row(&self) -> &ArchiveRow {
        &self.story.model.rows.archive[&self.lineage]
    }
}

#[test]
fn what_is_erased_is_given_to_nobody_and_is_over_when_every_part_is_bare() {
    let mut world = World::new();
    let epoch = world.archived(1);
    world.erase().unwrap();
    assert!(world.row().is_erased() && world.row().erasing, "AR8: payloads are left in the files");
    assert_eq!(world.row().away.as_ref().unwrap().salt, None);
    assert_eq!(world.claimed(2, Purpose::Restore(9)), None, "AR8");
    assert_eq!(world.erase(), Err(Code::Erased));
    assert_eq!(world.hold(true), Err(Code::InvalidArgument), "there is nothing to hold");
    let second = world.claimed(3, Purpose::Rewrite).unwrap();
    world.rewrite(3, second, (1, epoch), Fate::Bare).unwrap();
    assert!(world.row().is_erased() && !world.row().erasing, "no part has payloads");
    assert_eq!((world.row().parts[0].claim, world.row().parts[0].bare), (claim(3), true));
    assert_eq!(&*world.row().manifest, "n");
    let third = world.claimed(4, Purpose::Rewrite).unwrap();
    world.rewrite(4, third, (3, second), Fate::Kept).unwrap();
    assert!(world.row().parts[0].bare, "what is bare stays bare in whatever files");
}

#[test]
fn an_erasure_voids_the_claim_of_whoever_reads_payloads_now() {
    let mut world = World::new();
    let before = world.claimed(1, Purpose::Archive).unwrap();
    world.erase().unwrap();
    assert_eq!(world.commit(1, before), Err(Code::ClaimLost), "AR8");
    let after = world.claimed(2, Purpose::Archive).unwrap();
    world.commit(2, after).unwrap();
    assert!(world.row().parts[0].bare && !world.row().erasing && world.row().is_erased());
}

#[test]
fn files_are_written_again_only_in_the_place_of_those_that_count() {
    let mut world = World::new();
    let epoch = world.archived(1);
    let second = world.claimed(2, Purpose::Rewrite).unwrap();
    assert_eq!(world.rewrite(2, second, (9, epoch), Fate::Kept), Err(Code::InvalidArgument));
    assert_eq!(world.rewrite(2, second, (1, epoch), Fate::Bare), Err(Code::InvalidArgument), "nobody asked");
    world.rewrite(2, second, (1, epoch), Fate::Kept).unwrap();
    assert_eq!(world.rewrite(2, second, (1, epoch), Fate::Kept), Err(Code::ClaimLost), "AR9: it was used up");
    let third = world.claimed(3, Purpose::Rewrite).unwrap();
    world.story.now = TimeMs(world.story.now.0 + CLAIM_MS);
    assert_eq!(world.rewrite(3, third, (2, second), Fate::Kept), Err(Code::ClaimLost), "AR2");
}

#[test]
fn what_is_past_its_retention_is_forgotten_whole_unless_it_is_held() {
    let mut world = World::new();
    let epoch = world.archived(1);
    world.hold(true).unwrap();
    assert_eq!(world.erase(), Err(Code::LegalHold), "AR7");
    let second = world.claimed(2, Purpose::Rewrite).unwrap();
    assert_eq!(world.rewrite(2, second, (1, epoch), Fate::Dropped), Err(Code::LegalHold), "AR7");
    world.hold(false).unwrap();
    world.rewrite(2, second, (1, epoch), Fate::Dropped).unwrap();
    let rows = &world.story.model.rows;
    assert!(!rows.archive.contains_key(&world.lineage) && rows.stubs.is_empty());
    assert!(rows.vanished.contains(&session(1)));
}

#[test]
fn a_lineage_with_other_parts_is_cut_and_not_forgotten() {
    let mut world = World::new();
    let first = world.archived(1);
    world.claimed(2, Purpose::Restore(2)).unwrap();
    world.restored(2, 2).unwrap();
    world.segment = 2;
    let third = world.claimed(3, Purpose::Rewrite).unwrap();
    assert_eq!(world.rewrite(3, third, (1, first), Fate::Dropped), Err(Code::InvalidArgument), "it is live");
    world.ask(Ask::Drop { claim: claim(3), lineages: vec![world.lineage] }).unwrap();
    let again = world.claimed(4, Purpose::Archive).unwrap();
    world.commit(4, again).unwrap();
    let last = world.claimed(5, Purpose::Rewrite).unwrap();
    world.rewrite(5, last, (1, first), Fate::Dropped).unwrap();
    assert_eq!(world.row().parts.len(), 1, "the later part is left");
    assert!(!world.story.model.rows.vanished.contains(&session(1)));
}
