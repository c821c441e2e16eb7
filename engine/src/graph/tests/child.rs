//! Promise: children are started once, joined once, and end before their parent (H1 to H5).

use super::story::*;
use crate::graph::child::is_to_cancel;
use crate::graph::command::{Code, Command, Op, Reply};
use crate::graph::event::{Body, ChildEnd, PauseReason};
use crate::graph::session::{OPEN_MAX, Status, TREE_DEPTH_MAX};

/// A session run by A with child 2 under key "c", which has begun and is run by B.
fn with_child() -> Story {
    let mut story = Story::running();
    story.run(spawn("c", 2, false));
    begin(&mut story);
    story.ok(acquire(2, lease(B, None), None));
    story
}

/// The driver starts what was named.
fn begin(story: &mut Story) {
    let named: Vec<_> = story.model.rows.to_start.iter().copied().collect();
    for (by, session) in named {
        story.ok(named_start(&story.model, by, session));
    }
}

fn child_does(story: &mut Story, op: Op) {
    story.ok(append(session(2), 1, op));
}

/// The driver brings the end of session `n` back.
fn bring_back(story: &mut Story, n: u8) -> Body {
    let command = child_end(&story.model, session(1), session(n));
    let decision = story.ok(command.clone());
    assert_eq!(story.ok(command).events, [], "once"); // H2
    bodies(&decision).pop().expect("the parent is told")
}

#[test]
fn h1_a_spawn_names_one_child_however_often_it_is_sent() {
    let mut story = Story::running();
    story.run(spawn("c", 2, false));
    let seq = story.duplicate(spawn("c", 3, false));
    assert_eq!(story.head().wait("c").unwrap().child(), Some(session(2)));
    assert_eq!(story.head().wait("c").unwrap().seq, seq);
    begin(&mut story);
    let head = story.model.heads[&session(2)].clone();
    assert_eq!((head.top, head.depth, head.status.clone()), (session(1), 1, Status::Pending));
    assert_eq!(story.run_refused(completed("c", 1, 1)), Code::StepConflict, "a step of another kind");
}

#[test]
fn h2_the_end_comes_back_once_and_wakes_a_parent_that_waits() {
    let mut story = with_child();
    let seen = story.head().seq;
    story.ok(release_waiting(story.session, 1, seen));
    assert_eq!(story.head().status, Status::Waiting);
    child_does(&mut story, complete(7));
    let Body::ChildEnded(ended) = bring_back(&mut story, 2) else { panic!() };
    assert_eq!(ended.end, ChildEnd::Completed(payload(7)));
    assert_eq!(story.head().status, Status::Running);
    story.ok(acquire(1, lease(A, None), None));
    let again = story.ok(append(session(1), 2, spawn("c", 9, false)));
    assert!(matches!(again.reply, Reply::Recorded { .. }), "the run is told what came of it");
    story.ok(append(session(1), 2, complete(1)));
}

#[test]
fn h2_a_child_that_is_continued_ends_with_its_last_successor() {
    let mut story = with_child();
    child_does(&mut story, continue_as(5, 3));
    begin(&mut story);
    let successor = story.model.heads[&session(5)].clone();
    assert_eq!((successor.top, successor.depth), (session(1), 1));
    assert_eq!(successor.parent, story.model.heads[&session(2)].parent);
    story.ok(acquire(5, lease(B, None), None));
    story.ok(append(session(5), 1, Op::Fail { failure: payload(8) }));
    let told = |story: &Story| !story.head().awaits_child("c");
    assert!(!told(&story), "the wait names session 2: no session of the chain may leave for the archive");
    let Body::ChildEnded(ended) = bring_back(&mut story, 5) else { panic!() };
    assert!(told(&story));
    assert_eq!((ended.child, ended.ended), (session(2), session(5)));
    assert_eq!(ended.end, ChildEnd::Failed(payload(8)));
}

#[test]
fn h3_a_session_ends_after_its_children_abandoned_ones_excepted() {
    let mut story = with_child();
    story.run(spawn("left", 3, true));
    for op in [complete(1), Op::Fail { failure: payload(2) }, continue_as(9, 3)] {
        let refused = story.refused(append(session(1), 1, op));
        assert_eq!(refused.code, Code::OpenChildren);
        assert!(refused.retry_after_ms.is_some());
    }
    child_does(&mut story, complete(7));
    bring_back(&mut story, 2);
    story.run(complete(1));
    assert_eq!(story.head().waits, []);
    begin(&mut story);
    assert_eq!(story.model.heads[&session(3)].status, Status::Pending, "it is started all the same");
}

