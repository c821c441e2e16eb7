//! Promise: forked (F1 to F10), and its law: at every event of a random session a fork can be made, and the session does
//! not notice.

use std::sync::Arc;

use proptest::prelude::*;

use super::laws;
use super::model::Model;
use super::story::*;
use crate::graph::command::{Accept, Code, Command, Fork, Op, Reply, StubOutcome};
use crate::graph::decide::Decision;
use crate::graph::event::{
    Body, ChildEnd, ChildEnded, Edit, ForkEdited, GuardPolicy, PauseReason, Resolution,
};
use crate::graph::evolve::evolve;
use crate::graph::ids::{Epoch, Hash, Incarnation, Seq, SessionId, StepKey};
use crate::graph::session::{Head, IntentState, Status, StepState, WaitKind};

/// A fork of `parent` at `cut`, moved out of zones; `None`: it would be cut at the end.
fn fork_of(model: &Model, parent: SessionId, fork: SessionId, cut: Seq) -> Option<Fork> {
    let (mut base, mut rows) = model.fold(parent, cut);
    while let Some(entry) = base.as_ref().and_then(|head| head.zones.iter().map(|zone| zone.seq).min()) {
        (base, rows) = model.fold(parent, Seq(entry.0 - 1));
    }
    let base = base.filter(|head| !head.status.is_terminal() && !head.system)?;
    let unsettled = |state| matches!(state, StepState::Open | StepState::Retryable);
    let inherited = rows.into_iter().filter(|(_, row)| unsettled(row.state));
    let children = base.waits.iter().filter_map(|wait| match wait.kind {
        WaitKind::Child { session, .. } => Some(ChildEnded {
            step_key: wait.step_key.clone(),
            child: session,
            ended: session,
            end: ChildEnd::Failed(payload(6)),
        }),
        WaitKind::Timer | WaitKind::Signal | WaitKind::Approval { .. } => None,
    });
    Some(Fork {
        session: fork,
        version: base.version.clone(),
        input: payload(1),
        live: false,
        edits: Vec::new(),
        later: Vec::new(),
        children: children.collect(),
        inherited: inherited
            .map(|(key, mut row)| {
                (row.epoch, row.input_digest) = (Epoch(0), None);
                (key, row)
            })
            .collect(),
        key: None,
        dedupe: None,
        incarnation: Incarnation([9; 16]),
        base: Arc::new(base),
    })
}

fn at(story: &Story, cut: u64) -> Fork {
    fork_of(&story.model, story.session, session(9), Seq(cut)).expect("it is cut before the end")
}

fn send(fork: Fork) -> Command {
    Command::Fork(Box::new(fork))
}

/// Forks and goes on with the fork.
fn forked(mut story: Story, fork: Fork) -> (Story, Decision) {
    let decision = story.ok(send(fork));
    story.session = session(9);
    (story, decision)
}

fn output(step_key: &str) -> ForkEdited {
    ForkEdited { edit: Edit::Output { step_key: step_key.into(), output: payload(50) }, replaces: None }
}

#[test]
fn a_fork_goes_on_where_its_parent_was_cut_and_has_a_life_of_its_own() {
    let mut story = Story::running();
    story.run(completed("a", 1, 1));
    story.run(completed("b", 1, 2));
    let before = (story.head(), story.model.log(story.session));
    let parent = story.session;
    let fork = at(&story, 3);
    let (story, decision) = forked(story, fork);
    assert_eq!(decision.reply, Reply::Bound { created: true, epoch: None });
    assert_eq!(decision.events[0].seq, Seq(4)); // F1
    let head = story.head();
    assert_eq!(
        (head.status.clone(), head.epoch, head.holder, head.generation),
        (Status::Pending, Epoch(0), None, 0)
    ); // F4
    assert_eq!((head.lineage, head.root), (before.0.lineage, before.0.root));
    let inherited = &head.forked.as_ref().unwrap().inherited;
    assert_eq!((head.counters.steps, inherited.steps), (1, 1)); // F9
    let parent = (story.model.heads[&parent].clone(), story.model.log(parent));
    assert_eq!(parent, before); // F2
}

