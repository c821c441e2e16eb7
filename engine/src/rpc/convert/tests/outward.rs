//! Events and heads, written.

use std::sync::Arc;

use super::*;
use crate::graph::archive::ArchiveEvent;
use crate::graph::budget::{Amounts, BudgetStart, Limits, SessionBudget};
use crate::graph::command::{Code, Rejection};
use crate::graph::event::{
    ApprovalDecided, ApprovalDecision, ApprovalRequested, Author, Body, ChildEnd, ChildEnded, ChildSpawned,
    DivergenceAccepted, Edit, Event, ForkEdited, Format, GuardIntent, GuardPolicy, GuardResolved, LabelsSet,
    LeaseGranted, Parent, PauseReason, PayloadRef, ReleaseReason, Resolution, Role, RollbackReason,
    SessionCancelled, SessionContinued, SessionStarted, SignalReceived, StepCompleted, StepFailed,
    TokenCreated, UnknownReason, WorkflowDrained, WorkflowRegistered, ZoneCommitted, ZoneFailed,
    ZoneRolledBack,
};
use crate::graph::ids::{
    ClaimId, Digest, Epoch, Hash, Incarnation, InstanceId, LineageId, NanoDollars, Seq, SessionId, TimeMs,
    TokenId,
};
use crate::graph::session::{Counters, Head, IntentState, OpenIntent, OpenZone, Status};
use crate::ledger::StoredEvent;

const ID: SessionId = SessionId([1; 16]);

fn reference(byte: u8, size: u64, inline: bool) -> PayloadRef {
    PayloadRef { format: Format::Value, codec: "".into(), size, digest: Digest([byte; 32]), inline }
}

fn small() -> PayloadRef {
    reference(7, 4, true)
}

fn started() -> SessionStarted {
    SessionStarted {
        session: ID,
        namespace: "prod".into(),
        workflow: "audit".into(),
        version: "1".into(),
        generation: 2,
        key: Some(small()),
        input: small(),
        lineage: LineageId([2; 16]),
        root: ID,
        forked_from: None,
        system: false,
        parent: Some(Parent { session: ID, step_key: "spawn".into(), abandoned: true }),
        top: ID,
        depth: 1,
        continued_from: Some(ID),
        budget: BudgetStart::default(),
        labels: vec![("customer".into(), "42".into())],
        incarnation: Some(Incarnation([4; 16])),
        deadline: Some(TimeMs(12)),
    }
}

fn completed() -> StepCompleted {
    StepCompleted {
        step_key: "s".into(),
        name: "s".into(),
        attempt: 1,
        input_digest: None,
        input: None,
        output: small(),
        llm: None,
        resources: Vec::new(),
        cost: NanoDollars(0),
        duration_us: 0,
        deduplicated_from: Some((ID, Seq(4))),
        guarded: true,
    }
}

