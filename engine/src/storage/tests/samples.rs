//! One event of every kind with every field set, and a head with the most that fits.

use std::sync::Arc;

use crate::graph::archive::{ArchiveEvent, ArchivedLineage, Claimed, Committed, Fate, Purpose, Rewritten};
use crate::graph::budget::{
    Amounts, BudgetOwner, BudgetRow, BudgetStart, Kinds, Limits, OWNERS_MAX, Reservation, SessionBudget,
};
use crate::graph::event::{
    After, ApprovalDecided, ApprovalDecision, ApprovalRequested, Author, Body, ChildEnd, ChildEnded,
    ChildSpawned, DivergenceAccepted, Edit, Event, ForkEdited, ForkedFrom, Format, GuardIntent, GuardPolicy,
    GuardResolved, LabelsSet, LeaseGranted, LlmCall, Parent, PauseReason, PayloadRef, ReleaseReason,
    Resolution, Resource, ResourceMode, Role, RollbackReason, SessionCancelled, SessionContinued,
    SessionStarted, SignalReceived, StepCompleted, StepFailed, TokenCreated, UnknownReason, Usage,
    WorkflowDrained, WorkflowRegistered, ZoneCommitted, ZoneFailed, ZoneRolledBack,
};
use crate::graph::ids::{
    ClaimId, DedupeId, Digest, Epoch, Hash, Incarnation, InstanceId, LineageId, NanoDollars, Seq, SessionId,
    TimeMs, TokenId,
};
use crate::graph::session::{
    Counters, DEDUPE_IDS_MAX, Forked, Head, IntentState, NAME_BYTES_MAX, OPEN_BYTES_MAX, OPEN_MAX,
    OpenIntent, OpenWait, OpenZone, SIGNAL_NAME_BYTES_MAX, SIGNALS_BUFFERED_MAX, STEP_KEY_BYTES_MAX, Status,
    WaitKind,
};

/// How many kinds of event there are.
pub const KINDS: usize = 43;

pub fn kind(body: &Body) -> &'static str {
    match body {
        Body::SessionStarted(_) => "session_started",
        Body::LeaseGranted(_) => "lease_granted",
        Body::LeaseReleased { .. } => "lease_released",
        Body::SessionPaused { .. } => "session_paused",
        Body::SessionResumed { .. } => "session_resumed",
        Body::SessionCompleted { .. } => "session_completed",
        Body::SessionFailed { .. } => "session_failed",
        Body::SessionCancelled(_) => "session_cancelled",
        Body::SessionContinued(_) => "session_continued",
        Body::CancelRequested { .. } => "cancel_requested",
        Body::StepCompleted(_) => "step_completed",
        Body::StepFailed(_) => "step_failed",
        Body::StepHeartbeat { .. } => "step_heartbeat",
        Body::GuardIntent(_) => "guard_intent",
        Body::GuardUnknown { .. } => "guard_unknown",
        Body::GuardResolved(_) => "guard_resolved",
        Body::ZoneEntered { .. } => "zone_entered",
        Body::ZoneCommitted(_) => "zone_committed",
        Body::ZoneFailed(_) => "zone_failed",
        Body::ZoneRolledBack(_) => "zone_rolled_back",
        Body::TimerStarted { .. } => "timer_started",
        Body::TimerFired { .. } => "timer_fired",
        Body::SignalReceived(_) => "signal_received",
        Body::SignalAwaited { .. } => "signal_awaited",
        Body::SignalDelivered { .. } => "signal_delivered",
        Body::ChildSpawned(_) => "child_spawned",
        Body::ChildEnded(_) => "child_ended",
        Body::ChildCancelRequested { .. } => "child_cancel_requested",
        Body::WaitDropped { .. } => "wait_dropped",
        Body::ApprovalRequested(_) => "approval_requested",
        Body::ApprovalDecided(_) => "approval_decided",
        Body::ForkEdited(_) => "fork_edited",
        Body::DivergenceAccepted(_) => "divergence_accepted",
        Body::BudgetReserved { .. } => "budget_reserved",
        Body::BudgetRaised { .. } => "budget_raised",
        Body::BudgetReleased { .. } => "budget_released",
        Body::TokenCreated(_) => "token_created",
        Body::LabelsSet(_) => "labels_set",
        Body::SessionReleased { .. } => "session_released",
        Body::TokenRevoked { .. } => "token_revoked",
        Body::WorkflowRegistered(_) => "workflow_registered",
        Body::WorkflowDrained(_) => "workflow_drained",
        Body::Archive(_) => "archive",
    }
}

