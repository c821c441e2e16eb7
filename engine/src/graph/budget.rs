//! Budgets: what a tree of sessions may spend at most, in money, tokens, steps and wall time.
//!
//! Owns what a session has spent and reserved (`SessionBudget`, part of its head), the sums over a tree (`BudgetRow`, one
//! per session that was started with limits) and when a reservation is accepted. Never prices anything and never measures
//! time: costs, worst cases and the time come with the commands.
//!
//! B1. A reservation is accepted only if, for every owner up the tree and every kind it limits, spent + reserved + asked
//!     is at most the limit: however many sessions ask at once, what was reserved never exceeds a limit.
//! B2. An owner's row is the sum over the sessions that name the owner: sums commute, so rows are rebuilt from heads.
//! B3. A reservation leaves with the outcome of its attempt, and what was used is spent. What nobody can tell is spent at
//!     its worst case: a roll-back, a later run's reservation of the same step, an end before the outcome, an unknown price.
//!     Steps are always known: only an outcome is one.
//! B4. A step key has at most one reservation. A further call of the same attempt adds to it; sent again, it adds nothing.
//! B5. Under a limit on money a reservation says its cost: an unknown price is refused before the call.
//! B6. Owners are fixed when a session starts, nearest first, at most `OWNERS_MAX`. Limits grow and never shrink; what was
//!     not limited stays so.
//! B7. Past its deadline an owner lets nothing be reserved; its own session is paused for that once per deadline.

use std::sync::Arc;

use super::command::{Code, Rejection, Reply};
use super::decide::{Decision, Run, View, conflict, invalid, nothing};
use super::draft::{Draft, ledger_time};
use super::end;
use super::event::{Author, Body, Event, LlmCall, PauseReason, Usage};
use super::guard;
use super::ids::{DedupeId, Epoch, NanoDollars, SessionId, StepKey, TimeMs};
use super::room;
use super::session::{Head, Status};

/// Most budgets above one another.
pub const OWNERS_MAX: usize = 8;

/// What may be spent; `None`: not limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    pub cost: Option<NanoDollars>,
    /// Input (cached or not) and output tokens together.
    pub tokens: Option<u64>,
    /// Outcomes of steps and zones.
    pub steps: Option<u64>,
    /// Milliseconds from the owner's start.
    pub wall_ms: Option<u64>,
}

/// Which kinds an owner limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kinds {
    pub cost: bool,
    pub tokens: bool,
    pub steps: bool,
    pub wall: bool,
}

/// A session whose limits a session is under, itself included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetOwner {
    pub session: SessionId,
    pub kinds: Kinds,
}

/// What a session is started with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BudgetStart {
    /// Its own; nothing limited: it owns no budget.
    pub limits: Limits,
    /// Of its parent, nearest first.
    pub inherited: Vec<BudgetOwner>,
}

/// Money, tokens and steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amounts {
    pub cost: NanoDollars,
    pub tokens: u64,
    pub steps: u64,
}

/// A reservation whose attempt has no outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    pub step_key: StepKey,
    pub attempt: u32,
    /// Epoch of the run that reserved.
    pub epoch: Epoch,
    /// Calls of the attempt that are reserved for; more than one only in a zone.
    pub calls: u32,
    pub amounts: Amounts,
}

/// A session's part of the budgets it is under.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionBudget {
    /// Nearest first; empty: under no budget, and nothing below is counted.
    pub owners: Vec<BudgetOwner>,
    /// Its own limits.
    pub limits: Limits,
    pub spent: Amounts,
    pub reservations: Vec<Reservation>,
    /// Its deadline has passed and it was paused for that.
    pub overdue: bool,
}

/// Index row of a budget, under the session that owns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BudgetRow {
    pub limits: Limits,
    pub spent: Amounts,
    pub reserved: Amounts,
    /// Start and wall time; `None`: not limited.
    pub deadline: Option<TimeMs>,
    /// When it was last raised; 0: never.
    pub raised: TimeMs,
}

/// How an event changes the row of one owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BudgetChange {
    /// The owner's session began.
    Put(BudgetRow),
    /// The owner's limits were raised.
    Limits { limits: Limits, deadline: Option<TimeMs>, at: TimeMs },
    /// A session of the tree spent and reserved.
    Sums { spent: Amounts, reserved_before: Amounts, reserved_after: Amounts },
}

