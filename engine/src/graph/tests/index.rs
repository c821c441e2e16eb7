//! Which rows events change (`graph::index`).

use super::story::*;
use crate::graph::event::{GuardPolicy, Resolution};
use crate::graph::ids::{Epoch, Seq};
use crate::graph::index::DueKind;
use crate::graph::session::{END_KEY, StepState};

fn row(story: &Story, key: &str) -> (Seq, u32, Epoch, StepState) {
    let row = &story.model.rows.steps[&(story.session, key.to_owned())];
    (row.seq, row.attempt, row.epoch, row.state)
}

#[test]
fn a_step_has_one_row_that_its_last_event_writes() {
    let mut story = Story::running();
    story.run(failed("a", 1, false));
    assert_eq!(row(&story, "a"), (Seq(3), 1, Epoch(1), StepState::Retryable)); // I2
    story.run(completed("a", 2, 5));
    assert_eq!(row(&story, "a"), (Seq(4), 2, Epoch(1), StepState::Completed));
    story.run(complete(9));
    assert_eq!(row(&story, END_KEY), (Seq(5), 0, Epoch(1), StepState::Completed));
}

#[test]
fn a_due_row_exists_while_an_intent_waits() {
    let mut story = Story::running();
    let waiting = |story: &Story| story.model.rows.due.len();
    story.run(intent("m", 1, GuardPolicy::Pause));
    story.run(intent("n", 1, GuardPolicy::Pause));
    assert_eq!(waiting(&story), 2); // I3
    story.run(unknown("m", 1));
    assert_eq!(waiting(&story), 2);
    story.run(guarded("n", 1, 5));
    story.until_due("m");
    story.intent_due("m", 1);
    assert_eq!(waiting(&story), 0);
    story.ok(resolve(story.session, "m", Resolution::Retry));
    assert_eq!(row(&story, "m"), (Seq(9), 1, Epoch(0), StepState::Retryable));
    story.ok(resume(story.session, None));
    story.run(intent("m", 2, GuardPolicy::Pause));
    let due = story.model.rows.due.values().next().unwrap();
    assert_eq!((due.kind, due.seq), (DueKind::Intent, Seq(11)));
}

#[test]
fn a_session_is_live_until_it_ends_and_listed_for_ever() {
    let mut story = Story::running();
    assert!(story.model.rows.live.contains(&story.session));
    story.run(complete(9));
    assert!(story.model.rows.live.is_empty());
    assert!(story.model.rows.listed.contains(&story.session));
}