#[test]
fn what_a_fork_inherited_has_its_outcome_and_what_was_tried_goes_on() {
    let mut story = Story::running();
    story.run(completed("a", 1, 1));
    story.run(failed("b", 1, false));
    let fork = at(&story, 4);
    let (mut story, _) = forked(story, fork);
    story.ok(acquire(9, lease(A, None), None));
    assert_eq!(story.run_refused(completed("a", 1, 2)), Code::StepConflict);
    assert_eq!(story.run_refused(completed("b", 1, 2)), Code::StepConflict);
    story.run(completed("b", 2, 2));
}

#[test]
fn a_cut_in_a_zone_or_at_the_end_is_refused() {
    let mut story = Story::running();
    story.run(entered("z", 1));
    let zone = story.head();
    let mut fork = at(&story, 3);
    assert_eq!(fork.base.seq, Seq(2));
    fork.base = zone;
    assert_eq!(story.code(send(fork.clone())), Code::InvalidArgument); // F3
    story.run(complete(1));
    fork.base = story.head();
    assert_eq!(story.code(send(fork)), Code::InvalidArgument);
}

#[test]
fn an_effect_in_flight_takes_the_parents_later_outcome_or_is_unknown_at_once() {
    for (policy, then) in [
        (GuardPolicy::Pause, "SessionPaused"),
        (GuardPolicy::Fail, "GuardResolved"),
        (GuardPolicy::Retry, "GuardResolved"),
    ] {
        let mut story = Story::running();
        story.run(intent_with("pay", 1, policy, 40, 41));
        let later = Fork { later: vec![("pay".into(), Resolution::Output(payload(5)))], ..at(&story, 3) };
        let unknown = Fork { session: session(8), ..at(&story, 3) };
        let (story, decision) = forked(story, later);
        assert!(matches!(&bodies(&decision)[1], Body::GuardResolved(resolved) if &*resolved.by == "parent")); // F5
        assert_eq!(story.head().intents, []);
        let mut story = story;
        let decision = story.ok(send(unknown));
        let words: Vec<String> = bodies(&decision).iter().map(|body| format!("{body:?}")).collect();
        assert!(words[1].starts_with("GuardUnknown") && words[2].starts_with(then), "{policy:?}: {words:?}");
    }
}

#[test]
fn an_edit_stands_in_place_of_what_was_in_flight() {
    let mut story = Story::running();
    story.run(intent("pay", 1, GuardPolicy::Pause));
    let twice = Fork { edits: vec![output("pay"), output("pay")], ..at(&story, 3) };
    assert_eq!(story.code(send(twice)), Code::InvalidArgument);
    let fork = Fork { edits: vec![output("pay")], ..at(&story, 3) };
    let (mut story, decision) = forked(story, fork);
    assert_eq!(bodies(&decision).len(), 2, "the start and the edit"); // F7
    assert_eq!(story.head().intents, []);
    assert_eq!(story.head().counters.steps, 1);
    story.ok(acquire(9, lease(A, None), None));
    story.recorded(intent("pay", 1, GuardPolicy::Pause));
}

#[test]
fn a_stubbed_fork_takes_a_recorded_outcome_and_owns_no_key() {
    let mut story = Story::running();
    story.run(intent("pay", 1, GuardPolicy::Pause));
    story.run(guarded("pay", 1, 1));
    let guards = story.model.rows.guards.clone();
    let live = Fork { live: true, session: session(8), ..at(&story, 2) };
    let fork = at(&story, 2);
    let (mut story, _) = forked(story, fork);
    story.ok(acquire(9, lease(A, None), None));
    let Op::GuardIntent { intent: asked, .. } = intent("pay", 1, GuardPolicy::Pause) else { panic!() };
    let outcome = StubOutcome { from: (session(1), Seq(4)), result: Ok(payload(1)) };
    let stub = Op::GuardStub { intent: asked, outcome };
    let decision = story.run(stub.clone());
    assert_eq!(decision.reply, Reply::Recorded { seq: Seq(5) }); // F8
    story.recorded(stub.clone());
    story.run(intent("ship", 1, GuardPolicy::Pause));
    assert_eq!(story.model.rows.guards, guards, "a fork that performs nothing owns no key"); // F4
    story.ok(send(live));
    story.session = session(8);
    story.ok(acquire(8, lease(A, None), None));
    assert_eq!(story.run_refused(stub), Code::InvalidArgument);
}