pub fn payload(format: Format, n: u8) -> PayloadRef {
    PayloadRef { format, codec: "aes".into(), size: u64::from(n), digest: Digest([n; 32]), inline: n < 100 }
}

/// The event around a body, with everything an author can say.
pub fn around(author: Author, body: Body) -> Event {
    let worker = matches!(author, Author::Worker(_));
    Event {
        seq: Seq(300),
        time: TimeMs(1_750_000_000_123),
        author,
        after: worker.then_some(After { seq: Seq(7), requests: 9 }),
        state_delta: worker.then(|| payload(Format::StateDelta, 1)),
        conversation_delta: worker.then(|| payload(Format::ConversationDelta, 2)),
        body,
    }
}

/// One event of every kind.
pub fn events() -> Vec<Event> {
    let worker = Author::Worker(Epoch(4));
    let operator = Author::Operator(Some(DedupeId([0xdd; 16])));
    vec![
        around(Author::Client(Some(DedupeId([0xcc; 16]))), session_started()),
        around(Author::Driver, lease_granted()),
        around(worker, Body::LeaseReleased { epoch: Epoch(4), reason: ReleaseReason::Suspended }),
        around(worker, session_paused()),
        around(operator, Body::SessionResumed { by: "ada".into(), retry: false }),
        around(worker, Body::SessionCompleted { output: payload(Format::Value, 3) }),
        around(worker, Body::SessionFailed { failure: payload(Format::Failure, 3) }),
        around(Author::Client(None), session_cancelled("no longer needed")),
        around(worker, step_completed()),
        around(worker, step_failed()),
        around(worker, step_heartbeat()),
        around(worker, guard_intent()),
        around(worker, guard_unknown()),
        around(operator, guard_resolved(Resolution::Output(payload(Format::Json, 8)))),
        around(worker, zone_entered()),
        around(worker, zone_committed()),
        around(worker, zone_failed()),
        around(Author::Driver, zone_rolled_back()),
        around(worker, budget_reserved()),
        around(Author::Operator(None), Body::BudgetRaised { limits: limits(), by: "ada".into() }),
        around(worker, Body::BudgetReleased { step_key: "ask#1".into(), attempt: 2 }),
        around(Author::Operator(None), token_created()),
        around(operator, labels_set()),
        around(operator, Body::SessionReleased { incarnation: Incarnation([0x77; 16]), by: "ada".into() }),
        around(Author::Operator(None), Body::TokenRevoked { token: TokenId([0x55; 16]) }),
        around(Author::Operator(None), Body::Archive(archive_committed())),
        around(worker, timer_started()),
        around(Author::Driver, Body::TimerFired { step_key: "nap".into() }),
        around(Author::Client(None), signal_received(Some("m-1".into()))),
        around(worker, signal_awaited(Some(TimeMs(1_750_000_060_000)))),
        around(Author::Driver, Body::SignalDelivered { step_key: "answer".into(), signal: Some(Seq(17)) }),
        around(worker, Body::WaitDropped { step_key: "nap".into() }),
        around(worker, approval_requested(Some(TimeMs(1_750_000_060_000)))),
        around(Author::Client(Some(DedupeId([0xcc; 16]))), approval_decided(ApprovalDecision::Approved)),
        around(worker, session_continued()),
        around(operator, Body::CancelRequested { reason: "too slow".into(), by: "ada".into() }),
        around(operator, Body::SessionResumed { by: "ada".into(), retry: true }),
        around(operator, terminated()),
        around(Author::Driver, child_started()),
        around(
            Author::Client(None),
            fork_edited(Edit::Output { step_key: "scan#2".into(), output: payload(Format::Value, 7) }),
        ),
        around(operator, divergence_accepted()),
        around(worker, child_spawned()),
        around(Author::Driver, child_ended(ChildEnd::Completed(payload(Format::Value, 6)))),
        around(Author::Driver, child_ended(ChildEnd::Failed(payload(Format::Failure, 6)))),
        around(Author::Driver, child_ended(ChildEnd::Cancelled("too slow".into()))),
        around(
            worker,
            Body::ChildCancelRequested { step_key: "child#1".into(), reason: "lost the race".into() },
        ),
        around(Author::Driver, workflow_registered()),
        around(operator, workflow_drained(true)),
    ]
}

