//! The messages that are both appended and read back: parsed here, written by `event`.

use cellaflow_proto::v1;

use super::enums;
use super::fields::{self, Field};
use super::limits;
use super::payload::{self, Fits, Intake};
use crate::graph::command::{Finding, GuardKey, Op, Rejection};
use crate::graph::event::{
    GuardIntent, LlmCall, PauseReason, Resource, RollbackReason, StepCompleted, StepFailed, UnknownReason,
    Usage, ZoneCommitted, ZoneFailed,
};
use crate::graph::ids::StepKey;
use crate::ledger::digest::{self, Purpose};

pub(super) fn step_completed(
    step: v1::StepCompleted,
    intake: &mut Intake<'_>,
) -> Result<StepCompleted, Rejection> {
    const AT: &str = "step_completed";
    if !step.deduplicated_from.is_empty() {
        return Err(Field(AT, "deduplicated_from").must("be empty: the engine sets it"));
    }
    Ok(StepCompleted {
        step_key: fields::step_key(Field(AT, "step_key"), step.step_key)?,
        name: fields::name(Field(AT, "name"), step.name, limits::NAME)?,
        attempt: fields::attempt(Field(AT, "attempt"), step.attempt)?,
        input_digest: fields::optional_digest(Field(AT, "input_digest"), &step.input_digest)?,
        input: intake.optional(Field(AT, "input"), step.input, Fits::Value)?,
        output: intake.required(Field(AT, "output"), step.output, Fits::Outcome)?,
        llm: step.llm.map(|call| llm_call("step_completed.llm", call, intake)).transpose()?,
        resources: resources(Field(AT, "resources"), step.resources)?,
        cost: fields::cost(Field(AT, "cost_nanos"), step.cost_nanos)?,
        duration_us: step.duration_us,
        deduplicated_from: None,
        guarded: step.guarded,
    })
}

pub(super) fn step_failed(step: v1::StepFailed, intake: &mut Intake<'_>) -> Result<StepFailed, Rejection> {
    const AT: &str = "step_failed";
    Ok(StepFailed {
        step_key: fields::step_key(Field(AT, "step_key"), step.step_key)?,
        name: fields::name(Field(AT, "name"), step.name, limits::NAME)?,
        attempt: fields::attempt(Field(AT, "attempt"), step.attempt)?,
        input_digest: fields::optional_digest(Field(AT, "input_digest"), &step.input_digest)?,
        failure: intake.required(Field(AT, "failure"), step.failure, Fits::Failure)?,
        is_final: step.r#final,
        retry_at: fields::retry_at(Field(AT, "retry_at_ms"), step.retry_at_ms, step.r#final)?,
        usage: step.usage.map(|used| usage("step_failed.usage", used)).transpose()?,
        duration_us: step.duration_us,
        guarded: step.guarded,
    })
}

pub(super) fn step_heartbeat(beat: v1::StepHeartbeat, intake: &mut Intake<'_>) -> Result<Op, Rejection> {
    const AT: &str = "step_heartbeat";
    Ok(Op::StepHeartbeat {
        step_key: fields::step_key(Field(AT, "step_key"), beat.step_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), beat.attempt)?,
        details: intake.required(Field(AT, "details"), beat.details, Fits::Value)?,
    })
}

pub(super) fn guard_intent(intent: v1::GuardIntent, intake: &mut Intake<'_>) -> Result<Op, Rejection> {
    const AT: &str = "guard_intent";
    let policy = enums::guard_policy_from_wire(intent.policy)
        .ok_or_else(|| Field(AT, "policy").must("be a GuardPolicy of this version"))?;
    let step_key = fields::step_key(Field(AT, "step_key"), intent.step_key)?;
    let name = fields::name(Field(AT, "name"), intent.name, limits::NAME)?;
    let input_hash = fields::digest(Field(AT, "input_hash"), &intent.input_hash)?;
    let attempt_ms = Field(AT, "attempt_ms");
    if intent.attempt_ms == 0 {
        return Err(attempt_ms.must("be at least 1: the time for the call in ms (Welcome names the default)"));
    }
    let key = Field(AT, "idempotency_key");
    let parsed = payload::parse(key, key.set(intent.idempotency_key)?, Fits::Bytes, intake.transfers)?;
    fields::bounded(key, &parsed.bytes, limits::IDEMPOTENCY_KEY)?;
    let salt = intake.namespace_salt;
    let guard = GuardKey {
        digest: digest::keyed(salt, Purpose::Guard, &[name.as_bytes(), &parsed.bytes]),
        input_digest: digest::keyed(salt, Purpose::Input, &[&input_hash.0]),
        step_key_hash: digest::step_key_hash(&step_key),
        refuse_in_flight: intent.refuse_in_flight,
        output_gone: false,
        former: None,
    };
    let intent = GuardIntent {
        step_key,
        name,
        attempt: fields::attempt(Field(AT, "attempt"), intent.attempt)?,
        input_digest: fields::digest(Field(AT, "input_digest"), &intent.input_digest)?,
        attempt_ms: fields::at_most(attempt_ms, intent.attempt_ms, limits::ATTEMPT_MS_MAX)?,
        grace_ms: fields::at_most(Field(AT, "grace_ms"), intent.grace_ms, limits::GRACE_MS_MAX)?,
        policy,
        idempotency_key: intake.blobs.add(parsed)?,
    };
    Ok(Op::GuardIntent { intent, guard, taken: None })
}

