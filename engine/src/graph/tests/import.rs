//! Imported: what was run elsewhere comes in whole, once, with its own times (`graph::import`).

use super::story::{Story, keyed, payload, start, step};
use crate::graph::command::{Code, Command, Import, ImportedStep, Reply};
use crate::graph::event::{Author, Body, StepCompleted};
use crate::graph::ids::{Seq, TimeMs};
use crate::graph::import::STEPS_MAX;
use crate::graph::session::Status;

fn imported(key: &str, time: u64) -> ImportedStep {
    ImportedStep { time: TimeMs(time), done: step(key, 1, 2), conversation_delta: Some(payload(4)) }
}

fn import(steps: Vec<ImportedStep>) -> Import {
    let start = keyed(1, 5, 6, None);
    Import {
        start,
        started: TimeMs(100),
        steps,
        output: payload(3),
        conversation_delta: None,
        ended: TimeMs(900),
    }
}

fn command(import: Import) -> Command {
    Command::Import(Box::new(import))
}

#[test]
fn i1_i3_a_session_comes_in_as_one_decision_with_its_own_times() {
    let mut story = Story::new();
    let steps = vec![imported("one", 300), imported("two", 200), imported("three", 20_000)];
    let decision = story.ok(command(import(steps)));
    assert_eq!(decision.reply, Reply::Bound { created: true, epoch: None });
    let times: Vec<_> = decision.events.iter().map(|event| event.time.0).collect();
    assert_eq!(times, [100, 300, 300, 10_000, 10_000], "they never go back, and are never later than now");
    assert!(decision.events.iter().all(|event| event.author == Author::Client(None)), "it is nobody's run");
    assert_eq!(decision.events[1].conversation_delta, Some(payload(4)));
    assert!(matches!(decision.events[4].body, Body::SessionCompleted { .. }));
    let head = story.head();
    assert_eq!((&head.status, head.seq, head.counters.steps), (&Status::Completed, Seq(5), 3));
    assert_eq!((head.started, head.time), (TimeMs(100), TimeMs(10_000)));
}

#[test]
fn i2_again_adds_nothing_and_another_input_is_refused() {
    let mut story = Story::new();
    story.ok(command(import(vec![imported("one", 300)])));
    let again = story.ok(command(import(vec![imported("one", 300)])));
    assert_eq!((again.events.len(), again.reply), (0, Reply::Bound { created: false, epoch: None }));
    let other = Import { start: keyed(2, 5, 7, None), ..import(Vec::new()) };
    assert_eq!(story.code(command(other)), Code::KeyConflict);
}

#[test]
fn i4_a_step_key_names_one_outcome_of_an_unguarded_step() {
    let mut story = Story::new();
    let twice = import(vec![imported("one", 1), imported("one", 2)]);
    assert_eq!(story.code(command(twice)), Code::StepConflict);
    let done = StepCompleted { guarded: true, ..step("one", 1, 2) };
    let guarded = ImportedStep { done, ..imported("one", 1) };
    assert_eq!(story.code(command(import(vec![guarded]))), Code::InvalidArgument);
    let later = ImportedStep { done: step("one", 2, 2), ..imported("one", 1) };
    assert_eq!(story.code(command(import(vec![later]))), Code::InvalidArgument);
    let keyless = Import { start: start(1, None), ..import(Vec::new()) };
    assert_eq!(story.code(command(keyless)), Code::InvalidArgument);
    let many = (0..=STEPS_MAX).map(|n| imported(&n.to_string(), 1)).collect();
    assert_eq!(story.code(command(import(many))), Code::InvalidArgument);
}