/// One body of every kind; `coverage` checks that none is missing.
pub(super) fn bodies() -> Vec<Body> {
    let key: Arc<str> = "s".into();
    vec![
        Body::SessionStarted(started()),
        Body::LeaseGranted(LeaseGranted {
            epoch: Epoch(3),
            instance: InstanceId([4; 16]),
            takeover: true,
            incarnation: Incarnation([5; 16]),
        }),
        Body::LeaseReleased { epoch: Epoch(3), reason: ReleaseReason::Suspended },
        Body::SessionPaused {
            reason: PauseReason::EffectUnknown,
            step_key: Some(key.clone()),
            details: None,
        },
        Body::SessionResumed { by: "ann".into(), retry: true },
        Body::TimerStarted { step_key: key.clone(), name: "nap".into(), due: TimeMs(5) },
        Body::TimerFired { step_key: key.clone() },
        Body::SignalReceived(SignalReceived {
            name: "answer".into(),
            id: Some("m-1".into()),
            value: small(),
            by: "ann".into(),
        }),
        Body::SignalAwaited { step_key: key.clone(), name: "answer".into(), due: Some(TimeMs(5)) },
        Body::SignalDelivered { step_key: key.clone(), signal: Some(Seq(3)) },
        Body::ChildSpawned(spawned()),
        Body::ChildEnded(ended(ChildEnd::Cancelled("asked".into()))),
        Body::ChildCancelRequested { step_key: key.clone(), reason: "asked".into() },
        Body::WaitDropped { step_key: key.clone() },
        Body::ApprovalRequested(ApprovalRequested {
            step_key: key.clone(),
            name: "pay".into(),
            call: small(),
            args_digest: Digest([9; 32]),
            due: Some(TimeMs(5)),
        }),
        Body::ApprovalDecided(ApprovalDecided {
            step_key: key.clone(),
            decision: ApprovalDecision::Approved,
            by: "ann".into(),
            comment: Some(small()),
        }),
        Body::ForkEdited(ForkEdited {
            edit: Edit::Output { step_key: key.clone(), output: small() },
            replaces: Some(Seq(4)),
        }),
        Body::DivergenceAccepted(DivergenceAccepted {
            step_key: key.clone(),
            input_digest: Some(Digest([1; 32])),
            drop: false,
            by: "ann".into(),
        }),
        Body::SessionCompleted { output: small() },
        Body::SessionFailed { failure: small() },
        Body::SessionCancelled(SessionCancelled {
            reason: "asked".into(),
            by: "ann".into(),
            terminated: true,
            unknown: vec![key.clone()],
        }),
        Body::SessionContinued(SessionContinued {
            successor: ID,
            version: "1".into(),
            input: small(),
            state: Some(small()),
            conversation: Some(small()),
        }),
        Body::CancelRequested { reason: "asked".into(), by: "ann".into() },
        Body::StepCompleted(completed()),
        Body::StepFailed(StepFailed {
            step_key: key.clone(),
            name: key.clone(),
            attempt: 1,
            input_digest: None,
            failure: small(),
            is_final: true,
            retry_at: None,
            usage: None,
            duration_us: 0,
            guarded: false,
        }),
        Body::StepHeartbeat { step_key: key.clone(), attempt: 1, details: small() },
        Body::GuardIntent(GuardIntent {
            step_key: key.clone(),
            name: key.clone(),
            attempt: 1,
            input_digest: Digest([1; 32]),
            attempt_ms: 1,
            grace_ms: 1,
            policy: GuardPolicy::Fail,
            idempotency_key: small(),
        }),
        Body::GuardUnknown {
            step_key: key.clone(),
            attempt: 1,
            reason: UnknownReason::GraceOver,
            failure: None,
        },
        resolved(Resolution::Retry),
        Body::ZoneEntered { zone_key: key.clone(), name: key.clone(), attempt: 1, input_digest: None },
        Body::ZoneCommitted(ZoneCommitted {
            zone_key: key.clone(),
            attempt: 1,
            output: None,
            record: small(),
            llm_calls: Vec::new(),
            duration_us: 0,
            cost: NanoDollars(0),
        }),
        Body::ZoneFailed(ZoneFailed {
            zone_key: key.clone(),
            attempt: 1,
            failure: small(),
            is_final: false,
            usage: Vec::new(),
            retry_at: Some(TimeMs(9)),
        }),
        Body::ZoneRolledBack(ZoneRolledBack {
            zone_key: key,
            attempt: 1,
            reason: RollbackReason::Takeover,
            evidence_bytes: 1,
            wasted_tokens: 1,
        }),
        Body::BudgetReserved { step_key: "s".into(), attempt: 1, call: 1, amounts: Amounts::default() },
        Body::BudgetRaised { limits: Limits::default(), by: "ann".into() },
        Body::BudgetReleased { step_key: "s".into(), attempt: 1 },
        Body::TokenCreated(token()),
        Body::LabelsSet(LabelsSet {
            set: vec![("customer".into(), "43".into())],
            removed: vec!["draft".into()],
            by: "ada".into(),
        }),
        Body::SessionReleased { incarnation: Incarnation([4; 16]), by: "ada".into() },
        Body::TokenRevoked { token: TokenId([6; 16]) },
        Body::WorkflowRegistered(WorkflowRegistered {
            workflow: "audit".into(),
            version: "2".into(),
            compatible: vec!["1".into()],
        }),
        Body::WorkflowDrained(WorkflowDrained {
            workflow: "audit".into(),
            version: "1".into(),
            draining: true,
            by: "ada".into(),
        }),
        Body::Archive(ArchiveEvent::Published { claim: ClaimId([5; 16]) }),
    ]
}

fn spawned() -> ChildSpawned {
    ChildSpawned {
        step_key: "s".into(),
        name: "s".into(),
        child: ID,
        workflow: "audit".into(),
        version: "1".into(),
        input: small(),
        input_digest: Some(Digest([3; 32])),
        abandoned: true,
    }
}