#[test]
fn a_nondeterminism_is_accepted_once_and_only_where_the_session_is_paused_for_it() {
    let mut story = Story::running();
    let accept = |key: &str| {
        Command::Accept(Accept {
            session: session(1),
            step_key: key.into(),
            input_digest: Some(digest(7)),
            drop: false,
            also_drop: Vec::new(),
            by: "ada".into(),
            dedupe: dedupe(3),
        })
    };
    story.run(completed("a", 1, 1));
    assert_eq!(story.code(accept("a")), Code::SessionNotPaused);
    let step_key = Some(StepKey::from("a"));
    story.run(Op::Pause { reason: PauseReason::Nondeterminism, step_key, details: None });
    assert_eq!(story.code(accept("b")), Code::InvalidArgument);
    assert_eq!(bodies(&story.ok(accept("a"))).len(), 2);
    assert_eq!(story.head().status, Status::Running); // F10
    assert_eq!(story.ok(accept("a")).events, [], "sent again it is told from a new one");
}

#[test]
fn a_fork_that_does_not_fit_its_parent_is_corrupt() {
    let mut story = Story::running();
    story.run(completed("a", 1, 1));
    let fork = at(&story, 3);
    let (story, decision) = forked(story, fork);
    let event = &decision.events[0];
    let (other, _) = story.model.fold(session(1), Seq(2));
    assert!(evolve(other.as_ref(), event, Hash::default()).is_err(), "cut elsewhere");
    assert!(evolve(None, event, Hash::default()).is_err(), "without its parent's events");
}

/// A fork has nothing of the run it was cut from.
fn check_born(head: &Head, base: &Head) {
    assert!(matches!(
        head.status,
        Status::Pending | Status::Paused { reason: PauseReason::EffectUnknown, .. }
    ));
    assert_eq!((head.epoch, head.holder, head.cancel_requested), (Epoch(0), None, None)); // F4
    assert!(head.zones.is_empty()); // F3
    let settled = |state| matches!(state, IntentState::Due | IntentState::MayRetry);
    assert!(head.intents.iter().all(|intent| settled(intent.state))); // F5
    assert!(head.waits.iter().all(|wait| !matches!(wait.kind, WaitKind::Child { .. }))); // F6
    assert_eq!(head.forked.as_ref().unwrap().inherited, base.counters); // F9
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_of_a_session_can_be_forked_and_nobody_notices(
        acts in prop::collection::vec(laws::act(), 1..120),
    ) {
        let (mut model, _) = laws::play(&acts);
        let sessions: Vec<SessionId> = model.heads.keys().copied().collect();
        let mut made = 0u32;
        for parent in sessions {
            let (head, log) = (model.heads[&parent].clone(), model.log(parent));
            for cut in log.iter().map(|event| event.seq) {
                made += 1;
                let [a, b, c, d] = made.to_be_bytes();
                let id = SessionId([0xf0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                let Some(fork) = fork_of(&model, parent, id, cut) else { continue };
                let base = fork.base.clone();
                let decision = model.submit(&send(fork), head.time).expect("it may be forked");
                prop_assert_eq!(decision.events[0].seq, base.seq.next()); // F1
                check_born(&model.heads[&id], &base);
            }
            prop_assert_eq!(&model.heads[&parent], &head); // F2
            prop_assert_eq!(model.log(parent), log);
        }
        let (heads, rows) = model.rebuilt();
        prop_assert_eq!(&heads, &model.heads);
        prop_assert_eq!(&rows, &model.rows); // I1
    }
}