/// Further shapes of the same kinds: what is optional is absent.
pub fn sparse_events() -> Vec<Event> {
    let by_policy = [
        Resolution::Failure(None),
        Resolution::Failure(Some(payload(Format::Failure, 8))),
        Resolution::NotApplied(None),
        Resolution::NotApplied(Some(payload(Format::Failure, 8))),
        Resolution::Retry,
    ];
    let mut events: Vec<Event> =
        by_policy.into_iter().map(|resolution| around(Author::Driver, guard_resolved(resolution))).collect();
    events.push(around(Author::Client(None), fork_edited(Edit::Input(payload(Format::Value, 7)))));
    let failure = payload(Format::Failure, 7);
    events.push(around(
        Author::Client(None),
        fork_edited(Edit::Failure { step_key: "scan#2".into(), failure }),
    ));
    let paused = Body::SessionPaused { reason: PauseReason::Requested, step_key: None, details: None };
    events.push(around(Author::Operator(None), paused));
    for reason in
        [ReleaseReason::Unsaid, ReleaseReason::Shutdown, ReleaseReason::Unable, ReleaseReason::Waiting]
    {
        events.push(around(Author::Driver, Body::LeaseReleased { epoch: Epoch(1), reason }));
    }
    events.push(around(Author::Client(None), with_terms()));
    events.push(around(Author::Client(None), signal_received(None)));
    events.push(around(Author::Driver, signal_awaited(None)));
    events.push(around(Author::Driver, Body::SignalDelivered { step_key: "answer".into(), signal: None }));
    events.push(around(Author::Driver, approval_requested(None)));
    events.push(around(Author::Driver, approval_decided(ApprovalDecision::Expired)));
    events.push(around(Author::Client(None), approval_decided(ApprovalDecision::Rejected)));
    events
}

fn session_started() -> Body {
    Body::SessionStarted(SessionStarted {
        session: SessionId([0x11; 16]),
        namespace: "default".into(),
        workflow: "audit".into(),
        version: "1.2".into(),
        generation: 2,
        key: Some(payload(Format::Bytes, 5)),
        input: payload(Format::Value, 200),
        lineage: LineageId([0x22; 16]),
        root: SessionId([0x33; 16]),
        forked_from: Some(ForkedFrom { parent: SessionId([0x44; 16]), seq: Seq(12), live: false }),
        system: true,
        budget: BudgetStart::default(),
        parent: None,
        top: SessionId([0x11; 16]),
        depth: 0,
        continued_from: None,
        labels: Vec::new(),
        incarnation: None,
        deadline: None,
    })
}

fn labels_set() -> Body {
    Body::LabelsSet(LabelsSet {
        set: vec![("customer".into(), "42".into())],
        removed: vec!["draft".into()],
        by: "ada".into(),
    })
}

/// A start with labels and a time of its own.
fn with_terms() -> Body {
    let Body::SessionStarted(started) = session_started() else { unreachable!() };
    Body::SessionStarted(SessionStarted {
        labels: vec![("customer".into(), "42".into())],
        incarnation: Some(Incarnation([0x77; 16])),
        deadline: Some(TimeMs(1_750_000_900_000)),
        ..started
    })
}

fn session_cancelled(reason: &str) -> Body {
    let (reason, by) = (reason.into(), "".into());
    Body::SessionCancelled(SessionCancelled { reason, by, terminated: false, unknown: Vec::new() })
}

fn terminated() -> Body {
    Body::SessionCancelled(SessionCancelled {
        reason: "runs away".into(),
        by: "ada".into(),
        terminated: true,
        unknown: vec!["mail".into(), "pay".into()],
    })
}