fn ended(end: ChildEnd) -> ChildEnded {
    ChildEnded { step_key: "s".into(), child: ID, ended: SessionId([9; 16]), end }
}

fn token() -> TokenCreated {
    TokenCreated {
        token: TokenId([6; 16]),
        name: "ci".into(),
        role: Role::Viewer,
        namespace: "prod".into(),
        expires: None,
        secret_hash: Digest([9; 32]),
    }
}

fn resolved(resolution: Resolution) -> Body {
    Body::GuardResolved(GuardResolved { step_key: "s".into(), attempt: 1, resolution, by: "policy".into() })
}

fn stored(body: Body, inline: &[u8]) -> StoredEvent {
    let event = Event {
        seq: Seq(1),
        time: TimeMs(2),
        author: Author::Driver,
        after: None,
        state_delta: None,
        conversation_delta: None,
        body,
    };
    let inline = event.payloads().iter().map(|_| Bytes::copy_from_slice(inline)).collect();
    StoredEvent { session: ID, event, hash: Hash([8; 32]), inline }
}

fn wire(body: Body) -> v1::event::Body {
    let stored = stored(body, b"1234");
    let (_, event) = event_to_wire(&stored, &Nothing, &mut TransferIds::default(), Detail::Full).unwrap();
    event.body.unwrap()
}

pub(super) fn wire_name(body: Body) -> &'static str {
    use v1::event::Body;
    match wire(body) {
        Body::SessionStarted(_) => "session_started",
        Body::LeaseGranted(_) => "lease_granted",
        Body::LeaseReleased(_) => "lease_released",
        Body::SessionPaused(_) => "session_paused",
        Body::SessionResumed(_) => "session_resumed",
        Body::SessionCompleted(_) => "session_completed",
        Body::SessionFailed(_) => "session_failed",
        Body::SessionCancelled(_) => "session_cancelled",
        Body::SessionContinued(_) => "session_continued",
        Body::CancelRequested(_) => "cancel_requested",
        Body::StepCompleted(_) => "step_completed",
        Body::StepFailed(_) => "step_failed",
        Body::StepHeartbeat(_) => "step_heartbeat",
        Body::GuardIntent(_) => "guard_intent",
        Body::GuardUnknown(_) => "guard_unknown",
        Body::GuardResolved(_) => "guard_resolved",
        Body::TimerStarted(_) => "timer_started",
        Body::TimerFired(_) => "timer_fired",
        Body::SignalReceived(_) => "signal_received",
        Body::SignalAwaited(_) => "signal_awaited",
        Body::SignalDelivered(_) => "signal_delivered",
        Body::ChildSpawned(_) => "child_spawned",
        Body::ChildEnded(_) => "child_ended",
        Body::ChildCancelRequested(_) => "child_cancel_requested",
        Body::WaitDropped(_) => "wait_dropped",
        Body::ApprovalRequested(_) => "approval_requested",
        Body::ApprovalDecided(_) => "approval_decided",
        Body::ZoneEntered(_) => "zone_entered",
        Body::ZoneCommitted(_) => "zone_committed",
        Body::ZoneFailed(_) => "zone_failed",
        Body::ZoneRolledBack(_) => "zone_rolled_back",
        Body::BudgetReserved(_) => "budget_reserved",
        Body::BudgetRaised(_) => "budget_raised",
        Body::BudgetReleased(_) => "budget_released",
        Body::TokenCreated(_) => "token_created",
        Body::LabelsSet(_) => "labels_set",
        Body::SessionReleased(_) => "session_released",
        Body::TokenRevoked(_) => "token_revoked",
        Body::WorkflowRegistered(_) => "workflow_registered",
        Body::WorkflowDrained(_) => "workflow_drained",
        Body::ArchiveChanged(_) => "archive_changed",
        Body::ForkEdited(_) => "fork_edited",
        Body::DivergenceAccepted(_) => "divergence_accepted",
    }
}

