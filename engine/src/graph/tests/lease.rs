//! Promise: fenced (`graph::lease`).

use super::story::*;
use crate::graph::command::{Code, EvidenceTotal, LeaseRequest, Reply};
use crate::graph::event::{Author, Body, LeaseGranted, RollbackReason, ZoneRolledBack};
use crate::graph::ids::Epoch;
use crate::graph::session::Status;

fn bound(epoch: Option<u64>) -> Reply {
    Reply::Bound { created: false, epoch: epoch.map(Epoch) }
}

#[test]
fn a_free_lease_is_granted_without_takeover() {
    let mut story = Story::new();
    story.ok(start(1, None));
    let decision = story.ok(acquire(1, lease(A, None), None));
    assert_eq!(decision.reply, bound(Some(1)));
    assert!(matches!(
        bodies(&decision)[..],
        [Body::LeaseGranted(LeaseGranted { takeover: false, epoch: Epoch(1), .. })]
    )); // L1
    assert_eq!(story.head().status, Status::Running);
}

#[test]
fn a_live_holder_keeps_its_lease() {
    let mut story = Story::running();
    let rejection = story.refused(acquire(1, lease(B, None), None)); // L4
    assert_eq!(rejection.code, Code::LeaseHeld);
    assert!(rejection.retry_after_ms.is_some());
    assert!(!rejection.message.contains(&A.to_string()));
}

#[test]
fn a_dead_holder_is_taken_over_and_fenced() {
    let mut story = Story::running();
    let decision = story.ok(acquire(1, lease(B, Some(A)), None));
    assert_eq!(decision.reply, bound(Some(2)));
    assert_eq!(story.run_refused(completed("a", 1, 5)), Code::Fenced); // L2
    assert_eq!(story.code(release(story.session, 1)), Code::Fenced);
    story.ok(story.append(2, completed("a", 1, 5)));
}

/// The word of the edge is about the holder it saw. B took over since and is alive: C must not take from B.
#[test]
fn a_takeover_decided_meanwhile_is_not_taken_over_again() {
    let mut story = Story::running();
    let c = crate::graph::ids::InstanceId([0xc; 16]);
    let late = acquire(1, lease(c, Some(A)), None);
    story.ok(acquire(1, lease(B, Some(A)), None));
    assert_eq!(story.code(late), Code::LeaseHeld); // L4
}

#[test]
fn the_same_instance_reattaches_without_an_event() {
    let mut story = Story::running();
    let decision = story.ok(acquire(1, lease(A, Some(A)), Some(1)));
    assert_eq!(decision.events, []); // L3
    assert_eq!(decision.reply, bound(Some(1)));
}

#[test]
fn the_same_instance_without_an_epoch_gets_a_new_one() {
    let mut story = Story::running();
    let decision = story.ok(acquire(1, lease(A, None), None));
    assert_eq!(decision.reply, bound(Some(2))); // L1
    assert_eq!(story.run_refused(completed("a", 1, 5)), Code::Fenced);
}

#[test]
fn reattaching_after_a_takeover_is_fenced() {
    let mut story = Story::running();
    story.ok(acquire(1, lease(B, Some(A)), None));
    assert_eq!(story.code(acquire(1, lease(A, Some(B)), Some(1))), Code::Fenced);
}

#[test]
fn a_takeover_rolls_back_open_zones_in_the_same_frame() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    let ask = LeaseRequest {
        evidence: vec![EvidenceTotal { zone_key: "z".into(), bytes: 80, tokens: 20 }],
        ..lease(B, Some(A))
    };
    let decision = story.ok(acquire(1, ask, None));
    let rolled_back = Body::ZoneRolledBack(ZoneRolledBack {
        zone_key: "z".into(),
        attempt: 1,
        reason: RollbackReason::Takeover,
        evidence_bytes: 80,
        wasted_tokens: 20,
    });
    assert_eq!(bodies(&decision)[1..], [rolled_back]); // L5
    assert!(decision.events.iter().all(|event| event.author == Author::Driver));
    assert_eq!(story.head().counters.wasted_tokens, 20);
}

#[test]
fn a_release_rolls_back_open_zones_first_and_can_be_sent_again() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    let decision = story.ok(release(story.session, 1));
    assert!(matches!(bodies(&decision)[..], [Body::ZoneRolledBack(_), Body::LeaseReleased { .. }])); // L5
    assert_eq!(story.ok(release(story.session, 1)).events, []);
    assert_eq!(story.run_refused(completed("a", 1, 5)), Code::Fenced); // L2
}

#[test]
fn another_version_gets_no_lease() {
    let mut story = Story::new();
    story.ok(start(1, None));
    let mut ask = acquire(1, lease(A, None), None);
    ask.version = Some("2".into());
    assert_eq!(story.code(ask.clone()), Code::VersionMismatch); // L6
    ask.version = None;
    story.ok(ask);
}

#[test]
fn what_cannot_run_is_bound_without_a_lease() {
    let mut story = Story::running();
    story.run(intent("m", 1, crate::graph::event::GuardPolicy::Pause));
    story.until_due("m");
    story.intent_due("m", 1);
    let decision = story.ok(acquire(1, lease(B, Some(A)), None));
    assert_eq!((decision.reply, decision.events), (bound(None), vec![])); // L7
    // The holder goes on with what it has begun.
    let held = story.ok(acquire(1, lease(A, None), Some(1)));
    assert_eq!(held.reply, bound(Some(1)));
    story.run(guarded("m", 1, 5));
    story.ok(resume(story.session, None));
    story.run(complete(9));
    assert_eq!(story.ok(acquire(1, lease(A, None), Some(1))).reply, bound(None));
}

#[test]
fn a_system_session_is_run_by_nobody() {
    let mut story = Story::new();
    story.ok(system(1));
    assert_eq!(story.code(acquire(1, lease(A, None), None)), Code::InvalidArgument);
    assert_eq!(story.code(story.append(0, completed("a", 1, 5))), Code::InvalidArgument);
}
