//! Promise: an idempotency key names one effect of a namespace, whoever asks for it (`graph::guard_key`).

use std::collections::BTreeMap;

use super::model::Model;
use super::story::*;
use crate::graph::command::{Code, Command, Op, Taken};
use crate::graph::event::{Body, Event, GuardPolicy, Resolution};
use crate::graph::guard_key::KEPT_BYTES_MAX;
use crate::graph::ids::{Digest, Seq, SessionId, StepKey};
use crate::graph::session::StepState;

const KEY: u8 = 40;
const INPUT: u8 = 77;

/// Session 1 has sent the intent of step "m"; session 2 is about to ask with the same key.
fn two() -> Story {
    let mut story = Story::running();
    story.run(ask("m", 1));
    story.ok(start(2, Some(lease(B, None))));
    story
}

fn ask(step: &str, attempt: u32) -> Op {
    intent_with(step, attempt, GuardPolicy::Fail, KEY, INPUT)
}

/// What the edge makes of an intent: a copy of what the key has recorded elsewhere comes with it.
pub fn brought(model: &Model, session: SessionId, op: Op) -> Op {
    let Op::GuardIntent { intent, mut guard, .. } = op else { panic!("not an intent") };
    guard.former = model.claimed(session, guard.step_key_hash);
    let row = model.rows.guards.get(&guard.digest);
    let known = row.and_then(|row| {
        let mut outcomes = model.rows.outcomes.iter().filter(|((session, _), _)| *session == row.session);
        outcomes.find(|((_, key), _)| step_key_hash(key) == row.step_key_hash)
    });
    let taken = known.and_then(|((session, _), (outcome, output))| {
        let output = output.clone().filter(|_| outcome.state == StepState::Completed)?;
        Some(Taken { from: (*session, outcome.seq), output })
    });
    Op::GuardIntent { intent, guard, taken }
}

impl Story {
    /// Session `n` asks with what the edge brings.
    fn asks(&mut self, n: u8, step: &str, attempt: u32) -> Result<Vec<Body>, Code> {
        let op = brought(&self.model, session(n), ask(step, attempt));
        let asked = self.submit(append(session(n), 1, op));
        asked.map(|decision| bodies(&decision)).map_err(|rejection| rejection.code)
    }

    fn is_called(&mut self, n: u8, step: &str, attempt: u32) {
        let bodies = self.asks(n, step, attempt).unwrap();
        assert!(matches!(&bodies[..], [Body::GuardIntent(_)]), "{bodies:?}");
    }

    fn is_taken_from(&mut self, n: u8, step: &str, from: (SessionId, Seq)) {
        let bodies = self.asks(n, step, 1).unwrap();
        let [Body::StepCompleted(step)] = &bodies[..] else { panic!("{bodies:?}") };
        assert_eq!((step.deduplicated_from, step.guarded), (Some(from), true));
        assert_eq!(step.output, payload(5));
    }
}

#[test]
fn k1_another_session_and_another_step_get_the_recorded_output_by_value() {
    let mut story = two();
    let seq = story.run(guarded("m", 1, 5)).events[0].seq;
    story.is_taken_from(2, "m", (session(1), seq));
    story.is_taken_from(1, "n", (session(1), seq));
    // Asking again gives what is recorded, and no event.
    let again = story.ok(append(session(2), 1, ask("m", 1)));
    assert_eq!(again.events, []);
    // The owner is the one that called: a third one is told of it, not of a copy.
    story.ok(start(3, Some(lease(A, None))));
    story.is_taken_from(3, "m", (session(1), seq));
}

#[test]
fn k1_an_effect_that_a_person_or_the_tool_confirmed_is_taken_over_too() {
    let mut story = two();
    story.until_due("m");
    let confirmed = resolve(story.session, "m", Resolution::Output(payload(5)));
    let seq = story.ok(confirmed).events[0].seq;
    story.is_taken_from(2, "m", (session(1), seq));
}

#[test]
fn k1_of_two_that_ask_at_once_one_calls() {
    let mut story = two();
    let bring_nothing = append(session(2), 1, ask("m", 1));
    story.run(guarded("m", 1, 5));
    // The copy was made before the output was there.
    let rejection = story.refused(bring_nothing);
    assert_eq!(rejection.code, Code::GuardInFlight);
    assert!(rejection.retry_after_ms <= Some(20), "it is there already: {rejection}");
}

