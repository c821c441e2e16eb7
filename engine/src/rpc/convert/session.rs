//! Heads and refusals, as callers see them.

use cellaflow_proto::v1;

use super::fields::{self, Field};
use super::{budget, enums, limits, waits};
use crate::graph::command::Rejection;
use crate::graph::event::PauseReason;
use crate::graph::ids::StepKey;
use crate::graph::session::{Counters, Head, IntentState, OPEN_MAX, OpenIntent, OpenZone, Status};
use crate::graph::stream::Place;

/// Reads how far a subscriber has read what zones stream.
///
/// # Errors
/// `invalid_argument` names the field.
pub fn token_offsets(offsets: &[v1::TokenOffset]) -> Result<Vec<(StepKey, Place)>, Rejection> {
    const AT: &str = "from_tokens";
    if offsets.len() > OPEN_MAX {
        return Err(Field("", AT).must(format_args!("name at most {OPEN_MAX} zones")));
    }
    let place = |offset: &v1::TokenOffset| {
        let zone_key = fields::step_key(Field(AT, "zone_key"), offset.zone_key.clone())?;
        let attempt = fields::attempt(Field(AT, "attempt"), offset.attempt)?;
        let byte = fields::at_most(Field(AT, "byte"), offset.byte, limits::EVIDENCE_OFFSET_MAX)?;
        Ok((zone_key, Place { attempt, byte }))
    };
    offsets.iter().map(place).collect()
}

/// Writes a session. `key` is the caller's key, which the head does not hold; `hint` says why a session that could run
/// does not, if dispatch knows.
#[must_use]
pub fn session(head: &Head, key: &str, hint: Option<&str>) -> v1::Session {
    let from = head.forked.as_ref().map(|forked| forked.from);
    v1::Session {
        // Whether it is archived is not in its head.
        archived: String::new(),
        session_id: head.session.to_string(),
        namespace: head.namespace.to_string(),
        workflow: head.workflow.to_string(),
        version: head.version.to_string(),
        key: key.to_owned(),
        generation: head.generation,
        status: enums::status_to_wire(&head.status).into(),
        pause_reason: pause_reason(&head.status).into(),
        waiting_for: waiting_for(head, hint),
        seq: head.seq.0,
        hash: head.hash.0.to_vec().into(),
        epoch: head.epoch.0,
        instance: head.holder.map(|instance| instance.to_string()).unwrap_or_default(),
        lineage_id: head.lineage.to_string(),
        root_id: head.root.to_string(),
        started_ms: head.started.0,
        updated_ms: head.time.0,
        ended_ms: if head.status.is_terminal() { head.time.0 } else { 0 },
        steps: head.counters.steps,
        totals: Some(totals(&head.counters)),
        open_intents: head.intents.iter().map(open_intent).collect(),
        open_zones: head.zones.iter().map(open_zone).collect(),
        waits: head.waits.iter().map(waits::open_wait).collect(),
        parent_id: head.parent.as_ref().map(|parent| parent.session.to_string()).unwrap_or_default(),
        top_id: head.top.to_string(),
        cancel_requested: head.cancel_requested.is_some(),
        continued_to: head.continued_to.map(|session| session.to_string()).unwrap_or_default(),
        continued_from: head.continued_from.map(|session| session.to_string()).unwrap_or_default(),
        forked_from_session: from.map(|from| from.parent.to_string()).unwrap_or_default(),
        forked_from_seq: from.map_or(0, |from| from.seq.0),
        inherited_totals: head.forked.as_ref().map(|forked| totals(&forked.inherited)),
        inherited_steps: head.forked.as_ref().map_or(0, |forked| forked.inherited.steps),
        effects_live: from.is_some_and(|from| from.live),
        budget: budget::of_session(&head.budget),
        labels: super::event::labels(&head.labels),
        // Only who knows the ledger's present incarnation can say it: see `Context::session`.
        held: false,
        deadline_ms: head.deadline.map_or(0, |deadline| deadline.0),
    }
}

pub const fn pause_reason(status: &Status) -> v1::PauseReason {
    match status {
        Status::Paused { reason, .. } => enums::pause_reason_to_wire(*reason),
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Completed
        | Status::Failed
        | Status::Cancelled => v1::PauseReason::Unspecified,
    }
}

fn waiting_for(head: &Head, hint: Option<&str>) -> String {
    match &head.status {
        Status::Paused { reason: PauseReason::EffectUnknown, step_key } if head.stubs_effects() => format!(
            "an answer in place of the effect{}, which this fork does not perform: `cellaflow steps resolve`",
            of_step(step_key.as_deref())
        ),
        Status::Paused { reason, step_key } => paused_for(*reason, step_key.as_deref()),
        Status::Waiting => waits::in_words(&head.waits),
        Status::Pending | Status::Running => hint.unwrap_or_default().to_owned(),
        Status::Completed | Status::Failed | Status::Cancelled => String::new(),
    }
}

fn of_step(step_key: Option<&str>) -> String {
    step_key.map(|key| format!(" of step {key}")).unwrap_or_default()
}

fn paused_for(reason: PauseReason, step_key: Option<&str>) -> String {
    let step = of_step(step_key);
    match reason {
        PauseReason::Requested => "somebody to resume it: `cellaflow sessions resume`".to_owned(),
        PauseReason::EffectUnknown => {
            format!("somebody to say what became of the effect{step}: `cellaflow steps resolve`")
        }
        PauseReason::Nondeterminism => {
            format!(
                "a repair: the run asked for something else than the ledger has{step}: `cellaflow sessions accept`, or fork before it"
            )
        }
        PauseReason::RetriesExhausted => {
            format!("somebody to resume it after the cause{step} is gone: all attempts failed")
        }
        PauseReason::Budget => "a larger budget: `cellaflow sessions budget raise`".to_owned(),
    }
}

const fn totals(counters: &Counters) -> v1::Totals {
    v1::Totals {
        llm_calls: counters.llm_calls,
        input_tokens: counters.input_tokens,
        cached_read_tokens: counters.cached_read_tokens,
        cache_write_tokens: counters.cache_write_tokens,
        output_tokens: counters.output_tokens,
        cost_nanos: counters.cost.0,
        wasted_tokens: counters.wasted_tokens,
        wasted_cost_nanos: counters.wasted_cost.0,
        unpriced_calls: counters.unpriced_calls,
        takeovers: counters.takeovers,
    }
}

fn open_intent(intent: &OpenIntent) -> v1::OpenIntent {
    v1::OpenIntent {
        step_key: intent.step_key.to_string(),
        attempt: intent.attempt,
        seq: intent.seq.0,
        due_ms: intent.due.0,
        unknown: match intent.state {
            IntentState::Unknown | IntentState::Due => true,
            IntentState::Open | IntentState::MayRetry => false,
        },
        policy: enums::guard_policy_to_wire(intent.policy).into(),
    }
}

fn open_zone(zone: &OpenZone) -> v1::OpenZone {
    v1::OpenZone { zone_key: zone.zone_key.to_string(), attempt: zone.attempt, seq: zone.seq.0 }
}

/// Writes a refusal.
#[must_use]
pub fn refusal(rejection: &Rejection) -> v1::Refusal {
    v1::Refusal {
        code: rejection.code.as_str().to_owned(),
        message: rejection.message.clone(),
        retryable: rejection.code.retryable(),
        retry_after_ms: rejection.retry_after_ms.unwrap_or(0),
    }
}