fn session_continued() -> Body {
    Body::SessionContinued(SessionContinued {
        successor: SessionId([0x12; 16]),
        version: "1.3".into(),
        input: payload(Format::Value, 4),
        state: Some(payload(Format::StateDelta, 5)),
        conversation: Some(payload(Format::ConversationDelta, 210)),
    })
}

/// A child that is continued by a successor: everything that a tree adds to a start.
fn child_started() -> Body {
    let Body::SessionStarted(started) = session_started() else { unreachable!("it is what it says") };
    Body::SessionStarted(SessionStarted {
        forked_from: None,
        system: false,
        parent: Some(Parent { session: SessionId([0x13; 16]), step_key: "child#1".into(), abandoned: true }),
        top: SessionId([0x14; 16]),
        depth: 2,
        continued_from: Some(SessionId([0x15; 16])),
        ..started
    })
}

fn fork_edited(edit: Edit) -> Body {
    Body::ForkEdited(ForkEdited { edit, replaces: Some(Seq(13)) })
}

fn divergence_accepted() -> Body {
    Body::DivergenceAccepted(DivergenceAccepted {
        step_key: "scan#2".into(),
        input_digest: Some(Digest([0x88; 32])),
        drop: true,
        by: "ada".into(),
    })
}

fn child_spawned() -> Body {
    Body::ChildSpawned(ChildSpawned {
        step_key: "child#1".into(),
        name: "child".into(),
        child: SessionId([0x17; 16]),
        workflow: "audit".into(),
        version: "2".into(),
        input: payload(Format::Value, 4),
        input_digest: Some(Digest([0x88; 32])),
        abandoned: true,
    })
}

fn child_ended(end: ChildEnd) -> Body {
    Body::ChildEnded(ChildEnded {
        step_key: "child#1".into(),
        child: SessionId([0x17; 16]),
        ended: SessionId([0x18; 16]),
        end,
    })
}

fn lease_granted() -> Body {
    Body::LeaseGranted(LeaseGranted {
        epoch: Epoch(4),
        instance: InstanceId([0x66; 16]),
        takeover: true,
        incarnation: Incarnation([0x77; 16]),
    })
}

fn session_paused() -> Body {
    Body::SessionPaused {
        reason: PauseReason::Nondeterminism,
        step_key: Some("scan#2".into()),
        details: Some(payload(Format::Failure, 6)),
    }
}

fn usage() -> Usage {
    Usage {
        provider: "openai".into(),
        model: "gpt".into(),
        input_tokens: 1000,
        cached_read_tokens: 200,
        cache_write_tokens: 30,
        output_tokens: 400,
        estimated: true,
        cost: Some(NanoDollars(12_345)),
        price_date: "2026-01-01".into(),
    }
}

fn llm_call() -> LlmCall {
    LlmCall {
        request: Some(payload(Format::LlmRequest, 150)),
        response: Some(payload(Format::LlmResponse, 4)),
        usage: usage(),
    }
}

fn step_completed() -> Body {
    Body::StepCompleted(StepCompleted {
        step_key: "scan#2".into(),
        name: "scan".into(),
        attempt: 3,
        input_digest: Some(Digest([0x88; 32])),
        input: Some(payload(Format::Value, 6)),
        output: payload(Format::Value, 7),
        llm: Some(llm_call()),
        resources: vec![Resource {
            kind: "file".into(),
            id: "src/main.rs".into(),
            mode: ResourceMode::Write,
            range: "1-20".into(),
        }],
        cost: NanoDollars(-5),
        duration_us: 1234,
        deduplicated_from: Some((SessionId([0x99; 16]), Seq(5))),
        guarded: true,
    })
}

pub fn step_failed() -> Body {
    Body::StepFailed(StepFailed {
        step_key: "scan#2".into(),
        name: "scan".into(),
        attempt: 3,
        input_digest: Some(Digest([0x88; 32])),
        failure: payload(Format::Failure, 7),
        is_final: true,
        retry_at: Some(TimeMs(1_750_000_001_000)),
        usage: Some(usage()),
        duration_us: 1234,
        guarded: true,
    })
}