#[test]
fn h3_terminating_names_the_children_it_leaves_behind() {
    let mut story = with_child();
    story.run(spawn("left", 3, true));
    story.run(timer("nap", 1000));
    story.ok(Command::Terminate(cancel(session(1), None)));
    let waits = story.head().waits.clone();
    assert_eq!(waits.iter().map(|wait| wait.child()).collect::<Vec<_>>(), [Some(session(2))]);
    let decision = story.ok(Command::Terminate(cancel(session(2), None)));
    assert_eq!(decision.events.len(), 1);
    let late = child_end(&story.model, session(1), session(2));
    assert_eq!(story.ok(late).events, [], "an ended parent is told nothing");
}

#[test]
fn h4_cancelling_concerns_the_children_there_were_and_not_those_of_the_cleanup() {
    let mut story = with_child();
    story.run(spawn("left", 3, true));
    story.ok(Command::Cancel(cancel(session(1), None)));
    story.run(spawn("cleanup", 4, false));
    let head = story.head();
    let to_cancel = |key: &str| is_to_cancel(&head, head.wait(key).unwrap());
    assert_eq!([to_cancel("c"), to_cancel("left"), to_cancel("cleanup")], [true, false, false]);
    let cleaned_up = || Op::Cancelled { reason: "done".into() };
    assert_eq!(story.run_refused(cleaned_up()), Code::OpenChildren, "children first");
    story.ok(Command::Cancel(cancel(session(2), None)));
    child_does(&mut story, cleaned_up());
    let Body::ChildEnded(ended) = bring_back(&mut story, 2) else { panic!() };
    assert_eq!(ended.end, ChildEnd::Cancelled("done".into()));
    story.run(cancel_child("cleanup"));
    let head = story.head();
    assert!(is_to_cancel(&head, head.wait("cleanup").unwrap()));
    story.duplicate(cancel_child("cleanup"));
    begin(&mut story);
    story.ok(Command::Cancel(cancel(session(4), None)));
    bring_back(&mut story, 4);
    story.run(cleaned_up());
}

#[test]
fn h5_depth_and_number_of_children_are_bounded() {
    let mut story = Story::running();
    for n in 0..TREE_DEPTH_MAX {
        let (parent, child) = (u8::try_from(n).unwrap() + 1, u8::try_from(n).unwrap() + 2);
        story.ok(append(session(parent), 1, spawn("c", child, false)));
        begin(&mut story);
        story.ok(acquire(child, lease(A, None), None));
    }
    let deepest = session(u8::try_from(TREE_DEPTH_MAX).unwrap() + 1);
    assert_eq!(story.code(append(deepest, 1, spawn("c", 99, false))), Code::TreeTooDeep);
    let mut story = Story::running();
    for n in 0..OPEN_MAX {
        story.run(spawn(&format!("c{n}"), 100 + u8::try_from(n).unwrap(), false));
    }
    assert_eq!(story.run_refused(spawn("more", 99, false)), Code::TooManyOpen);
}

#[test]
fn w4_a_paused_session_spawns_nothing_and_is_told_of_ends() {
    let mut story = with_child();
    story.run(Op::Pause { reason: PauseReason::RetriesExhausted, step_key: None, details: None });
    assert_eq!(story.run_refused(spawn("more", 3, false)), Code::SessionPaused);
    child_does(&mut story, complete(7));
    bring_back(&mut story, 2);
    assert!(matches!(story.head().status, Status::Paused { .. }));
}

#[test]
fn a_child_is_cancelled_and_not_dropped() {
    let mut story = with_child();
    assert_eq!(story.run_refused(dropped("c")), Code::InvalidArgument);
    story.run(timer("nap", 1000));
    assert_eq!(story.run_refused(cancel_child("nap")), Code::InvalidArgument);
    assert_eq!(story.run_refused(cancel_child("nobody")), Code::NotFound);
}
