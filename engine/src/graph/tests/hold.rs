//! Promise: restored (`graph::hold`), and what sessions are found by (`graph::label`).

use super::story::*;
use crate::graph::command::Code;
use crate::graph::ids::Incarnation;
use crate::graph::session::LABELS_MAX;

fn under(n: u8) -> crate::graph::command::LeaseRequest {
    crate::graph::command::LeaseRequest { incarnation: Incarnation([n; 16]), ..lease(B, Some(A)) }
}

#[test]
fn h1_after_a_restore_nobody_gets_the_lease_until_the_session_is_released() {
    let mut story = Story::running();
    assert_eq!(story.code(acquire(1, under(8), None)), Code::IncarnationChanged);
    assert_eq!(story.ok(release_hold(session(1), 9)).events, [], "H3: not held under its own incarnation");
    assert_eq!(story.ok(release_hold(session(1), 8)).events.len(), 1);
    assert_eq!(story.ok(acquire(1, under(8), None)).events.len(), 1, "taken over from who held it before");
    assert_eq!(story.code(acquire(1, under(9), None)), Code::IncarnationChanged, "no way back");
}

#[test]
fn b1_labels_are_set_changed_and_removed_and_found_by() {
    let mut story = Story::running();
    story.ok(set_labels(session(1), &[("a", "1"), ("b", "2")], &[]));
    story.ok(set_labels(session(1), &[("a", "3")], &["b"]));
    let labels = &story.head().labels;
    assert_eq!(labels.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), [("a", "3")]);
    assert_eq!(story.code(set_labels(session(1), &[("a", "1")], &["a"])), Code::InvalidArgument);
    let many: Vec<String> = (0..=LABELS_MAX).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
    assert_eq!(story.code(set_labels(session(1), &many, &[])), Code::InvalidArgument);
    assert_eq!(story.code(set_labels(session(1), &[("", "x")], &[])), Code::InvalidArgument);
    story.run(complete(1));
    assert_eq!(story.code(set_labels(session(1), &[("z", "1")], &[])), Code::SessionEnded); // B2
}
