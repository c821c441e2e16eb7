//! Promise: keyed (`graph::start`).

use super::story::*;
use crate::graph::command::{Code, Reply, Start};
use crate::graph::event::Body;
use crate::graph::ids::Epoch;
use crate::graph::session::{NAME_BYTES_MAX, Status};

#[test]
fn start_and_lease_are_one_decision() {
    let mut story = Story::new();
    let decision = story.ok(start(1, Some(lease(A, None))));
    assert!(matches!(bodies(&decision)[..], [Body::SessionStarted(_), Body::LeaseGranted(_)])); // K4
    let created = Reply::Bound { created: true, epoch: Some(Epoch(1)) };
    assert_eq!(decision.reply, created);
    assert_eq!(story.head().generation, 0);
}

#[test]
fn a_key_names_one_session() {
    let mut story = Story::new();
    story.ok(keyed(1, 50, 60, None));
    let again = story.ok(keyed(2, 50, 60, None));
    assert_eq!((again.session, again.events), (session(1), vec![])); // K1
    assert_eq!(story.head().status, Status::Pending);
    assert_eq!(story.head().generation, 1);
}

#[test]
fn a_key_with_another_input_is_refused() {
    let mut story = Story::new();
    story.ok(keyed(1, 50, 60, None));
    assert_eq!(story.code(keyed(2, 50, 61, None)), Code::KeyConflict); // K2
}

#[test]
fn an_ended_session_is_returned_or_restarted_on_request() {
    let mut story = Story::new();
    story.ok(keyed(1, 50, 60, Some(lease(A, None))));
    let restart = Start { if_ended_restart: true, ..keyed(2, 50, 60, None) };
    assert_eq!(story.ok(restart.clone()).session, session(1)); // K3: still running
    story.run(complete(9));
    let found = story.ok(keyed(2, 50, 60, Some(lease(B, None))));
    assert_eq!((found.session, found.events), (session(1), vec![])); // K1
    story.ok(restart.clone());
    assert_eq!(story.model.heads[&session(2)].generation, 2);
    let resent = story.ok(Start { session: session(3), ..restart });
    assert_eq!((resent.session, resent.events), (session(2), vec![]));
}

#[test]
fn a_start_by_key_takes_a_free_or_dead_lease_but_no_live_one() {
    let mut story = Story::new();
    story.ok(keyed(1, 50, 60, Some(lease(A, None))));
    let rejection = story.refused(keyed(2, 50, 60, Some(lease(B, None))));
    assert_eq!(rejection.code, Code::LeaseHeld);
    assert!(rejection.retry_after_ms.is_some());
    let taken = story.ok(keyed(2, 50, 60, Some(lease(B, Some(A)))));
    let bound = Reply::Bound { created: false, epoch: Some(Epoch(2)) };
    assert_eq!((taken.session, taken.reply), (session(1), bound));
}

#[test]
fn another_version_finds_the_session_but_gets_no_lease() {
    let mut story = Story::new();
    story.ok(keyed(1, 50, 60, None));
    let newer = |lease| Start { version: "2".into(), ..keyed(2, 50, 60, lease) };
    assert_eq!(story.code(newer(Some(lease(A, None)))), Code::VersionMismatch);
    assert_eq!(story.ok(newer(None)).events, []);
}

#[test]
fn names_are_bounded() {
    let mut story = Story::new();
    let long = Start { workflow: "w".repeat(NAME_BYTES_MAX + 1).into(), ..start(1, None) };
    assert_eq!(story.code(long), Code::InvalidArgument);
    let empty = Start { version: "".into(), ..start(1, Some(lease(A, None))) };
    assert_eq!(story.code(empty), Code::InvalidArgument, "who runs it says what it runs");
}
