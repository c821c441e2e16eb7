//! Budgets on the wire: 0 is "not limited" there and absent here.

use cellaflow_proto::v1;

use super::fields::{self, Field};
use crate::graph::budget::{Amounts, Ask, BudgetRow, BudgetStart, Limits, SessionBudget};
use crate::graph::command::{Op, Rejection};
use crate::graph::ids::{NanoDollars, SessionId};

/// Longest wall time of a budget in milliseconds: ten years.
const WALL_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

/// Reads limits.
///
/// # Errors
/// `invalid_argument` for an amount that is out of range.
pub fn limits(budget: Option<&v1::Budget>) -> Result<Limits, Rejection> {
    const AT: &str = "budget";
    let Some(budget) = budget else { return Ok(Limits::default()) };
    let cost = fields::cost(Field(AT, "cost_nanos"), budget.cost_nanos)?;
    let tokens = fields::at_most(Field(AT, "tokens"), budget.tokens, super::limits::TOKENS_MAX)?;
    let wall_ms = fields::at_most(Field(AT, "wall_ms"), budget.wall_ms, WALL_MS_MAX)?;
    let limited = |amount: u64| (amount != 0).then_some(amount);
    Ok(Limits {
        cost: (cost.0 != 0).then_some(cost),
        tokens: limited(tokens),
        steps: limited(budget.steps),
        wall_ms: limited(wall_ms),
    })
}

pub(super) fn reserved(reserved: v1::BudgetReserved) -> Result<Op, Rejection> {
    const AT: &str = "budget_reserved";
    let call = fields::attempt(Field(AT, "call"), reserved.call)?;
    let cost = Field(AT, "cost_nanos");
    Ok(Op::BudgetReserved(Ask {
        step_key: fields::step_key(Field(AT, "step_key"), reserved.step_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), reserved.attempt)?,
        call,
        cost: reserved.cost_nanos.map(|nanos| fields::cost(cost, nanos)).transpose()?,
        tokens: fields::at_most(Field(AT, "tokens"), reserved.tokens, super::limits::TOKENS_MAX)?,
        steps: fields::at_most(Field(AT, "steps"), reserved.steps, 1)?,
    }))
}

pub(super) fn released(released: v1::BudgetReleased) -> Result<Op, Rejection> {
    const AT: &str = "budget_released";
    Ok(Op::BudgetReleased {
        step_key: fields::step_key(Field(AT, "step_key"), released.step_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), released.attempt)?,
    })
}

pub(super) fn limits_to_wire(limits: &Limits) -> v1::Budget {
    v1::Budget {
        cost_nanos: limits.cost.unwrap_or_default().0,
        tokens: limits.tokens.unwrap_or(0),
        steps: limits.steps.unwrap_or(0),
        wall_ms: limits.wall_ms.unwrap_or(0),
    }
}

fn use_to_wire(amounts: Amounts) -> v1::BudgetUse {
    v1::BudgetUse { cost_nanos: amounts.cost.0, tokens: amounts.tokens, steps: amounts.steps }
}

fn own(limits: &Limits) -> Option<v1::Budget> {
    (*limits != Limits::default()).then(|| limits_to_wire(limits))
}

pub(super) fn reserved_to_wire(
    step_key: &str,
    attempt: u32,
    call: u32,
    amounts: Amounts,
) -> v1::BudgetReserved {
    let NanoDollars(cost) = amounts.cost;
    v1::BudgetReserved {
        step_key: step_key.to_owned(),
        attempt,
        call,
        cost_nanos: Some(cost),
        tokens: amounts.tokens,
        steps: amounts.steps,
    }
}

/// A session's part of its budgets; `None`: it is under none.
pub(super) fn of_session(budget: &SessionBudget) -> Option<v1::SessionBudget> {
    (!budget.owners.is_empty()).then(|| v1::SessionBudget {
        owners: budget.owners.iter().map(owner).collect(),
        limits: own(&budget.limits),
        spent: Some(use_to_wire(budget.spent)),
        reserved: Some(use_to_wire(budget.reserved())),
    })
}

pub(super) fn of_start(session: SessionId, start: &BudgetStart) -> Option<v1::SessionBudget> {
    let started = SessionBudget::started(session, start);
    of_session(&started).map(|wire| v1::SessionBudget { spent: None, reserved: None, ..wire })
}

fn owner(owner: &crate::graph::budget::BudgetOwner) -> v1::BudgetOwner {
    let kinds = owner.kinds;
    v1::BudgetOwner {
        session_id: owner.session.to_string(),
        cost: kinds.cost,
        tokens: kinds.tokens,
        steps: kinds.steps,
        wall: kinds.wall,
    }
}

/// Writes how a budget stands.
#[must_use]
pub fn budget_state(owner: SessionId, row: &BudgetRow) -> v1::BudgetState {
    v1::BudgetState {
        session_id: owner.to_string(),
        limits: Some(limits_to_wire(&row.limits)),
        spent: Some(use_to_wire(row.spent)),
        reserved: Some(use_to_wire(row.reserved)),
        deadline_ms: row.deadline.map_or(0, |at| at.0),
    }
}
