//! Promise: streams (`graph::stream`).

use std::sync::Arc;

use super::story::*;
use crate::graph::event::Body;
use crate::graph::ids::Seq;
use crate::graph::session::OpenZone;
use crate::graph::stream::{Cursor, Place, Reset};

fn open(attempt: u32) -> OpenZone {
    OpenZone { zone_key: "z".into(), attempt, seq: Seq(3) }
}

fn reset(attempt: u32) -> Option<Reset> {
    Some(Reset { zone_key: "z".into(), attempt })
}

fn at(attempt: u32, byte: u64) -> Cursor {
    Cursor::new([("z".into(), Place { attempt, byte })])
}

/// The events of a session whose zone is entered twice: rolled back, then committed.
fn bodies() -> Vec<Body> {
    let mut story = Story::running();
    let mut bodies = Vec::new();
    for op in [entered("z", 1), aborted("z", 1), entered("z", 2), committed("z", 2)] {
        bodies.extend(story.run(op).events.iter().map(|event| event.body.clone()));
    }
    assert_eq!(bodies.len(), 4);
    bodies
}

#[test]
fn an_attempt_is_read_on_from_where_it_was_read_to() {
    let mut cursor = Cursor::default();
    assert_eq!(cursor.open(&open(1)), (None, 0));
    cursor.read(&open(1), 40);
    assert_eq!(cursor.open(&open(1)), (None, 40)); // S1
    assert_eq!(at(2, 7).open(&open(2)), (None, 7)); // S1: a subscriber that comes back
}

#[test]
fn what_was_read_of_a_rolled_back_attempt_is_void_before_the_event_says_so() {
    let bodies = bodies();
    let mut cursor = at(1, 40);
    let resets: Vec<_> = bodies.iter().map(|body| cursor.pass(body)).collect();
    assert_eq!(resets, [None, reset(2), None, None]); // S2
    let mut nothing_read = at(1, 0);
    assert!(bodies.iter().all(|body| nothing_read.pass(body).is_none()));
}

#[test]
fn a_subscriber_that_was_away_learns_that_what_it_has_is_void() {
    let bodies = bodies();
    assert_eq!(at(1, 40).open(&open(2)), (reset(2), 0)); // S2: at the next attempt
    assert_eq!(at(1, 40).pass(&bodies[3]), reset(2)); // S2: at its commit
    assert_eq!(at(2, 40).pass(&bodies[3]), None);
    // Old events are read again by somebody who is further already.
    let mut ahead = at(2, 40);
    assert!(bodies[..3].iter().all(|body| ahead.pass(body).is_none()));
    assert_eq!(ahead.open(&open(2)), (None, 40)); // S1
}

#[test]
fn a_committed_zone_costs_nothing_any_more() {
    let mut cursor = Cursor::default();
    let key = |n: u32| -> Arc<str> { format!("z{n}").into() };
    for n in 0..100 {
        let zone = OpenZone { zone_key: key(n), ..open(1) };
        cursor.open(&zone);
        cursor.read(&zone, 9);
        let mut story = Story::running();
        story.run(entered(&key(n), 1));
        for event in story.run(committed(&key(n), 1)).events {
            assert_eq!(cursor.pass(&event.body), None);
        }
    }
    assert_eq!(cursor.places(), 0); // S3, S4
}
