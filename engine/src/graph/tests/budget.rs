//! Budgets of a tree (`graph::budget`).

use super::story::*;
use crate::graph::budget::{Amounts, BudgetStart, Limits, OWNERS_MAX};
use crate::graph::command::{Code, Command, Op, Reply, Start};
use crate::graph::event::{Author, Body, LlmCall, PauseReason, StepCompleted, ZoneCommitted};
use crate::graph::ids::{NanoDollars, SessionId};
use crate::graph::session::Status;

/// A session that instance A runs at epoch 1 under `limits` of its own.
fn under(limits: Limits) -> Story {
    let mut story = Story::new();
    story.ok(owning(1, limits));
    story
}

fn owning(n: u8, limits: Limits) -> Start {
    Start { budget: BudgetStart { limits, inherited: Vec::new() }, ..start(n, Some(lease(A, None))) }
}

/// A child of session 1, run by A.
fn child(story: &mut Story, n: u8) -> SessionId {
    let inherited = story.model.heads[&session(1)].budget.owners.clone();
    let budget = BudgetStart { limits: Limits::default(), inherited };
    story.ok(Start { budget, ..start(n, Some(lease(A, None))) });
    session(n)
}

fn sums(story: &Story) -> (Amounts, Amounts) {
    let row = story.model.rows.budgets[&session(1)];
    (row.spent, row.reserved)
}

fn amounts(cost: i64, tokens: u64, steps: u64) -> Amounts {
    Amounts { cost: NanoDollars(cost), tokens, steps }
}

fn asked(key: &str, output_tokens: u64, cost: Option<i64>) -> Op {
    let call = LlmCall { request: None, response: None, usage: usage(output_tokens, cost) };
    Op::StepCompleted(StepCompleted { llm: Some(call), ..step(key, 1, 9) })
}

#[test]
fn b1_what_is_reserved_never_exceeds_a_limit_of_any_owner() {
    let mut story = under(limits(10, 1000));
    let other = child(&mut story, 2);
    story.run(reserve("a", 1, 1, 6));
    assert_eq!(story.code(append(other, 1, reserve("b", 1, 1, 5))), Code::BudgetExhausted);
    story.ok(append(other, 1, reserve("b", 1, 1, 4)));
    assert_eq!(story.run_refused(reserve("c", 1, 1, 1)), Code::BudgetExhausted);
    let refused = story.refused(story.append(1, reserve("c", 1, 1, 1)));
    assert!(
        refused.message.contains("0 of 10 nano-dollars left") && refused.message.contains("budget raise")
    );
    story.run(reserve("free", 1, 1, 0)); // nothing of what is used up is asked for
    assert_eq!(sums(&story), (Amounts::default(), amounts(10, 30, 3)));
}

#[test]
fn b3_an_outcome_frees_what_was_reserved_and_spends_what_was_used() {
    let mut story = under(limits(100, 10_000));
    story.run(reserve("a", 1, 1, 60));
    story.run(asked("a", 7, Some(25)));
    assert_eq!(sums(&story), (amounts(25, 107, 1), Amounts::default()));
    story.run(reserve("b", 1, 1, 60));
    story.run(failed("b", 1, false)); // it said nothing of any usage
    assert_eq!(sums(&story), (amounts(25, 107, 1), Amounts::default()));
    story.run(reserve("b", 2, 1, 60));
    story.run(Op::BudgetReleased { step_key: "b".into(), attempt: 2 });
    assert_eq!(sums(&story), (amounts(25, 107, 1), Amounts::default()));
    assert_eq!(story.run(Op::BudgetReleased { step_key: "b".into(), attempt: 2 }).events, []);
}

#[test]
fn b3_what_nobody_can_tell_is_spent_at_its_worst_case() {
    let mut story = under(limits(1000, 10_000));
    story.run(reserve("a", 1, 1, 60));
    story.run(asked("a", 7, None)); // an unknown price
    assert_eq!(sums(&story).0, amounts(60, 107, 1));
    story.run(entered("z", 1));
    story.run(reserve("z", 1, 1, 30));
    story.run(aborted("z", 1));
    assert_eq!(sums(&story), (amounts(90, 117, 1), Amounts::default()));
    story.run(reserve("b", 1, 1, 5));
    story.ok(acquire(1, lease(B, Some(A)), None));
    story.ok(story.append(2, reserve("b", 1, 1, 7))); // of a later run: the first one may have called
    assert_eq!(sums(&story), (amounts(95, 127, 1), amounts(7, 10, 1)));
    story.ok(story.append(2, complete(1))); // and nobody waited for this one
    assert_eq!(sums(&story), (amounts(102, 137, 1), Amounts::default()));
}

