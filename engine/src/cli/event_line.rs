//! Events as lines for people: what happened, and the one or two things that explain it.

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{self, Event};

use super::{format, payload};

/// Width of everything before the details: seq, time, author and type.
const HEAD_COLUMNS: usize = 50;

/// Width of the details when stdout is no terminal.
const DETAIL_COLUMNS: usize = 160;

/// The line above the first event.
pub(super) fn header() -> String {
    format!("{:>5}  {:<12}  {:<8}  {:<17}  DETAILS", "SEQ", "TIME (UTC)", "BY", "EVENT")
}

/// Shows one event on one line that fits the terminal.
pub(super) fn line(event: &Event, columns: Option<u16>) -> String {
    let (name, details) = describe(event);
    let width = columns.map_or(DETAIL_COLUMNS, |all| usize::from(all).saturating_sub(HEAD_COLUMNS).max(20));
    let line = format!(
        "{:>5}  {:<12}  {:<8}  {name:<17}  {}",
        event.seq,
        format::time_of_day(event.time_ms),
        author(event),
        format::one_line(&details, width)
    );
    line.trim_end().to_owned()
}

fn author(event: &Event) -> String {
    match event.author() {
        v1::Author::Unspecified => "unknown".to_owned(),
        // The epoch tells one worker from the next.
        v1::Author::Worker => format!("run {}", event.epoch),
        v1::Author::Client => "client".to_owned(),
        v1::Author::Driver => "engine".to_owned(),
        v1::Author::Operator => "operator".to_owned(),
    }
}

fn child_spawned(e: &v1::ChildSpawned) -> String {
    let what = format!("{} {} as {}", e.workflow, e.version, e.child_id);
    let abandoned = if e.abandoned { "goes on without its parent" } else { "" };
    join([e.step_key.clone(), what, abandoned.to_owned()])
}

fn child_ended(e: &v1::ChildEnded) -> String {
    let how = format::status(e.status()).to_owned();
    let result = shown(e.output.as_ref().or(e.failure.as_ref()));
    join([e.step_key.clone(), e.ended_id.clone(), how, e.reason.clone(), result])
}

fn cancelled(e: &v1::SessionCancelled) -> String {
    let how = if e.terminated { "terminated" } else { "" };
    let by = if e.by.is_empty() { String::new() } else { format!("by {}", e.by) };
    let unknown = match e.unknown_step_keys.is_empty() {
        true => String::new(),
        false => format!("nobody knows what became of {}", e.unknown_step_keys.join(", ")),
    };
    join([how.to_owned(), by, e.reason.clone(), unknown])
}

