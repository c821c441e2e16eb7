//! Promise: atomic zone (`graph::zone`).

use super::story::*;
use crate::graph::command::{Code, Command, Evidence, Op, Reply};
use crate::graph::decide::EvidencePlace;
use crate::graph::event::{Body, PauseReason};
use crate::graph::ids::{Epoch, Seq};

fn evidence(epoch: u64, attempt: u32) -> Command {
    Command::Evidence(Evidence {
        session: session(1),
        epoch: Epoch(epoch),
        zone_key: "z".into(),
        attempt,
        offset: 16,
        bytes: 4,
    })
}

#[test]
fn a_zone_commits_as_a_whole_once() {
    let mut story = Story::running();
    let entry = story.run(entered("z", 1)).events[0].seq;
    assert_eq!(story.duplicate(entered("z", 1)), entry); // Z1
    let seq = story.run(committed("z", 1)).events[0].seq;
    assert_eq!(story.duplicate(committed("z", 1)), seq); // Z2
    assert_eq!(story.run_refused(entered("z", 2)), Code::StepConflict);
    assert!(story.model.rows.evidence_deleted.contains(&(session(1), entry, 1))); // Z4
}

#[test]
fn a_rolled_back_attempt_cannot_commit() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    story.ok(acquire(1, lease(B, Some(A)), None));
    assert_eq!(story.code(story.append(2, committed("z", 1))), Code::ZoneNotOpen); // Z2
    assert_eq!(story.code(story.append(2, entered("z", 1))), Code::StepConflict); // Z1
    story.ok(story.append(2, entered("z", 2)));
    story.ok(story.append(2, committed("z", 2)));
    assert_eq!(story.model.rows.evidence_deleted.len(), 1); // Z4: the first attempt's stays
}

#[test]
fn a_failed_attempt_is_followed_by_the_next() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    story.run(zone_failed("z", 1, false));
    assert_eq!(story.run_refused(entered("z", 3)), Code::StepConflict); // Z1
    story.run(entered("z", 2));
    story.duplicate(zone_failed("z", 1, false));
    story.run(zone_failed("z", 2, true));
    assert_eq!(story.run_refused(entered("z", 3)), Code::StepConflict);
}

#[test]
fn an_abort_is_journaled_with_what_it_wasted() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    story.run(aborted("z", 1));
    story.duplicate(aborted("z", 1)); // Z3
    assert_eq!(story.head().counters.wasted_tokens, 10);
    assert_eq!(story.run_refused(committed("z", 1)), Code::ZoneNotOpen);
}

#[test]
fn an_end_rolls_back_what_is_open() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    let decision = story.run(complete(9));
    assert!(matches!(bodies(&decision)[..], [Body::ZoneRolledBack(_), Body::SessionCompleted { .. }])); // Z3
    assert_eq!(decision.events[1].seq, story.head().seq);
}

#[test]
fn evidence_belongs_to_the_open_attempt() {
    let mut story = Story::running();
    assert_eq!(story.code(evidence(1, 1)), Code::ZoneNotOpen);
    story.run(entered("z", 1));
    let decision = story.ok(evidence(1, 1));
    let place = EvidencePlace { entry: Seq(3), attempt: 1, offset: 16 };
    assert_eq!(decision.evidence, Some(place)); // Z4
    assert_eq!(decision.reply, Reply::Done { entry: Some(Seq(3)) });
    assert_eq!(decision.events, []);
    assert_eq!(story.code(evidence(1, 2)), Code::ZoneNotOpen);
    assert_eq!(story.code(evidence(2, 1)), Code::Fenced);
}

#[test]
fn a_pause_lets_a_zone_commit_but_none_be_entered() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    story.run(Op::Pause { reason: PauseReason::Requested, step_key: None, details: None });
    assert_eq!(story.run_refused(entered("y", 1)), Code::SessionPaused); // Z5
    story.run(committed("z", 1));
}