#[test]
fn b4_further_calls_of_a_zone_add_up_and_a_call_sent_again_adds_nothing() {
    let mut story = under(limits(100, 1000));
    story.run(entered("z", 1));
    story.run(reserve("z", 1, 1, 30));
    story.duplicate(reserve("z", 1, 1, 30));
    assert_eq!(story.run_refused(reserve("z", 1, 3, 30)), Code::StepConflict);
    story.run(reserve("z", 1, 2, 30));
    assert_eq!(sums(&story).1, amounts(60, 20, 1));
    assert_eq!(story.run_refused(reserve("z", 1, 3, 41)), Code::BudgetExhausted);
    let call = || LlmCall { request: None, response: None, usage: usage(0, Some(10)) };
    let Op::ZoneCommitted(zone) = committed("z", 1) else { panic!() };
    story.run(Op::ZoneCommitted(ZoneCommitted {
        llm_calls: vec![call(), call()],
        cost: NanoDollars(1),
        ..zone
    }));
    assert_eq!(sums(&story), (amounts(21, 200, 1), Amounts::default()));
    assert_eq!(story.run(reserve("z", 1, 1, 30)).events, [], "it has its outcome");
}

#[test]
fn b5_an_unknown_price_is_refused_only_where_money_is_limited() {
    let unpriced = |key: &str| {
        let Op::BudgetReserved(ask) = reserve(key, 1, 1, 0) else { panic!() };
        Op::BudgetReserved(crate::graph::budget::Ask { cost: None, ..ask })
    };
    assert_eq!(under(limits(100, 1000)).run_refused(unpriced("a")), Code::PriceUnknown);
    let mut story = under(Limits { tokens: Some(15), ..Limits::default() });
    story.run(unpriced("a"));
    assert_eq!(story.run_refused(unpriced("b")), Code::BudgetExhausted);
    let mut story = Story::running();
    let decision = story.run(unpriced("a"));
    assert_eq!((decision.reply, decision.events), (Reply::Done { entry: None }, vec![]));
}

#[test]
fn b6_limits_grow_and_never_shrink_and_raising_resumes_the_owner() {
    let mut story = under(limits(10, 1000));
    story.run(Op::Pause { reason: PauseReason::Budget, step_key: Some("a".into()), details: None });
    assert_eq!(story.run_refused(reserve("a", 1, 1, 1)), Code::SessionPaused);
    assert_eq!(story.code(raise(session(1), 9)), Code::InvalidArgument);
    let mut steps = raise(session(1), 20);
    steps.limits.steps = Some(5);
    assert_eq!(story.code(steps), Code::InvalidArgument);
    let decision = story.ok(raise(session(1), 20));
    assert!(matches!(bodies(&decision)[..], [Body::BudgetRaised { .. }, Body::SessionResumed { .. }]));
    assert_eq!(story.ok(raise(session(1), 20)).events, []);
    story.run(reserve("a", 1, 1, 15));
    let other = child(&mut story, 2);
    assert_eq!(story.code(raise(other, 20)), Code::InvalidArgument);
}

#[test]
fn b6_budgets_lie_above_one_another_to_a_bounded_depth() {
    let mut story = under(limits(100, 1000));
    for n in 2..=OWNERS_MAX as u8 {
        let inherited = story.model.heads[&session(n - 1)].budget.owners.clone();
        let budget = BudgetStart { limits: limits(50, 500), inherited };
        story.ok(Start { budget, ..start(n, Some(lease(A, None))) });
    }
    let last = session(OWNERS_MAX as u8);
    let inherited = story.model.heads[&last].budget.owners.clone();
    assert_eq!((inherited.len(), inherited[0].session, inherited[7].session), (OWNERS_MAX, last, session(1)));
    let deeper = BudgetStart { limits: limits(1, 1), inherited };
    assert_eq!(story.code(Start { budget: deeper, ..start(99, None) }), Code::InvalidArgument);
    story.ok(append(last, 1, reserve("a", 1, 1, 20)));
    assert_eq!(sums(&story).1, amounts(20, 10, 1));
    assert_eq!(story.code(append(last, 1, reserve("b", 1, 1, 31))), Code::BudgetExhausted);
}

#[test]
fn b7_past_its_deadline_nothing_is_reserved_and_the_owner_is_paused_once() {
    let mut story = under(Limits { wall_ms: Some(500), ..Limits::default() });
    let other = child(&mut story, 2);
    let due = |n| Command::BudgetDue { session: session(n) };
    assert_eq!(story.model.rows.due.len(), 1);
    assert_eq!(story.ok(due(1)).events, []);
    story.now = story.now.plus(499);
    story.run(reserve("a", 1, 1, 0));
    story.now = story.now.plus(1);
    assert_eq!(story.code(append(other, 1, reserve("a", 1, 1, 0))), Code::BudgetExhausted);
    let decision = story.ok(due(1));
    assert_eq!(decision.events[0].author, Author::Driver);
    assert!(matches!(story.head().status, Status::Paused { reason: PauseReason::Budget, .. }));
    assert!(story.model.rows.due.is_empty());
    let mut longer = raise(session(1), 0);
    longer.limits = Limits { wall_ms: Some(900), ..Limits::default() };
    story.ok(longer);
    assert_eq!(story.model.rows.due.len(), 1);
    story.ok(append(other, 1, reserve("a", 1, 1, 0)));
    story.run(complete(1));
    assert!(story.model.rows.due.is_empty());
}