fn step_heartbeat() -> Body {
    Body::StepHeartbeat { step_key: "crawl".into(), attempt: 2, details: payload(Format::Value, 9) }
}

fn guard_intent() -> Body {
    Body::GuardIntent(GuardIntent {
        step_key: "mail".into(),
        name: "mail".into(),
        attempt: 1,
        input_digest: Digest([0x88; 32]),
        attempt_ms: 30_000,
        grace_ms: 5_000,
        policy: GuardPolicy::Reconcile,
        idempotency_key: payload(Format::Bytes, 9),
    })
}

fn guard_unknown() -> Body {
    Body::GuardUnknown {
        step_key: "mail".into(),
        attempt: 1,
        reason: UnknownReason::TimedOut,
        failure: Some(payload(Format::Failure, 9)),
    }
}

fn guard_resolved(resolution: Resolution) -> Body {
    Body::GuardResolved(GuardResolved { step_key: "mail".into(), attempt: 1, resolution, by: "ada".into() })
}

fn zone_entered() -> Body {
    Body::ZoneEntered {
        zone_key: "llm#1".into(),
        name: "llm".into(),
        attempt: 2,
        input_digest: Some(Digest([0x88; 32])),
    }
}

fn zone_committed() -> Body {
    Body::ZoneCommitted(ZoneCommitted {
        zone_key: "llm#1".into(),
        attempt: 2,
        output: Some(payload(Format::Value, 5)),
        record: payload(Format::ZoneRecord, 160),
        llm_calls: vec![llm_call(), LlmCall { request: None, response: None, usage: Usage::default() }],
        duration_us: 99,
        cost: NanoDollars(77),
    })
}

fn zone_failed() -> Body {
    Body::ZoneFailed(ZoneFailed {
        zone_key: "llm#1".into(),
        attempt: 2,
        failure: payload(Format::Failure, 5),
        is_final: true,
        usage: vec![usage()],
        retry_at: Some(TimeMs(1_750_000_001_000)),
    })
}

fn zone_rolled_back() -> Body {
    Body::ZoneRolledBack(ZoneRolledBack {
        zone_key: "llm#1".into(),
        attempt: 2,
        reason: RollbackReason::Takeover,
        evidence_bytes: 4096,
        wasted_tokens: 1024,
    })
}

fn timer_started() -> Body {
    Body::TimerStarted { step_key: "nap".into(), name: "nap".into(), due: TimeMs(1_750_000_060_000) }
}

fn signal_received(id: Option<Arc<str>>) -> Body {
    Body::SignalReceived(SignalReceived {
        name: "answer".into(),
        id,
        value: payload(Format::Value, 4),
        by: "ada".into(),
    })
}

fn signal_awaited(due: Option<TimeMs>) -> Body {
    Body::SignalAwaited { step_key: "answer".into(), name: "answer".into(), due }
}

fn approval_requested(due: Option<TimeMs>) -> Body {
    Body::ApprovalRequested(ApprovalRequested {
        step_key: "pay".into(),
        name: "pay".into(),
        call: payload(Format::Value, 5),
        args_digest: Digest([0x99; 32]),
        due,
    })
}

fn approval_decided(decision: ApprovalDecision) -> Body {
    let expired = decision == ApprovalDecision::Expired;
    Body::ApprovalDecided(ApprovalDecided {
        step_key: "pay".into(),
        decision,
        by: if expired { "" } else { "ada" }.into(),
        comment: (!expired).then(|| payload(Format::Value, 6)),
    })
}

pub fn limits() -> Limits {
    Limits { cost: Some(NanoDollars(500)), tokens: Some(600), steps: Some(70), wall_ms: Some(8000) }
}

fn amounts() -> Amounts {
    Amounts { cost: NanoDollars(11), tokens: 12, steps: 1 }
}

fn budget_owner() -> BudgetOwner {
    let kinds = Kinds { cost: true, tokens: false, steps: true, wall: false };
    BudgetOwner { session: SessionId([0x44; 16]), kinds }
}

fn budget_reserved() -> Body {
    Body::BudgetReserved { step_key: "ask#1".into(), attempt: 2, call: 3, amounts: amounts() }
}