#[test]
fn k2_while_the_outcome_is_open_others_wait_or_are_refused() {
    let mut story = two();
    assert_eq!(story.asks(2, "m", 1), Err(Code::GuardInFlight));
    story.run(unknown("m", 1));
    assert_eq!(story.asks(2, "m", 1), Err(Code::GuardInFlight));
    let Op::GuardIntent { intent, mut guard, taken } = ask("m", 1) else { panic!() };
    guard.refuse_in_flight = true;
    let impatient = append(session(2), 1, Op::GuardIntent { intent, guard, taken });
    let rejection = story.refused(impatient);
    assert_eq!((rejection.code, rejection.retry_after_ms), (Code::InProgress, None));
}

#[test]
fn k3_another_input_is_refused() {
    let mut story = two();
    story.run(guarded("m", 1, 5));
    let other = intent_with("m", 1, GuardPolicy::Fail, KEY, INPUT + 1);
    assert_eq!(story.code(append(session(2), 1, other)), Code::GuardInputConflict);
}

#[test]
fn k4_a_key_passes_on_when_nothing_happened() {
    let mut failed = two();
    failed.run(not_applied("m", 1));
    failed.run(guarded_failed("m", 1, true));
    failed.is_called(2, "m", 1);

    // Before the owner's next attempt it passes on, too, and the owner becomes one of the others.
    let mut passed = two();
    passed.run(not_applied("m", 1));
    passed.is_called(2, "m", 1);
    assert_eq!(passed.asks(1, "m", 2), Err(Code::GuardInFlight));
    let seq = passed.ok(append(session(2), 1, guarded("m", 1, 5))).events[0].seq;
    let bodies = passed.asks(1, "m", 2).unwrap();
    assert!(
        matches!(&bodies[..], [Body::StepCompleted(step)] if step.deduplicated_from == Some((session(2), seq)))
    );
    assert!(passed.head().intents.is_empty());

    // And back, if nothing happened there either.
    let mut back = two();
    back.run(not_applied("m", 1));
    back.is_called(2, "m", 1);
    back.ok(append(session(2), 1, not_applied("m", 1)));
    back.is_called(1, "m", 2);
    assert_eq!(back.asks(2, "m", 2), Err(Code::GuardInFlight));
}

#[test]
fn k5_a_failure_that_says_nothing_of_the_effect_keeps_the_key() {
    let mut by_policy = two();
    by_policy.until_due("m");
    by_policy.intent_due("m", 1);
    assert_eq!(by_policy.asks(2, "m", 1), Err(Code::GuardKeyInUse));

    let mut terminated = two();
    terminated.ok(Command::Terminate(cancel(session(1), None)));
    assert_eq!(terminated.asks(2, "m", 1), Err(Code::GuardKeyInUse));
}

#[test]
fn k6_a_key_is_kept_for_its_retention_from_its_owners_end() {
    let mut story = two();
    let seq = story.run(guarded("m", 1, 5)).events[0].seq;
    assert!(story.model.rows.due.is_empty(), "a session that goes on keeps its keys");
    story.run(complete(1));
    let kept = story.model.kept(session(1));
    assert_eq!(kept.due, story.now.plus(RETENTION_MS));
    story.now = story.now.plus(RETENTION_MS - 1);
    assert_eq!(story.code(Command::ForgetKeys(kept.clone())), Code::GuardNotDue);
    story.is_taken_from(2, "m", (session(1), seq));
    story.now = story.now.plus(1);
    assert_eq!(story.ok(Command::ForgetKeys(kept)).events, []);
    assert!(story.model.rows.guards.is_empty() && story.model.rows.due.is_empty());
    story.is_called(2, "n", 1);
}

#[test]
fn k6_keys_of_a_session_that_goes_on_are_never_dropped_and_passed_ones_stay() {
    let mut story = two();
    story.run(not_applied("m", 1));
    story.is_called(2, "m", 1);
    story.run(complete(1));
    let mut kept = story.model.kept(session(1));
    story.now = kept.due;
    story.ok(Command::ForgetKeys(kept.clone()));
    story.ok(start(3, Some(lease(A, None))));
    assert_eq!(story.asks(3, "m", 1), Err(Code::GuardInFlight), "it is session 2's now");
    kept.session = session(2);
    assert_eq!(story.code(Command::ForgetKeys(kept)), Code::InvalidArgument);
}

#[test]
fn k9_a_step_keeps_its_key_over_its_attempts() {
    let mut story = two();
    story.run(not_applied("m", 1));
    let other = brought(&story.model, session(1), intent_with("m", 2, GuardPolicy::Fail, KEY + 1, INPUT));
    assert_eq!(story.run_refused(other), Code::StepConflict);
    story.is_called(1, "m", 2);
}