pub(super) fn guard_unknown(unknown: v1::GuardUnknown, intake: &mut Intake<'_>) -> Result<Op, Rejection> {
    const AT: &str = "guard_unknown";
    let reason = match enums::unknown_reason_from_wire(unknown.reason) {
        Some(reason @ (UnknownReason::Threw | UnknownReason::TimedOut | UnknownReason::Aborted)) => reason,
        Some(UnknownReason::NoOutcome | UnknownReason::GraceOver) | None => {
            return Err(
                Field(AT, "reason").must("be threw, timed out or aborted: the engine says the others")
            );
        }
    };
    Ok(Op::GuardUnknown {
        step_key: fields::step_key(Field(AT, "step_key"), unknown.step_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), unknown.attempt)?,
        reason,
        failure: intake.optional(Field(AT, "failure"), unknown.failure, Fits::Failure)?,
    })
}

pub(super) fn guard_finding(
    found: v1::GuardReconciliation,
    intake: &mut Intake<'_>,
) -> Result<Op, Rejection> {
    const AT: &str = "guard_reconciliation";
    let finding = match Field(AT, "finding").set(found.finding)? {
        v1::guard_reconciliation::Finding::Applied(output) => {
            Finding::Applied(intake.take(Field(AT, "applied"), output, Fits::Value)?)
        }
        v1::guard_reconciliation::Finding::NotApplied(failure) => {
            let failure = (!payload::is_nothing(&failure)).then_some(failure);
            Finding::NotApplied(intake.optional(Field(AT, "not_applied"), failure, Fits::Failure)?)
        }
        v1::guard_reconciliation::Finding::Unknown(true) => Finding::Unknown,
        v1::guard_reconciliation::Finding::Unknown(false) => {
            return Err(Field(AT, "unknown").must("be true where it is set"));
        }
    };
    let by = match (&finding, found.reconciled) {
        (_, true) => "reconcile",
        (Finding::NotApplied(_), false) => "tool",
        (Finding::Applied(_) | Finding::Unknown, false) => {
            return Err(
                Field(AT, "reconciled").must("be true: only not_applied can come from the tool itself")
            );
        }
    };
    Ok(Op::GuardFinding {
        step_key: fields::step_key(Field(AT, "step_key"), found.step_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), found.attempt)?,
        finding,
        by: by.into(),
    })
}

pub(super) fn zone_entered(zone: v1::ZoneEntered) -> Result<Op, Rejection> {
    const AT: &str = "zone_entered";
    Ok(Op::ZoneEntered {
        zone_key: fields::step_key(Field(AT, "zone_key"), zone.zone_key)?,
        name: fields::name(Field(AT, "name"), zone.name, limits::NAME)?,
        attempt: fields::attempt(Field(AT, "attempt"), zone.attempt)?,
        input_digest: fields::optional_digest(Field(AT, "input_digest"), &zone.input_digest)?,
    })
}

pub(super) fn zone_committed(
    zone: v1::ZoneCommitted,
    intake: &mut Intake<'_>,
) -> Result<ZoneCommitted, Rejection> {
    const AT: &str = "zone_committed";
    let (calls, max) = (zone.llm_calls.len(), limits::LLM_CALLS_MAX);
    if calls > max {
        return Err(
            Field(AT, "llm_calls").must(format_args!("have at most {max} calls; this zone has {calls}"))
        );
    }
    Ok(ZoneCommitted {
        zone_key: fields::step_key(Field(AT, "zone_key"), zone.zone_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), zone.attempt)?,
        output: intake.optional(Field(AT, "output"), zone.output, Fits::Outcome)?,
        record: intake.required(Field(AT, "record"), zone.record, Fits::ZoneRecord)?,
        llm_calls: zone
            .llm_calls
            .into_iter()
            .map(|call| llm_call("zone_committed.llm_calls", call, intake))
            .collect::<Result<_, _>>()?,
        duration_us: zone.duration_us,
        cost: fields::cost(Field(AT, "cost_nanos"), zone.cost_nanos)?,
    })
}

pub(super) fn zone_failed(zone: v1::ZoneFailed, intake: &mut Intake<'_>) -> Result<ZoneFailed, Rejection> {
    const AT: &str = "zone_failed";
    let (calls, max) = (zone.usage.len(), limits::LLM_CALLS_MAX);
    if calls > max {
        return Err(Field(AT, "usage").must(format_args!("have at most {max} entries; this one has {calls}")));
    }
    Ok(ZoneFailed {
        zone_key: fields::step_key(Field(AT, "zone_key"), zone.zone_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), zone.attempt)?,
        failure: intake.required(Field(AT, "failure"), zone.failure, Fits::Failure)?,
        is_final: zone.r#final,
        usage: zone
            .usage
            .into_iter()
            .map(|used| usage("zone_failed.usage", used))
            .collect::<Result<_, _>>()?,
        retry_at: fields::retry_at(Field(AT, "retry_at_ms"), zone.retry_at_ms, zone.r#final)?,
    })
}