/// A budget row with every field set.
pub fn budget_row() -> BudgetRow {
    BudgetRow {
        limits: limits(),
        spent: amounts(),
        reserved: Amounts { cost: NanoDollars(21), tokens: 22, steps: 2 },
        deadline: Some(TimeMs(1_750_000_008_000)),
        raised: TimeMs(1_750_000_000_999),
    }
}

/// A start under budgets.
pub fn budget_start() -> BudgetStart {
    BudgetStart { limits: limits(), inherited: vec![budget_owner()] }
}

/// Every field set; one key is an intent's, one a zone's, one its own.
pub fn session_budget() -> SessionBudget {
    SessionBudget {
        owners: vec![budget_owner()],
        limits: limits(),
        spent: amounts(),
        reservations: ["ask#1", "mail", "llm#1"].map(reservation).into(),
        overdue: true,
    }
}

fn token_created() -> Body {
    Body::TokenCreated(TokenCreated {
        token: TokenId([0x55; 16]),
        name: "ci".into(),
        role: Role::Compactor,
        namespace: "*".into(),
        expires: Some(TimeMs(1_760_000_000_000)),
        secret_hash: Digest([0xab; 32]),
    })
}

fn workflow_registered() -> Body {
    Body::WorkflowRegistered(WorkflowRegistered {
        workflow: "audit".into(),
        version: "1.1.0".into(),
        compatible: vec!["1.0.0".into(), "1.0.1".into()],
    })
}

fn workflow_drained(draining: bool) -> Body {
    let (workflow, version, by) = ("audit".into(), "1.0.0".into(), "ada".into());
    Body::WorkflowDrained(WorkflowDrained { workflow, version, draining, by })
}

/// A small head with every field set.
pub fn head() -> Head {
    Head {
        session: SessionId([0x11; 16]),
        namespace: "default".into(),
        workflow: "audit".into(),
        version: "1.2".into(),
        generation: 2,
        lineage: LineageId([0x22; 16]),
        root: SessionId([0x33; 16]),
        system: true,
        status: Status::Paused { reason: PauseReason::EffectUnknown, step_key: Some("mail".into()) },
        seq: Seq(300),
        hash: Hash([0x44; 32]),
        time: TimeMs(1_750_000_000_123),
        started: TimeMs(1_750_000_000_000),
        epoch: Epoch(4),
        holder: Some(InstanceId([0x66; 16])),
        intents: vec![OpenIntent {
            step_key: "mail".into(),
            attempt: 1,
            seq: Seq(12),
            due: TimeMs(1_750_000_035_000),
            policy: GuardPolicy::Pause,
            state: IntentState::Due,
        }],
        zones: vec![OpenZone { zone_key: "llm#1".into(), attempt: 2, seq: Seq(14) }],
        counters: Counters {
            steps: 1,
            llm_calls: 2,
            input_tokens: 3,
            cached_read_tokens: 4,
            cache_write_tokens: 5,
            output_tokens: 6,
            cost: NanoDollars(7),
            wasted_tokens: 8,
            wasted_cost: NanoDollars(9),
            unpriced_calls: 0,
            takeovers: 0,
        },
        budget: SessionBudget::default(),
        dedupe: vec![(DedupeId([0xdd; 16]), Seq(9))],
        waits: Vec::new(),
        signals: Vec::new(),
        parent: None,
        top: SessionId([0x11; 16]),
        depth: 0,
        cancel_requested: None,
        continued_from: None,
        continued_to: None,
        labels: Vec::new(),
        incarnation: None,
        deadline: None,
        owns_keys: false,
        forked: None,
    }
}

/// What belonging to a tree adds to a head.
pub fn tree_head() -> Head {
    Head {
        parent: Some(Parent { session: SessionId([0x13; 16]), step_key: "child#1".into(), abandoned: true }),
        top: SessionId([0x14; 16]),
        depth: 2,
        cancel_requested: Some(Seq(298)),
        continued_from: Some(SessionId([0x15; 16])),
        continued_to: Some(SessionId([0x16; 16])),
        waits: vec![
            wait("abandoned", child(true, false), None),
            wait("cancelling", child(false, true), None),
        ],
        ..head()
    }
}

