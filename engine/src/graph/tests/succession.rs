//! Promise: an endless agent is continued by exactly one successor, under the same key (N1 to N4).

use super::story::*;
use crate::graph::command::{Code, Command, Reply, Start};
use crate::graph::event::{Body, GuardPolicy};
use crate::graph::session::Status;

/// A session under key 50, run by A, that has said that session 9 continues it.
fn continued() -> Story {
    let mut story = Story::new();
    story.ok(keyed(1, 50, 60, Some(lease(A, None))));
    story.run(continue_as(9, 3));
    story
}

fn begin(story: &mut Story) {
    let start = successor(&story.model, session(1), session(9));
    story.ok(start);
}

#[test]
fn n1_a_continuation_is_an_end_like_any_other() {
    let mut story = Story::running();
    story.run(intent("mail", 1, GuardPolicy::Pause));
    assert_eq!(story.run_refused(continue_as(9, 3)), Code::OpenIntents);
    story.run(guarded("mail", 1, 4));
    story.run(entered("zone", 1));
    let decision = story.run(continue_as(9, 3));
    let [Body::ZoneRolledBack(_), Body::SessionContinued(end)] = &bodies(&decision)[..] else {
        panic!("{decision:?}")
    };
    assert_eq!(&*end.version, "1", "the session's own");
    let head = story.head();
    assert_eq!((head.status.clone(), head.continued_to), (Status::Completed, Some(session(9))));
    // Re-sent after a lost answer, with another id minted for it: still one successor.
    assert_eq!(story.duplicate(continue_as(10, 3)), head.seq);
    assert_eq!(story.run_refused(complete(3)), Code::SessionEnded, "another end");
}

#[test]
fn n2_n3_the_successor_is_started_once_and_takes_over_what_its_predecessor_had() {
    let mut story = continued();
    let start = successor(&story.model, session(1), session(9));
    let decision = story.ok(start.clone());
    let [Body::SessionStarted(started)] = &bodies(&decision)[..] else { panic!("{decision:?}") };
    assert_eq!((started.generation, started.continued_from, started.top), (2, Some(session(1)), session(1)));
    assert_eq!(decision.events[0].state_delta, Some(payload(31)));
    assert_eq!(decision.events[0].conversation_delta, Some(payload(32)));
    let again = story.ok(start);
    assert_eq!((again.events.len(), again.reply), (0, Reply::Bound { created: false, epoch: None }));
    assert!(story.model.rows.to_start.is_empty());
    // The caller who knows the key with its first input finds the session that goes on.
    let found = story.ok(keyed(11, 50, 60, Some(lease(B, None))));
    assert_eq!(found.session, session(9));
    assert_eq!(story.code(keyed(12, 50, 61, None)), Code::KeyConflict);
}

#[test]
fn n4_nobody_restarts_a_key_that_is_being_continued() {
    let mut story = continued();
    let restart = |n| Start { if_ended_restart: true, ..keyed(n, 50, 60, None) };
    let found = story.ok(restart(20));
    assert_eq!((found.session, found.events.len()), (session(1), 0));
    begin(&mut story);
    assert_eq!(story.ok(restart(21)).session, session(9), "it goes on");
}

#[test]
fn n3_a_key_that_names_somebody_else_by_now_is_not_taken_away() {
    let mut story = continued();
    let start = successor(&story.model, session(1), session(9));
    let key = start.key.clone().unwrap().digest;
    story.model.rows.keys.get_mut(&key).unwrap().session = session(77);
    let decision = story.ok(Command::Start(start));
    let [Body::SessionStarted(started)] = &bodies(&decision)[..] else { panic!("{decision:?}") };
    assert_eq!((&started.key, started.generation), (&None, 0));
    assert_eq!(story.model.rows.keys[&key].session, session(77));
}