pub(super) fn zone_rolled_back(zone: v1::ZoneRolledBack) -> Result<Op, Rejection> {
    const AT: &str = "zone_rolled_back";
    match enums::rollback_reason_from_wire(zone.reason) {
        Some(RollbackReason::Abort) => {}
        Some(RollbackReason::Takeover) | None => {
            return Err(Field(AT, "reason").must("be ROLLBACK_REASON_ABORT: takeovers are the engine's"));
        }
    }
    Ok(Op::ZoneAborted {
        zone_key: fields::step_key(Field(AT, "zone_key"), zone.zone_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), zone.attempt)?,
        evidence_bytes: zone.evidence_bytes,
        wasted_tokens: fields::at_most(Field(AT, "wasted_tokens"), zone.wasted_tokens, limits::TOKENS_MAX)?,
    })
}

pub(super) fn session_paused(pause: v1::SessionPaused, intake: &mut Intake<'_>) -> Result<Op, Rejection> {
    const AT: &str = "session_paused";
    let reason = match enums::pause_reason_from_wire(pause.reason) {
        // An effect of a cancelled session's cleanup: the engine pauses it for none after the request to cancel.
        Some(reason @ PauseReason::EffectUnknown) if !pause.step_key.is_empty() => reason,
        Some(
            reason @ (PauseReason::Nondeterminism | PauseReason::RetriesExhausted | PauseReason::Budget),
        ) => reason,
        Some(PauseReason::Requested | PauseReason::EffectUnknown) | None => {
            return Err(Field(AT, "reason").must(
                "be nondeterminism, retries exhausted, budget or effect unknown (with its step): a run pauses for nothing else",
            ));
        }
    };
    Ok(Op::Pause {
        reason,
        step_key: optional_step_key(Field(AT, "step_key"), pause.step_key)?,
        details: intake.optional(Field(AT, "details"), pause.details, Fits::Details)?,
    })
}

fn optional_step_key(field: Field, value: String) -> Result<Option<StepKey>, Rejection> {
    if value.is_empty() { Ok(None) } else { fields::step_key(field, value).map(Some) }
}

fn llm_call(at: &'static str, call: v1::LlmCall, intake: &mut Intake<'_>) -> Result<LlmCall, Rejection> {
    Ok(LlmCall {
        request: intake.optional(Field(at, "request"), call.request, Fits::LlmRequest)?,
        response: intake.optional(Field(at, "response"), call.response, Fits::LlmResponse)?,
        usage: usage(at, Field(at, "usage").set(call.usage)?)?,
    })
}

fn usage(at: &'static str, used: v1::Usage) -> Result<Usage, Rejection> {
    let tokens = |name, count| fields::at_most(Field(at, name), count, limits::TOKENS_MAX);
    Ok(Usage {
        provider: fields::name(Field(at, "provider"), used.provider, limits::PROVIDER)?,
        model: fields::name(Field(at, "model"), used.model, limits::PROVIDER)?,
        input_tokens: tokens("input_tokens", used.input_tokens)?,
        cached_read_tokens: tokens("cached_read_tokens", used.cached_read_tokens)?,
        cache_write_tokens: tokens("cache_write_tokens", used.cache_write_tokens)?,
        output_tokens: tokens("output_tokens", used.output_tokens)?,
        estimated: used.estimated,
        cost: used.cost_nanos.map(|nanos| fields::cost(Field(at, "cost_nanos"), nanos)).transpose()?,
        price_date: fields::name(Field(at, "price_date"), used.price_date, limits::PRICE_DATE)?,
    })
}

fn resources(field: Field, declared: Vec<v1::Resource>) -> Result<Vec<Resource>, Rejection> {
    let (count, max) = (declared.len(), limits::RESOURCES_MAX);
    if count > max {
        return Err(field.must(format_args!("have at most {max} entries; this step declares {count}")));
    }
    declared.into_iter().map(resource).collect()
}

fn resource(declared: v1::Resource) -> Result<Resource, Rejection> {
    const AT: &str = "step_completed.resources";
    let mode = enums::resource_mode_from_wire(declared.mode)
        .ok_or_else(|| Field(AT, "mode").must("be read, write, delete or run"))?;
    Ok(Resource {
        kind: fields::name(Field(AT, "kind"), declared.kind, limits::RESOURCE_KIND)?,
        id: fields::text(Field(AT, "id"), declared.id, limits::RESOURCE_ID)?,
        mode,
        range: fields::text(Field(AT, "range"), declared.range, limits::RESOURCE_RANGE)?,
    })
}