#[test]
fn k7_what_is_recorded_outlives_the_owners_lineage() {
    let mut story = two();
    let seq = story.run(guarded("m", 1, 5)).events[0].seq;
    story.run(complete(1));
    story.archive(1);
    story.is_taken_from(2, "m", (session(1), seq));

    let mut open = two();
    open.ok(Command::Terminate(cancel(session(1), None)));
    open.archive(1);
    assert_eq!(open.asks(2, "m", 1), Err(Code::GuardKeyInUse));
}

#[test]
fn k7_a_large_output_is_not_kept_and_its_key_is_refused_when_it_is_gone() {
    let mut story = two();
    let Op::StepCompleted(mut step) = guarded("m", 1, 5) else { panic!() };
    step.output.size = KEPT_BYTES_MAX + 1;
    story.run(Op::StepCompleted(step));
    assert!(story.model.rows.outcomes.values().all(|(_, output)| output.is_none()));
    story.run(complete(1));
    story.archive(1);
    let Op::GuardIntent { intent, mut guard, taken } = ask("m", 1) else { panic!() };
    guard.output_gone = true;
    let asked = append(session(2), 1, Op::GuardIntent { intent, guard, taken });
    assert_eq!(story.code(asked), Code::GuardKeyInUse);
}

impl Story {
    /// What archiving leaves of a session: nothing of its own, and what lies beside its lineage.
    fn archive(&mut self, n: u8) {
        self.model.heads.remove(&session(n));
        self.model.rows.steps.retain(|(known, _), _| *known != session(n));
    }
}

/// What every key's effects came to, told by events alone: a key is never called while another call of it may have
/// happened.
#[derive(Default)]
pub struct Effects {
    keys: BTreeMap<(SessionId, StepKey), Digest>,
    known: BTreeMap<(SessionId, StepKey), Effect>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Effect {
    MayHaveHappened,
    Happened(Seq),
    DidNot,
}

impl Effects {
    /// Takes in what a command came to.
    pub fn check(&mut self, command: &Command, events: &[Event]) {
        let Command::Append(sent) = command else {
            return events.iter().for_each(|event| self.settle(session_of(command), event));
        };
        for event in events {
            match (&event.body, &sent.op) {
                (Body::GuardIntent(intent), Op::GuardIntent { guard, .. }) => {
                    let place = (sent.session, intent.step_key.clone());
                    for (other, effect) in self.of(guard.digest) {
                        assert!(
                            other == place || effect == Effect::DidNot,
                            "{place:?} calls what {other:?} did: {effect:?}"
                        ); // K1, K2, K5
                    }
                    self.keys.insert(place.clone(), guard.digest);
                    self.known.insert(place, Effect::MayHaveHappened);
                }
                (Body::StepCompleted(step), Op::GuardIntent { guard, .. }) => {
                    let (from, seq) = step.deduplicated_from.expect("an intent alone is no outcome");
                    let mut others = self.of(guard.digest).into_iter();
                    let found =
                        others.any(|(other, effect)| other.0 == from && effect == Effect::Happened(seq));
                    assert!(found, "{} takes over what {from} did not record at {seq}", step.step_key); // K1
                    self.known.remove(&(sent.session, step.step_key.clone()));
                }
                _ => self.settle(sent.session, event),
            }
        }
    }

    fn of(&self, digest: Digest) -> Vec<((SessionId, StepKey), Effect)> {
        let known = self.known.iter().filter(|(place, _)| self.keys.get(place) == Some(&digest));
        known.map(|(place, effect)| (place.clone(), *effect)).collect()
    }

    fn settle(&mut self, session: SessionId, event: &Event) {
        let (key, effect) = match &event.body {
            Body::StepCompleted(step) => (&step.step_key, Effect::Happened(event.seq)),
            Body::StepFailed(step) => (&step.step_key, Effect::DidNot),
            Body::GuardResolved(resolved) => match &resolved.resolution {
                Resolution::Output(_) => (&resolved.step_key, Effect::Happened(event.seq)),
                Resolution::Failure(_) => (&resolved.step_key, Effect::MayHaveHappened),
                Resolution::NotApplied(_) | Resolution::Retry => (&resolved.step_key, Effect::DidNot),
            },
            _ => return,
        };
        if let Some(known) = self.known.get_mut(&(session, key.clone())) {
            *known = effect;
        }
    }
}

/// The session that a command which is no append is about.
fn session_of(command: &Command) -> SessionId {
    command.lookups().session.unwrap_or(SessionId([0; 16]))
}