/// The type, spelled as in `--json`, and what explains it.
fn describe(event: &Event) -> (&'static str, String) {
    let Some(body) = &event.body else {
        return ("unknown", "this program is older than the engine".to_owned());
    };
    match body {
        Body::SessionStarted(e) => ("session_started", started(e)),
        Body::LeaseGranted(e) => {
            let takeover = if e.takeover { ", takeover" } else { "" };
            ("lease_granted", format!("epoch {} to {}{takeover}", e.epoch, e.instance))
        }
        Body::LeaseReleased(e) => {
            ("lease_released", format!("epoch {}, {}", e.epoch, release_reason(e.reason())))
        }
        Body::SessionPaused(e) => {
            let reason = format::pause_reason(e.reason()).to_owned();
            ("session_paused", join([e.step_key.clone(), reason, shown(e.details.as_ref())]))
        }
        Body::SessionResumed(e) => {
            let retry = if e.retry { ", failed steps are attempted anew" } else { "" };
            ("session_resumed", format!("by {}{retry}", e.by))
        }
        Body::LabelsSet(e) => {
            let mut changes: Vec<String> =
                e.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
            changes.sort();
            changes.extend(e.removed.iter().map(|key| format!("-{key}")));
            ("labels_set", format!("{} by {}", changes.join(", "), e.by))
        }
        Body::SessionReleased(e) => ("session_released", format!("by {} under {}", e.by, e.incarnation)),
        Body::SessionCompleted(e) => ("session_completed", shown(e.output.as_ref())),
        Body::SessionFailed(e) => ("session_failed", shown(e.failure.as_ref())),
        Body::SessionCancelled(e) => ("session_cancelled", cancelled(e)),
        Body::SessionContinued(e) => {
            ("session_continued", join([format!("as {}", e.successor_id), shown(e.input.as_ref())]))
        }
        Body::ChildSpawned(e) => ("child_spawned", child_spawned(e)),
        Body::ChildEnded(e) => ("child_ended", child_ended(e)),
        Body::ChildCancelRequested(e) => {
            ("child_cancel_requested", join([e.step_key.clone(), e.reason.clone()]))
        }
        Body::CancelRequested(e) => ("cancel_requested", join([format!("by {}", e.by), e.reason.clone()])),
        Body::StepCompleted(e) => ("step_completed", step_completed(e)),
        Body::StepFailed(e) => ("step_failed", step_failed(e)),
        Body::StepHeartbeat(e) => {
            ("step_heartbeat", join([attempted(&e.step_key, e.attempt), shown(e.details.as_ref())]))
        }
        Body::GuardIntent(e) => {
            let time = format!(
                "{} and {} grace",
                format::duration_ms(e.attempt_ms),
                format::duration_ms(e.grace_ms)
            );
            let policy = format!("then {}", format::guard_policy(e.policy()));
            ("guard_intent", join([attempted(&e.step_key, e.attempt), time, policy]))
        }
        Body::ForkEdited(e) => ("fork_edited", fork_edited(e)),
        Body::DivergenceAccepted(e) => ("divergence_accepted", accepted(e)),
        Body::GuardUnknown(e) => {
            let reason = unknown_reason(e.reason()).to_owned();
            ("guard_unknown", join([attempted(&e.step_key, e.attempt), reason, shown(e.failure.as_ref())]))
        }
        Body::GuardResolved(e) => ("guard_resolved", guard_resolved(e)),
        Body::ZoneEntered(e) => ("zone_entered", attempted(&e.zone_key, e.attempt)),
        Body::ZoneCommitted(e) => ("zone_committed", zone_committed(e)),
        Body::ZoneFailed(e) => {
            let next = next_attempt(e.r#final, e.retry_at_ms);
            ("zone_failed", join([attempted(&e.zone_key, e.attempt), next, shown(e.failure.as_ref())]))
        }
        Body::ZoneRolledBack(e) => ("zone_rolled_back", rolled_back(e)),
        Body::TimerStarted(e) => ("timer_started", join([e.step_key.clone(), until("fires at", e.due_ms)])),
        Body::TimerFired(e) => ("timer_fired", e.step_key.clone()),
        Body::SignalReceived(e) => {
            let by = format!("by {}", e.by);
            ("signal_received", join([e.name.clone(), e.signal_id.clone(), by, shown(e.value.as_ref())]))
        }
        Body::SignalAwaited(e) => {
            ("signal_awaited", join([e.step_key.clone(), e.name.clone(), until("until", e.due_ms)]))
        }
        Body::SignalDelivered(e) => {
            let what = match e.signal_seq {
                0 => "the time ran out".to_owned(),
                seq => format!("signal of seq {seq}"),
            };
            ("signal_delivered", join([e.step_key.clone(), what]))
        }
        Body::WaitDropped(e) => ("wait_dropped", e.step_key.clone()),
        Body::ApprovalRequested(e) => {
            let until = until("until", e.due_ms);
            ("approval_requested", join([e.step_key.clone(), until, shown(e.call.as_ref())]))
        }
        Body::ApprovalDecided(e) => ("approval_decided", approval_decided(e)),
        Body::BudgetReserved(e) => ("budget_reserved", reserved(e)),
        Body::BudgetRaised(e) => {
            ("budget_raised", format!("{} by {}", format::limits(e.limits.as_ref()), e.by))
        }
        Body::BudgetReleased(e) => ("budget_released", attempted(&e.step_key, e.attempt)),
        Body::TokenCreated(e) => {
            let role = format::role(e.role());
            (
                "token_created",
                join([e.name.clone(), role.to_owned(), e.namespace.clone(), e.token_id.clone()]),
            )
        }
        Body::TokenRevoked(e) => ("token_revoked", e.token_id.clone()),
        Body::WorkflowRegistered(e) => {
            let compatible = e.compatible.join(", ");
            let compatible =
                if compatible.is_empty() { compatible } else { format!("compatible with {compatible}") };
            ("workflow_registered", join([format!("{}@{}", e.workflow, e.version), compatible]))
        }
        Body::WorkflowDrained(e) => {
            let what = if e.draining { "begun" } else { "undone" };
            ("workflow_drained", format!("{}@{} {what} by {}", e.workflow, e.version, e.by))
        }
        Body::ArchiveChanged(e) => ("archive_changed", join([e.what.clone(), e.claim_id.clone()])),
    }
}

fn started(e: &v1::SessionStarted) -> String {
    let generation = if e.generation > 1 { format!("generation {}", e.generation) } else { String::new() };
    join([format!("{}@{}", e.workflow, e.version), generation, shown(e.input.as_ref())])
}

fn fork_edited(e: &v1::ForkEdited) -> String {
    use v1::fork_edited::Edit;
    let what = if e.step_key.is_empty() { "the input" } else { &e.step_key };
    let instead = match e.replaces_seq {
        0 => String::new(),
        seq => format!("instead of event {seq}"),
    };
    let payload = match &e.edit {
        Some(Edit::Input(payload) | Edit::Output(payload) | Edit::Failure(payload)) => shown(Some(payload)),
        None => String::new(),
    };
    join([what.to_owned(), instead, payload])
}

fn accepted(e: &v1::DivergenceAccepted) -> String {
    let how = if e.drop { "need not be asked for" } else { "stands for the new input" };
    join([e.step_key.clone(), how.to_owned(), format!("by {}", e.by)])
}

fn reserved(event: &v1::BudgetReserved) -> String {
    let cost = format::dollars(event.cost_nanos.unwrap_or(0));
    let at = attempted(&event.step_key, event.attempt);
    format!("{at} {cost}, {} tokens, {} steps", format::count(event.tokens), event.steps)
}

fn step_completed(e: &v1::StepCompleted) -> String {
    let call = e.llm.iter().filter_map(|call| call.usage.as_ref()).map(usage);
    let own = (e.cost_nanos != 0).then(|| format::dollars(e.cost_nanos));
    let copied = if e.deduplicated_from.is_empty() {
        String::new()
    } else {
        format!("taken from {}", e.deduplicated_from)
    };
    let mut parts = vec![attempted(&e.step_key, e.attempt), format::duration_us(e.duration_us), copied];
    parts.extend(call.chain(own));
    parts.push(shown(e.output.as_ref()));
    join(parts)
}

fn step_failed(e: &v1::StepFailed) -> String {
    join([
        attempted(&e.step_key, e.attempt),
        next_attempt(e.r#final, e.retry_at_ms),
        e.usage.as_ref().map_or_else(String::new, usage),
        shown(e.failure.as_ref()),
    ])
}

fn guard_resolved(e: &v1::GuardResolved) -> String {
    let how = match e.resolution() {
        v1::Resolution::Unspecified => "unknown",
        v1::Resolution::Output => "it happened",
        v1::Resolution::Failure => "the step fails",
        v1::Resolution::NotApplied => "it did not happen",
        v1::Resolution::Retry => "attempted again",
    };
    let by = format!("by {}", e.by);
    let content = shown(e.output.as_ref().or(e.failure.as_ref()));
    join([attempted(&e.step_key, e.attempt), how.to_owned(), by, content])
}

fn zone_committed(e: &v1::ZoneCommitted) -> String {
    let calls = match e.llm_calls.len() {
        0 => String::new(),
        1 => e.llm_calls.iter().filter_map(|call| call.usage.as_ref()).map(usage).collect(),
        many => {
            let nanos = e.llm_calls.iter().filter_map(|call| call.usage.as_ref()?.cost_nanos);
            let cost = nanos.fold(e.cost_nanos, i64::saturating_add);
            format!("{many} model calls, {}", format::dollars(cost))
        }
    };
    join([
        attempted(&e.zone_key, e.attempt),
        format::duration_us(e.duration_us),
        calls,
        shown(e.output.as_ref()),
    ])
}

fn rolled_back(e: &v1::ZoneRolledBack) -> String {
    let why = match e.reason() {
        v1::RollbackReason::Unspecified => "",
        v1::RollbackReason::Takeover => "another worker took over",
        v1::RollbackReason::Abort => "the run was aborted",
    };
    let wasted = match e.wasted_tokens {
        0 => String::new(),
        tokens => format!("about {} tokens wasted", format::count(tokens)),
    };
    join([attempted(&e.zone_key, e.attempt), why.to_owned(), wasted])
}

/// What a model call cost, in the words people pay in.
fn usage(usage: &v1::Usage) -> String {
    let cached = usage.cached_read_tokens;
    let input = usage.input_tokens.saturating_add(cached).saturating_add(usage.cache_write_tokens);
    let cached = if cached > 0 { format!(" ({} cached)", format::count(cached)) } else { String::new() };
    let about = if usage.estimated { "~" } else { "" };
    let cost = usage.cost_nanos.map_or_else(|| "price unknown".to_owned(), format::dollars);
    format!(
        "{} {about}{} in{cached} {about}{} out {cost}",
        usage.model,
        format::count(input),
        format::count(usage.output_tokens)
    )
}

fn attempted(key: &str, attempt: u32) -> String {
    if attempt > 1 { format!("{key} (attempt {attempt})") } else { key.to_owned() }
}

fn next_attempt(is_final: bool, retry_at_ms: u64) -> String {
    match (is_final, retry_at_ms) {
        (true, _) => "final".to_owned(),
        (false, 0) => "will be tried again".to_owned(),
        (false, at) => format!("next attempt at {}", format::time_of_day(at)),
    }
}

fn approval_decided(e: &v1::ApprovalDecided) -> String {
    let decision = format::decision(e.decision()).to_owned();
    let by = if e.by.is_empty() { String::new() } else { format!("by {}", e.by) };
    join([e.step_key.clone(), decision, by, shown(e.comment.as_ref())])
}

fn until(word: &str, at_ms: u64) -> String {
    if at_ms == 0 { String::new() } else { format!("{word} {}", format::time(at_ms)) }
}

fn shown(payload: Option<&v1::Payload>) -> String {
    payload.map_or_else(String::new, payload::preview)
}

fn join(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" · ")
}

const fn release_reason(reason: v1::ReleaseReason) -> &'static str {
    match reason {
        v1::ReleaseReason::Unspecified => "no reason given",
        v1::ReleaseReason::Shutdown => "the worker shuts down",
        v1::ReleaseReason::Suspended => "the run cannot go on for now",
        v1::ReleaseReason::Unable => "the worker cannot run it",
        v1::ReleaseReason::Waiting => "the run only waits",
    }
}

