//! The stored form of budgets: in heads, in events and in rows of their own.
//!
//! 1. A kind that is not limited is absent, never 0; amounts of nothing are absent where the field is optional.
//! 2. The key of a reservation is stored once: a zone with a call in it, or a guarded step, has it already.

use cellaflow_proto::disk;

use super::fields::{Malformed, bytes_of, exact, malformed, present};
use crate::graph::budget::{
    Amounts, BudgetOwner, BudgetRow, BudgetStart, Kinds, Limits, Reservation, SessionBudget,
};
use crate::graph::ids::{Epoch, NanoDollars, SessionId, TimeMs};
use crate::graph::session::Head;

const COST: u32 = 1;
const TOKENS: u32 = 2;
const STEPS: u32 = 4;
const WALL: u32 = 8;

pub(super) fn limits_to(limits: &Limits) -> Option<disk::BudgetLimits> {
    (*limits != Limits::default()).then(|| disk::BudgetLimits {
        cost_nanos: limits.cost.map(|cost| cost.0),
        tokens: limits.tokens,
        steps: limits.steps,
        wall_ms: limits.wall_ms,
    })
}

pub(super) fn limits_from(stored: Option<&disk::BudgetLimits>) -> Limits {
    stored.map_or_else(Limits::default, |stored| Limits {
        cost: stored.cost_nanos.map(NanoDollars),
        tokens: stored.tokens,
        steps: stored.steps,
        wall_ms: stored.wall_ms,
    })
}

pub(super) fn amounts_to(amounts: Amounts) -> disk::BudgetAmounts {
    disk::BudgetAmounts { cost_nanos: amounts.cost.0, tokens: amounts.tokens, steps: amounts.steps }
}

pub(super) fn amounts_or_none(amounts: Amounts) -> Option<disk::BudgetAmounts> {
    (amounts != Amounts::default()).then(|| amounts_to(amounts))
}

pub(super) fn amounts_from(stored: disk::BudgetAmounts) -> Amounts {
    Amounts { cost: NanoDollars(stored.cost_nanos), tokens: stored.tokens, steps: stored.steps }
}

pub(super) fn owner_to(owner: &BudgetOwner) -> disk::BudgetOwner {
    let Kinds { cost, tokens, steps, wall } = owner.kinds;
    let kinds = [(cost, COST), (tokens, TOKENS), (steps, STEPS), (wall, WALL)];
    let kinds = kinds.into_iter().filter(|(limited, _)| *limited).map(|(_, bit)| bit).sum();
    disk::BudgetOwner { session_id: bytes_of(&owner.session.0), kinds }
}

pub(super) fn owner_from(stored: disk::BudgetOwner) -> Result<BudgetOwner, Malformed> {
    let kinds = stored.kinds;
    if kinds == 0 || kinds > COST + TOKENS + STEPS + WALL {
        return Err(malformed("budget_owner.kinds", format!("has the unknown value {kinds}")));
    }
    let has = |bit| kinds & bit != 0;
    Ok(BudgetOwner {
        session: SessionId(exact(&stored.session_id, "budget_owner.session_id")?),
        kinds: Kinds { cost: has(COST), tokens: has(TOKENS), steps: has(STEPS), wall: has(WALL) },
    })
}

fn owners_from(stored: Vec<disk::BudgetOwner>) -> Result<Vec<BudgetOwner>, Malformed> {
    stored.into_iter().map(owner_from).collect()
}

pub(super) fn start_to(start: &BudgetStart) -> Option<disk::BudgetStart> {
    (*start != BudgetStart::default()).then(|| disk::BudgetStart {
        limits: limits_to(&start.limits),
        inherited: start.inherited.iter().map(owner_to).collect(),
    })
}

pub(super) fn start_from(stored: Option<&disk::BudgetStart>) -> Result<BudgetStart, Malformed> {
    let Some(stored) = stored else { return Ok(BudgetStart::default()) };
    Ok(BudgetStart {
        limits: limits_from(stored.limits.as_ref()),
        inherited: owners_from(stored.inherited.clone())?,
    })
}

/// A key that an intent or zone of the head has, too, is stored once (2).
fn reservation_to(head: &Head, open: &Reservation) -> disk::BudgetReservation {
    let nth = |at: Option<usize>| at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(0);
    let intent = nth(head.intents.iter().position(|intent| intent.step_key == open.step_key));
    let zone = nth(head.zones.iter().position(|zone| zone.zone_key == open.step_key));
    let own = intent == 0 && zone == 0;
    disk::BudgetReservation {
        step_key: if own { open.step_key.to_string() } else { String::new() },
        intent,
        zone,
        attempt: open.attempt,
        epoch: open.epoch.0,
        calls: open.calls,
        amounts: amounts_or_none(open.amounts),
    }
}

fn reservation_from(head: &disk::Head, stored: disk::BudgetReservation) -> Result<Reservation, Malformed> {
    let nth = |n: u32| usize::try_from(n).ok()?.checked_sub(1);
    let intent = nth(stored.intent).map(|at| head.intents.get(at).map(|intent| intent.step_key.as_str()));
    let zone = nth(stored.zone).map(|at| head.zones.get(at).map(|zone| zone.zone_key.as_str()));
    let key = intent.or(zone).unwrap_or(Some(stored.step_key.as_str()));
    let key = present(key, "budget_reservation.intent")?;
    Ok(Reservation {
        step_key: key.into(),
        attempt: stored.attempt,
        epoch: Epoch(stored.epoch),
        calls: stored.calls,
        amounts: stored.amounts.map(amounts_from).unwrap_or_default(),
    })
}

pub(super) fn reservations_to(head: &Head) -> Vec<disk::BudgetReservation> {
    head.budget.reservations.iter().map(|open| reservation_to(head, open)).collect()
}

pub(super) fn budget_from(head: &mut disk::Head) -> Result<SessionBudget, Malformed> {
    let reservations = std::mem::take(&mut head.budget_reservations);
    let reservations =
        reservations.into_iter().map(|open| reservation_from(head, open)).collect::<Result<_, _>>()?;
    Ok(SessionBudget {
        owners: owners_from(std::mem::take(&mut head.budget_owners))?,
        limits: limits_from(head.budget_limits.as_ref()),
        spent: head.budget_spent.map(amounts_from).unwrap_or_default(),
        reservations,
        overdue: head.budget_overdue,
    })
}

pub(super) fn row_to(row: &BudgetRow) -> disk::BudgetRow {
    disk::BudgetRow {
        limits: limits_to(&row.limits),
        spent: Some(amounts_to(row.spent)),
        reserved: Some(amounts_to(row.reserved)),
        deadline_ms: row.deadline.map(|at| at.0),
        raised_ms: row.raised.0,
    }
}

pub(super) fn row_from(stored: disk::BudgetRow) -> Result<BudgetRow, Malformed> {
    Ok(BudgetRow {
        limits: limits_from(stored.limits.as_ref()),
        spent: amounts_from(present(stored.spent, "budget_row.spent")?),
        reserved: amounts_from(present(stored.reserved, "budget_row.reserved")?),
        deadline: stored.deadline_ms.map(TimeMs),
        raised: TimeMs(stored.raised_ms),
    })
}