#[test]
fn engine_made_events_say_everything() {
    let v1::event::Body::SessionStarted(started) = wire(Body::SessionStarted(started())) else { panic!() };
    assert_eq!((&*started.workflow, started.generation), ("audit", 2));
    assert_eq!((&started.root_id, started.lineage_id.len()), (&ID.to_string(), 36));
    let v1::event::Body::StepCompleted(step) = wire(Body::StepCompleted(completed())) else { panic!() };
    assert_eq!(step.deduplicated_from, format!("{ID}:4"));
    let id = ID.to_string();
    assert_eq!((&started.parent_id, &*started.parent_step_key, started.abandoned), (&id, "spawn", true));
    assert_eq!((&started.top_id, &started.continued_from, started.depth), (&id, &id, 1));
    let cases = [
        (Resolution::Output(small()), v1::Resolution::Output, true, false),
        (Resolution::Failure(Some(small())), v1::Resolution::Failure, false, true),
        (Resolution::Failure(None), v1::Resolution::Failure, false, false),
        (Resolution::NotApplied(Some(small())), v1::Resolution::NotApplied, false, true),
        (Resolution::Retry, v1::Resolution::Retry, false, false),
    ];
    for (resolution, said, output, failure) in cases {
        let v1::event::Body::GuardResolved(wire) = wire(resolved(resolution)) else { panic!() };
        assert_eq!(
            (wire.resolution(), wire.output.is_some(), wire.failure.is_some()),
            (said, output, failure)
        );
    }
}

#[test]
fn a_childs_end_carries_what_its_way_of_ending_has() {
    let cases = [
        (ChildEnd::Completed(small()), v1::SessionStatus::Completed, true, false, ""),
        (ChildEnd::Failed(small()), v1::SessionStatus::Failed, false, true, ""),
        (ChildEnd::Cancelled("asked".into()), v1::SessionStatus::Cancelled, false, false, "asked"),
    ];
    for (end, status, output, failure, reason) in cases {
        let v1::event::Body::ChildEnded(wire) = wire(Body::ChildEnded(ended(end))) else { panic!() };
        assert_eq!((wire.status(), wire.output.is_some(), wire.failure.is_some()), (status, output, failure));
        assert_eq!((&*wire.reason, wire.ended_id), (reason, SessionId([9; 16]).to_string()));
    }
}

/// A source of one large payload.
struct Large(Bytes);

impl PayloadSource for Large {
    fn payload(&self, _: SessionId, _: &PayloadRef) -> Result<Bytes, ReadError> {
        Ok(self.0.clone())
    }
}