const fn unknown_reason(reason: v1::UnknownReason) -> &'static str {
    match reason {
        v1::UnknownReason::Unspecified => "unknown reason",
        v1::UnknownReason::Threw => "the tool threw",
        v1::UnknownReason::TimedOut => "the attempt ran out of time",
        v1::UnknownReason::Aborted => "the attempt was aborted",
        v1::UnknownReason::NoOutcome => "no outcome arrived in time",
        v1::UnknownReason::GraceOver => "attempt time and grace are over",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(author: v1::Author, body: Body) -> Event {
        let time_ms = 1_732_338_000_123;
        Event { seq: 12, time_ms, author: author.into(), epoch: 2, body: Some(body), ..Event::default() }
    }

    fn payload(json: &'static str) -> Option<v1::Payload> {
        let body = Some(v1::payload::Body::Data(json.into()));
        Some(v1::Payload { format: v1::PayloadFormat::Json.into(), body, ..v1::Payload::default() })
    }

    #[test]
    fn a_paid_step_shows_what_it_was_and_what_it_cost() {
        let usage = v1::Usage {
            model: "gpt-5-mini".into(),
            input_tokens: 1_000,
            cached_read_tokens: 500,
            output_tokens: 42,
            cost_nanos: Some(1_234_567),
            ..v1::Usage::default()
        };
        let completed = v1::StepCompleted {
            step_key: "audit#1".into(),
            attempt: 2,
            duration_us: 12_500,
            llm: Some(v1::LlmCall { usage: Some(usage), ..v1::LlmCall::default() }),
            output: payload(r#"{"n":1}"#),
            ..v1::StepCompleted::default()
        };
        assert_eq!(
            line(&event(v1::Author::Worker, Body::StepCompleted(completed)), None),
            "   12  05:00:00.123  run 2     step_completed     audit#1 (attempt 2) · 12 ms · \
             gpt-5-mini 1 500 in (500 cached) 42 out $0.0012 · {\"n\":1}"
        );
    }

    #[test]
    fn a_line_fits_the_terminal_under_its_header() {
        let completed =
            v1::SessionCompleted { output: payload(r#""a very long result that nobody can see whole""#) };
        let text = line(&event(v1::Author::Worker, Body::SessionCompleted(completed)), Some(80));
        assert_eq!(text.chars().count(), 80, "{text}");
        assert!(text.ends_with('…'));
        let details = header().find("DETAILS").unwrap();
        assert_eq!(details, HEAD_COLUMNS);
        assert!(text.get(details..).unwrap().starts_with("\"a very"), "{text}");
    }

    #[test]
    fn an_event_of_a_later_version_is_said_to_be_one() {
        assert!(line(&Event::default(), None).contains("older than the engine"));
    }
}