/// Where a fork was cut, every number at its longest.
pub fn forked() -> Forked {
    Forked {
        from: ForkedFrom { parent: SessionId([0x44; 16]), seq: Seq(u64::MAX), live: true },
        inherited: Counters {
            steps: u64::MAX,
            llm_calls: u64::MAX,
            input_tokens: u64::MAX,
            cached_read_tokens: u64::MAX,
            cache_write_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cost: NanoDollars(-1),
            wasted_tokens: u64::MAX,
            wasted_cost: NanoDollars(-1),
            unpriced_calls: 0,
            takeovers: 0,
        },
    }
}

/// A small head of a session that waits for one thing of each kind.
pub fn waiting_head() -> Head {
    Head {
        status: Status::Waiting,
        holder: None,
        intents: Vec::new(),
        zones: Vec::new(),
        waits: vec![
            wait("nap", WaitKind::Timer, Some(TimeMs(1_750_000_060_000))),
            wait("answer", WaitKind::Signal, None),
            wait("pay", WaitKind::Approval { args_digest: Digest([0x99; 32]) }, None),
            wait("child", child(false, false), None),
        ],
        signals: vec![("other".into(), Seq(20))],
        ..head()
    }
}

const fn child(abandoned: bool, cancelling: bool) -> WaitKind {
    WaitKind::Child { session: SessionId([0x12; 16]), abandoned, cancelling }
}

fn wait(key: &str, kind: WaitKind, due: Option<TimeMs>) -> OpenWait {
    OpenWait { step_key: key.into(), name: key.into(), kind, seq: Seq(15), due }
}

fn reservation(step_key: &str) -> Reservation {
    Reservation { step_key: step_key.into(), attempt: 2, epoch: Epoch(4), calls: 3, amounts: amounts() }
}

/// Under as many budgets as there may be, nothing reserved.
fn largest_budget() -> SessionBudget {
    let kinds = Kinds { cost: true, tokens: true, steps: true, wall: true };
    SessionBudget {
        owners: vec![BudgetOwner { session: SessionId([1; 16]), kinds }; OWNERS_MAX],
        limits: Limits {
            cost: Some(NanoDollars(i64::MAX)),
            tokens: Some(u64::MAX),
            steps: Some(u64::MAX),
            wall_ms: Some(u64::MAX),
        },
        spent: most_amounts(),
        reservations: Vec::new(),
        overdue: true,
    }
}

fn most_amounts() -> Amounts {
    Amounts { cost: NanoDollars(i64::MAX), tokens: u64::MAX, steps: u64::MAX }
}

/// The same with guarded steps instead of waits, every one of them reserved for.
pub fn largest_reserved_head() -> Head {
    let key_bytes = OPEN_BYTES_MAX / OPEN_MAX - 44 - 68;
    let key = |n: usize| -> Arc<str> { format!("{n:0>key_bytes$}").into() };
    let intent = |n: usize| OpenIntent {
        step_key: key(n),
        attempt: u32::MAX,
        seq: Seq(u64::MAX),
        due: TimeMs(u64::MAX),
        policy: GuardPolicy::Reconcile,
        state: IntentState::MayRetry,
    };
    let reservation = |n: usize| Reservation {
        step_key: key(n),
        attempt: u32::MAX,
        epoch: Epoch(u64::MAX),
        calls: u32::MAX,
        amounts: most_amounts(),
    };
    let largest = largest_head();
    let reservations = (0..OPEN_MAX).map(reservation).collect();
    Head {
        owns_keys: true,
        waits: Vec::new(),
        intents: (0..OPEN_MAX).map(intent).collect(),
        budget: SessionBudget { reservations, ..largest.budget.clone() },
        ..largest
    }
}