/// What a run asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    pub step_key: StepKey,
    pub attempt: u32,
    /// Which call of the attempt, from 1.
    pub call: u32,
    /// `None`: the price is unknown.
    pub cost: Option<NanoDollars>,
    pub tokens: u64,
    pub steps: u64,
}

/// A larger budget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raise {
    pub session: SessionId,
    /// `None`: as before.
    pub limits: Limits,
    pub by: Arc<str>,
    pub dedupe: Option<DedupeId>,
}

/// Reserves the worst case of a call before it is made (B1, B4, B5).
pub(super) fn reserve(run: &Run<'_>, view: &impl View, ask: &Ask) -> Result<Decision, Rejection> {
    let budget = &run.head.budget;
    let settled = run.row.as_ref().is_some_and(|row| guard::has_outcome(row.state));
    if budget.owners.is_empty() || settled {
        return Ok(nothing(run.head.session, Reply::Done { entry: None }));
    }
    match budget.open(&ask.step_key).filter(|open| open.is_of(run.append.epoch, ask.attempt)) {
        Some(open) if ask.call <= open.calls => return Ok(run.duplicate(run.head.seq)), // B4
        Some(open) if ask.call == open.calls.saturating_add(1) => {}
        None if ask.call == 1 => {}
        other => {
            let calls = other.map_or(0, |open| open.calls);
            let message =
                format!("call {} of step {} follows call {calls}; number them", ask.call, ask.step_key);
            return Err(conflict(message));
        }
    }
    run.unless_paused()?;
    if run.head.zone(&ask.step_key).is_none() && run.head.intent(&ask.step_key).is_none() {
        room::check_room(run.head, &ask.step_key, 0)?;
    }
    let amounts = check_owners(view, budget, ask, ledger_time(run.head, run.now))?;
    let mut draft = run.draft();
    let (step_key, attempt, call) = (ask.step_key.clone(), ask.attempt, ask.call);
    let body = Body::BudgetReserved { step_key, attempt, call, amounts };
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

fn check_owners(
    view: &impl View,
    budget: &SessionBudget,
    ask: &Ask,
    time: TimeMs,
) -> Result<Amounts, Rejection> {
    if ask.cost.is_none() && budget.owners.iter().any(|owner| owner.kinds.cost) {
        let message = format!(
            "step {} has no known price and the budget limits money; add its model to the price file",
            ask.step_key
        );
        return Err(Rejection::new(Code::PriceUnknown, message)); // B5
    }
    let cost = ask.cost.unwrap_or_default();
    let asked = Amounts { cost, tokens: ask.tokens, steps: ask.steps };
    for owner in &budget.owners {
        let Some(row) = view.budget(owner.session) else {
            return Err(invalid(format!("the budget of session {} is not here", owner.session)));
        };
        row.check(owner.session, asked, time)?;
    }
    Ok(asked)
}

/// The run made no call after all: nothing was used.
pub(super) fn release(run: &Run<'_>, key: &StepKey, attempt: u32) -> Decision {
    let open = run.head.budget.open(key).filter(|open| open.is_of(run.append.epoch, attempt));
    if open.is_none() {
        return nothing(run.head.session, Reply::Done { entry: None });
    }
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::BudgetReleased { step_key: key.clone(), attempt });
    draft.appended(seq)
}

/// An operator raises the limits of a session that owns a budget (B6); it is resumed if the budget is why it is paused.
pub(super) fn raise(head: &Head, raise: &Raise, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(seq) = end::seen(head, raise.dedupe) {
        return Ok(end::seen_before(head, seq));
    }
    if head.status.is_terminal() {
        return Err(end::over(head));
    }
    if head.budget.limits == Limits::default() {
        let owner = head.budget.owners.first().map(|owner| format!("; session {} does", owner.session));
        let message = format!("session {} owns no budget{}", head.session, owner.unwrap_or_default());
        return Err(invalid(message));
    }
    let limits = head.budget.limits.raised(&raise.limits)?;
    let paused = matches!(head.status, Status::Paused { reason: PauseReason::Budget, .. });
    if limits == head.budget.limits && !paused {
        return Ok(nothing(head.session, Reply::Done { entry: None }));
    }
    let mut draft = Draft::after(head, now);
    let by = raise.by.clone();
    let seq = draft.push(Author::Operator(raise.dedupe), Body::BudgetRaised { limits, by: by.clone() });
    if paused {
        draft.push(Author::Operator(None), Body::SessionResumed { by, retry: false });
    }
    Ok(draft.appended(seq))
}