#[test]
fn large_payloads_come_before_their_event_as_pieces_under_fresh_ids() {
    let content = Bytes::from((0..150_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let body = Body::SessionCompleted { output: reference(7, 150_000, false) };
    let stored = StoredEvent { inline: Vec::new(), ..stored(body, b"") };
    let mut ids = TransferIds::default();
    for transfer in [1, 2] {
        let (pieces, event) =
            event_to_wire(&stored, &Large(content.clone()), &mut ids, Detail::Full).unwrap();
        let sizes: Vec<(u64, usize, bool)> =
            pieces.iter().map(|p| (p.transfer_id, p.data.len(), p.last)).collect();
        assert_eq!(sizes, [(transfer, 65_536, false), (transfer, 65_536, false), (transfer, 18_928, true)]);
        let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
        assert_eq!(joined, content);
        let Some(v1::event::Body::SessionCompleted(end)) = event.body else { panic!() };
        let output = end.output.unwrap();
        assert_eq!(
            (output.size_bytes, output.body),
            (150_000, Some(v1::payload::Body::TransferId(transfer)))
        );
    }
}

#[test]
fn an_event_message_holds_a_bounded_number_of_payload_bytes() {
    let call = || crate::graph::event::LlmCall {
        request: Some(reference(9, 60_000, false)),
        response: None,
        usage: crate::graph::event::Usage::default(),
    };
    let zone = ZoneCommitted {
        zone_key: "z".into(),
        attempt: 1,
        output: None,
        record: reference(9, 60_000, false),
        llm_calls: (0..40).map(|_| call()).collect(),
        duration_us: 0,
        cost: NanoDollars(0),
    };
    let stored = StoredEvent { inline: Vec::new(), ..stored(Body::ZoneCommitted(zone), b"") };
    let source = Large(Bytes::from(vec![1; 60_000]));
    let (pieces, event) = event_to_wire(&stored, &source, &mut TransferIds::default(), Detail::Full).unwrap();
    assert!(prost::Message::encoded_len(&event) < 1_200_000);
    assert_eq!(pieces.len(), 41 - 17, "17 payloads of 60,000 bytes fit into a mebibyte");
}

#[test]
fn headers_alone_still_say_size_and_digest() {
    let stored = stored(Body::SessionCompleted { output: small() }, b"1234");
    let (_, event) = event_to_wire(&stored, &Nothing, &mut TransferIds::default(), Detail::Headers).unwrap();
    let Some(v1::event::Body::SessionCompleted(end)) = event.body else { panic!() };
    let output = end.output.unwrap();
    assert_eq!(
        (output.size_bytes, output.digest, output.body),
        (4, digest(7), Some(v1::payload::Body::Absent(true)))
    );
}

#[test]
fn an_event_without_the_bytes_it_names_is_damage_and_never_an_empty_payload() {
    let short = stored(Body::SessionCompleted { output: small() }, b"123");
    let none = StoredEvent { inline: Vec::new(), ..short.clone() };
    for event in [short, none] {
        let read = event_to_wire(&event, &Nothing, &mut TransferIds::default(), Detail::Full);
        assert!(matches!(read, Err(ReadError::Corrupt(what)) if what.contains("event 1 of session 0101")));
    }
}

fn head(status: Status) -> Head {
    Head {
        session: ID,
        namespace: "prod".into(),
        workflow: "audit".into(),
        version: "1".into(),
        generation: 1,
        lineage: LineageId([2; 16]),
        root: ID,
        system: false,
        status,
        seq: Seq(9),
        hash: Hash([8; 32]),
        time: TimeMs(20),
        started: TimeMs(10),
        epoch: Epoch(2),
        holder: Some(InstanceId([4; 16])),
        intents: vec![OpenIntent {
            step_key: "mail".into(),
            attempt: 1,
            seq: Seq(5),
            due: TimeMs(30),
            policy: GuardPolicy::Pause,
            state: IntentState::Due,
        }],
        waits: Vec::new(),
        signals: Vec::new(),
        zones: vec![OpenZone { zone_key: "z".into(), attempt: 2, seq: Seq(6) }],
        counters: Counters { steps: 3, output_tokens: 4, cost: NanoDollars(5), ..Counters::default() },
        budget: SessionBudget::default(),
        dedupe: Vec::new(),
        parent: Some(Parent { session: ID, step_key: "spawn".into(), abandoned: false }),
        top: ID,
        depth: 1,
        cancel_requested: Some(Seq(7)),
        continued_from: None,
        labels: vec![("customer".into(), "42".into())],
        incarnation: None,
        deadline: Some(TimeMs(12)),
        owns_keys: true,
        continued_to: Some(ID),
        forked: None,
    }
}

#[test]
fn a_session_says_where_it_stands_and_what_it_waits_for() {
    let running = session(&head(Status::Running), "k", Some("no worker serves audit@1"));
    assert_eq!((running.status(), &*running.key, running.ended_ms), (v1::SessionStatus::Running, "k", 0));
    assert_eq!(running.waiting_for, "no worker serves audit@1");
    assert_eq!((running.steps, running.totals.unwrap().cost_nanos), (3, 5));
    assert_eq!((&running.parent_id, &running.continued_to), (&ID.to_string(), &ID.to_string()));
    assert!(running.cancel_requested);
    assert_eq!((running.open_intents[0].unknown, running.open_zones[0].attempt), (true, 2));
    let ended = session(&head(Status::Completed), "", Some("stale hint"));
    assert_eq!((ended.ended_ms, &*ended.waiting_for), (20, ""));
    let step_key = Some("mail".into());
    let paused = session(&head(Status::Paused { reason: PauseReason::EffectUnknown, step_key }), "", None);
    assert_eq!(paused.pause_reason(), v1::PauseReason::EffectUnknown);
    assert!(paused.waiting_for.contains("mail") && paused.waiting_for.contains("steps resolve"));
}

#[test]
fn a_refusal_keeps_code_message_and_hint() {
    let rejection =
        Rejection { code: Code::LeaseHeld, message: "held; wait".into(), retry_after_ms: Some(500) };
    let refusal = refusal(&rejection);
    assert_eq!((&*refusal.code, refusal.retryable, refusal.retry_after_ms), ("lease_held", true, 500));
    let never = super::refusal(&Rejection { code: Code::Fenced, retry_after_ms: None, ..rejection });
    assert_eq!((never.retryable, never.retry_after_ms), (false, 0));
}