/// The largest head that `decide` lets come to be: every number at its longest, every text at its limit.
pub fn largest_head() -> Head {
    let name: Arc<str> = "n".repeat(NAME_BYTES_MAX).into();
    let key_bytes = (OPEN_BYTES_MAX / OPEN_MAX - 72) / 2;
    // Approvals take the most: a digest beside key and name.
    let approval = |n: usize| OpenWait {
        step_key: format!("{n:0>key_bytes$}").into(),
        name: "n".repeat(key_bytes).into(),
        kind: WaitKind::Approval { args_digest: Digest([0x99; 32]) },
        seq: Seq(u64::MAX),
        due: Some(TimeMs(u64::MAX)),
    };
    let signal: Arc<str> = "s".repeat(SIGNAL_NAME_BYTES_MAX / SIGNALS_BUFFERED_MAX).into();
    let most = NanoDollars(-1); // a negative number takes ten bytes
    Head {
        owns_keys: true,
        namespace: name.clone(),
        workflow: name.clone(),
        version: name,
        generation: u32::MAX,
        status: Status::Paused {
            reason: PauseReason::Budget,
            step_key: Some("k".repeat(STEP_KEY_BYTES_MAX).into()),
        },
        seq: Seq(u64::MAX),
        time: TimeMs(u64::MAX),
        started: TimeMs(u64::MAX),
        epoch: Epoch(u64::MAX),
        intents: Vec::new(),
        zones: Vec::new(),
        waits: (0..OPEN_MAX).map(approval).collect(),
        signals: vec![(signal, Seq(u64::MAX)); SIGNALS_BUFFERED_MAX],
        counters: Counters {
            steps: u64::MAX,
            llm_calls: u64::MAX,
            input_tokens: u64::MAX,
            cached_read_tokens: u64::MAX,
            cache_write_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cost: most,
            wasted_tokens: u64::MAX,
            wasted_cost: most,
            unpriced_calls: u64::MAX,
            takeovers: u64::MAX,
        },
        forked: Some(forked()),
        budget: largest_budget(),
        dedupe: vec![(DedupeId([1; 16]), Seq(u64::MAX)); DEDUPE_IDS_MAX],
        parent: Some(Parent {
            session: SessionId([0x13; 16]),
            step_key: "k".repeat(STEP_KEY_BYTES_MAX).into(),
            abandoned: true,
        }),
        depth: u32::MAX,
        cancel_requested: Some(Seq(u64::MAX)),
        ..tree_head()
    }
}

pub fn archive_committed() -> ArchiveEvent {
    ArchiveEvent::Committed(Committed {
        claim: ClaimId([0xc1; 16]),
        epoch: Seq(9),
        lineages: vec![ArchivedLineage {
            lineage: LineageId([0x1a; 16]),
            segment: 20_000,
            events: 12,
            dead_bytes: 3_000,
        }],
        manifest: "manifests/m.json".into(),
        manifest_digest: [0xd1; 32],
    })
}

/// What the archive does, besides a commit.
pub fn archive_events() -> Vec<ArchiveEvent> {
    let (claim, lineage) = (ClaimId([0xc1; 16]), LineageId([0x1a; 16]));
    let claimed = |purpose| {
        let (epoch, expires) = (Seq(9), TimeMs(1_750_000_060_000));
        ArchiveEvent::Claimed(Claimed {
            claim,
            epoch,
            expires,
            purpose,
            lineages: vec![lineage],
            by: "c".into(),
        })
    };
    vec![
        claimed(Purpose::Archive),
        claimed(Purpose::Restore(20_001)),
        claimed(Purpose::Rewrite),
        ArchiveEvent::Dropped { claim, lineages: vec![lineage] },
        ArchiveEvent::Published { claim },
        ArchiveEvent::Restored { claim, lineage, segment: 20_001 },
        ArchiveEvent::Erased { lineage, by: "ada".into(), reason: "asked".into() },
        ArchiveEvent::Held { lineage, held: true, by: "ada".into(), reason: "court".into() },
        ArchiveEvent::Rewritten(Rewritten {
            claim,
            epoch: Seq(9),
            replaces: (ClaimId([0xc0; 16]), Seq(8)),
            lineages: [Fate::Kept, Fate::Bare, Fate::Cut, Fate::Dropped].map(|fate| (lineage, fate)).into(),
            manifest: "manifests/m.json".into(),
            manifest_digest: [0xd1; 32],
        }),
        ArchiveEvent::Reclaimed { segment: 20_000, dead_bytes: 3_000 },
    ]
}