/// The wall time of the owner is over (B7).
pub(super) fn due(head: &Head, now: TimeMs) -> Decision {
    let over = head.budget_due().is_some_and(|at| at <= ledger_time(head, now));
    if !over || matches!(head.status, Status::Paused { .. }) {
        return nothing(head.session, Reply::Done { entry: None });
    }
    let mut draft = Draft::after(head, now);
    let body = Body::SessionPaused { reason: PauseReason::Budget, step_key: None, details: None };
    let seq = draft.push(Author::Driver, body);
    draft.appended(seq)
}

/// B6.
pub(super) fn check_start(start: &BudgetStart) -> Result<(), Rejection> {
    if start.inherited.len() >= OWNERS_MAX && start.limits != Limits::default() {
        let message =
            format!("{OWNERS_MAX} budgets are above one another already; start it without limits of its own");
        return Err(invalid(message));
    }
    Ok(())
}

impl Limits {
    pub fn kinds(&self) -> Kinds {
        Kinds {
            cost: self.cost.is_some(),
            tokens: self.tokens.is_some(),
            steps: self.steps.is_some(),
            wall: self.wall_ms.is_some(),
        }
    }

    /// When the wall time of a session is over that began at `started`.
    pub fn deadline(&self, started: TimeMs) -> Option<TimeMs> {
        self.wall_ms.map(|ms| started.plus(ms))
    }

    /// B6.
    fn raised(&self, to: &Limits) -> Result<Limits, Rejection> {
        Ok(Limits {
            cost: larger("cost_nanos", self.cost, to.cost)?,
            tokens: larger("tokens", self.tokens, to.tokens)?,
            steps: larger("steps", self.steps, to.steps)?,
            wall_ms: larger("wall_ms", self.wall_ms, to.wall_ms)?,
        })
    }
}

fn larger<T: Copy + PartialOrd + std::fmt::Debug>(
    kind: &str,
    from: Option<T>,
    to: Option<T>,
) -> Result<Option<T>, Rejection> {
    match (from, to) {
        (from, None) => Ok(from),
        (None, Some(_)) => Err(invalid(format!("{kind} is not limited; leave it out"))),
        (Some(from), Some(to)) if to < from => {
            Err(invalid(format!("{kind} is {from:?} and grows only; name at least as much, not {to:?}")))
        }
        (Some(_), Some(to)) => Ok(Some(to)),
    }
}

impl BudgetStart {
    /// The owners of a session that is started with it (B6).
    pub fn owners(&self, session: SessionId) -> Vec<BudgetOwner> {
        let kinds = self.limits.kinds();
        let own = (kinds != Kinds::default()).then_some(BudgetOwner { session, kinds });
        own.into_iter().chain(self.inherited.iter().copied()).collect()
    }
}

impl Amounts {
    pub fn plus(self, other: Self) -> Self {
        Self {
            cost: NanoDollars(self.cost.0.saturating_add(other.cost.0)),
            tokens: self.tokens.saturating_add(other.tokens),
            steps: self.steps.saturating_add(other.steps),
        }
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            cost: NanoDollars(self.cost.0.saturating_sub(other.cost.0)),
            tokens: self.tokens.saturating_sub(other.tokens),
            steps: self.steps.saturating_sub(other.steps),
        }
    }

    /// The worst case as far as nobody can tell what was used (B3).
    fn unknowable(self) -> Self {
        Self { steps: 0, ..self }
    }
}

impl Reservation {
    fn is_of(&self, epoch: Epoch, attempt: u32) -> bool {
        self.epoch == epoch && self.attempt == attempt
    }
}

impl BudgetRow {
    /// Takes in a change; `before` is the row as it was, `None` before the first.
    #[must_use]
    pub fn changed(before: Option<Self>, change: BudgetChange) -> Self {
        let row = before.unwrap_or_default();
        match change {
            BudgetChange::Put(row) => row,
            BudgetChange::Limits { limits, deadline, at } => Self { limits, deadline, raised: at, ..row },
            BudgetChange::Sums { spent, reserved_before, reserved_after } => Self {
                spent: row.spent.plus(spent),
                reserved: row.reserved.plus(reserved_after).minus(reserved_before),
                ..row
            },
        }
    }

    /// B1, B7.
    fn check(&self, owner: SessionId, asked: Amounts, time: TimeMs) -> Result<(), Rejection> {
        let used = self.spent.plus(self.reserved);
        let short = |kind: &str, limit: u128, used: u128, asked: u128| {
            let left = limit.saturating_sub(used);
            let message = format!(
                "the budget of session {owner} has {left} of {limit} {kind} left and {asked} are asked for; raise it with `cellaflow sessions budget raise {owner}`"
            );
            Err(Rejection::new(Code::BudgetExhausted, message))
        };
        let nanos = |cost: NanoDollars| u128::try_from(cost.0).unwrap_or(0);
        let cost =
            self.limits.cost.map(|limit| ("nano-dollars", nanos(limit), nanos(used.cost), nanos(asked.cost)));
        let tokens =
            self.limits.tokens.map(|limit| ("tokens", limit.into(), used.tokens.into(), asked.tokens.into()));
        let steps =
            self.limits.steps.map(|limit| ("steps", limit.into(), used.steps.into(), asked.steps.into()));
        for (kind, limit, used, asked) in [cost, tokens, steps].into_iter().flatten() {
            if asked > 0 && used.saturating_add(asked) > limit {
                return short(kind, limit, used, asked);
            }
        }
        match self.deadline {
            Some(deadline) if deadline <= time => {
                short("milliseconds", u128::from(self.limits.wall_ms.unwrap_or(0)), u128::MAX, 1)
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Head {
    /// When the driver has to look at the session's wall time.
    #[must_use]
    pub fn budget_due(&self) -> Option<TimeMs> {
        let waits = self.is_live() && !self.budget.overdue;
        waits.then(|| self.budget.limits.deadline(self.started)).flatten()
    }
}

impl SessionBudget {
    /// Of a session that begins.
    pub fn started(session: SessionId, start: &BudgetStart) -> Self {
        Self { owners: start.owners(session), limits: start.limits, ..Self::default() }
    }

    /// What is reserved and has no outcome.
    pub fn reserved(&self) -> Amounts {
        self.reservations.iter().fold(Amounts::default(), |sum, open| sum.plus(open.amounts))
    }

    /// The open reservation of a step key.
    pub fn open(&self, key: &str) -> Option<&Reservation> {
        self.reservations.iter().find(|open| *open.step_key == *key)
    }

    /// Takes in an event; `deadline` is the session's own (B3, B4).
    pub(super) fn follow(&mut self, event: &Event, deadline: Option<TimeMs>) -> Result<(), String> {
        match &event.body {
            Body::BudgetRaised { limits, by: _ } => {
                self.limits = *limits;
                self.overdue = false;
            }
            Body::SessionPaused { reason: PauseReason::Budget, .. } if event.author == Author::Driver => {
                self.overdue = deadline.is_some_and(|at| at <= event.time);
            }
            _ => {}
        }
        if self.owners.is_empty() {
            return match &event.body {
                Body::BudgetReserved { .. } | Body::BudgetReleased { .. } | Body::BudgetRaised { .. } => {
                    Err("a session without a budget reserves or raises".to_owned())
                }
                _ => Ok(()),
            };
        }
        self.count(event)
    }

    fn count(&mut self, event: &Event) -> Result<(), String> {
        match &event.body {
            Body::BudgetReserved { step_key, attempt, call, amounts } => {
                let Author::Worker(epoch) = event.author else {
                    return Err(format!("step {step_key} was reserved for by no run"));
                };
                return self.reserve(Reservation {
                    step_key: step_key.clone(),
                    attempt: *attempt,
                    epoch,
                    calls: *call,
                    amounts: *amounts,
                });
            }
            Body::BudgetReleased { step_key, attempt } => {
                if self.open(step_key).is_none_or(|open| open.attempt != *attempt) {
                    return Err(format!("attempt {attempt} of step {step_key} has no reservation"));
                }
                self.settle(step_key, Used::default());
            }
            Body::SessionCompleted { .. }
            | Body::SessionFailed { .. }
            | Body::SessionCancelled { .. }
            | Body::SessionContinued(_) => {
                for open in std::mem::take(&mut self.reservations) {
                    self.spent = self.spent.plus(open.amounts.unknowable());
                }
            }
            body => {
                if let Some((key, used)) = outcome(body) {
                    self.settle(key, used);
                }
            }
        }
        Ok(())
    }

    fn reserve(&mut self, asked: Reservation) -> Result<(), String> {
        let before = self.take(&asked.step_key);
        let calls_before = match &before {
            Some(open) if open.is_of(asked.epoch, asked.attempt) => open.calls,
            Some(_) | None => 0,
        };
        if asked.calls != calls_before + 1 {
            return Err(format!("call {} of step {} follows {calls_before}", asked.calls, asked.step_key));
        }
        let mut open = asked;
        match before {
            Some(before) if calls_before > 0 => open.amounts = open.amounts.plus(before.amounts),
            Some(before) => self.spent = self.spent.plus(before.amounts.unknowable()), // superseded
            None => {}
        }
        self.reservations.push(open);
        Ok(())
    }

    fn settle(&mut self, key: &str, used: Used) {
        let reserved = self.take(key).map(|open| open.amounts).unwrap_or_default();
        let unknown = if used.unknown { reserved } else { Amounts::default() };
        self.spent = self.spent.plus(Amounts {
            cost: used.amounts.cost.max(unknown.cost),
            tokens: used.amounts.tokens.max(if used.rolled_back { unknown.tokens } else { 0 }),
            steps: used.amounts.steps,
        });
    }

    fn take(&mut self, key: &str) -> Option<Reservation> {
        let at = self.reservations.iter().position(|open| *open.step_key == *key)?;
        Some(self.reservations.remove(at))
    }
}

/// What an outcome says was used.
#[derive(Clone, Copy, Default)]
struct Used {
    amounts: Amounts,
    /// Some of its cost is not known.
    unknown: bool,
    /// Nor how many tokens.
    rolled_back: bool,
}

impl Used {
    fn steps(n: bool) -> Self {
        Self { amounts: Amounts { steps: u64::from(n), ..Amounts::default() }, ..Self::default() }
    }

    fn own(self, cost: NanoDollars) -> Self {
        Self { amounts: self.amounts.plus(Amounts { cost, ..Amounts::default() }), ..self }
    }

    fn call(self, usage: &Usage) -> Self {
        let tokens =
            [usage.input_tokens, usage.cached_read_tokens, usage.cache_write_tokens, usage.output_tokens];
        let used = Amounts {
            cost: usage.cost.unwrap_or_default(),
            tokens: tokens.into_iter().fold(0, u64::saturating_add),
            steps: 0,
        };
        let unknown = self.unknown || usage.cost.is_none();
        Self { amounts: self.amounts.plus(used), unknown, ..self }
    }

    fn calls<'a>(self, calls: impl IntoIterator<Item = &'a LlmCall>) -> Self {
        calls.into_iter().fold(self, |used, call| used.call(&call.usage))
    }
}

/// The step key whose attempt an event ends, and what it used.
fn outcome(body: &Body) -> Option<(&StepKey, Used)> {
    use super::event::Resolution;
    match body {
        Body::StepCompleted(step) => {
            Some((&step.step_key, Used::steps(true).own(step.cost).calls(&step.llm)))
        }
        Body::StepFailed(step) => {
            let used = step.usage.iter().fold(Used::steps(step.is_final), Used::call);
            Some((&step.step_key, used))
        }
        Body::GuardResolved(resolved) => {
            let done = matches!(resolved.resolution, Resolution::Output(_) | Resolution::Failure(_));
            Some((&resolved.step_key, Used::steps(done)))
        }
        Body::ZoneCommitted(zone) => {
            Some((&zone.zone_key, Used::steps(true).own(zone.cost).calls(&zone.llm_calls)))
        }
        Body::ZoneFailed(zone) => {
            let used = zone.usage.iter().fold(Used::steps(zone.is_final), Used::call);
            Some((&zone.zone_key, used))
        }
        Body::ZoneRolledBack(zone) => {
            Some((&zone.zone_key, Used { unknown: true, rolled_back: true, ..Used::default() }))
        }
        _ => None,
    }
}
