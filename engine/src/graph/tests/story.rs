//! Given/when/then in few words: a model, a clock that the test drives, and commands with everything filled in.

use std::sync::Arc;

use super::model::Model;
use crate::graph::budget::{Ask, BudgetStart, Limits, Raise};
use crate::graph::command::{
    Acquire, Append, ApprovalAsked, Cancel, Code, Command, DecideApproval, Descent, Finding, Fires, GuardKey,
    LeaseRequest, Op, Pause, Rejection, ReleaseHold, Reply, Resolve, Resume, SetLabels, Signal, Start,
    StartKey,
};
use crate::graph::decide::Decision;
use crate::graph::event::{
    ApprovalDecision, Author, Body, ChildEnd, ChildEnded, ChildSpawned, Format, GuardIntent, GuardPolicy,
    LabelsSet, Parent, PayloadRef, ReleaseReason, Resolution, SessionContinued, StepCompleted, StepFailed,
    UnknownReason, Usage, ZoneCommitted, ZoneFailed,
};
use crate::graph::ids::{
    DedupeId, Digest, Epoch, Incarnation, InstanceId, LineageId, NanoDollars, Seq, SessionId, TimeMs,
};
use crate::graph::session::Head;

/// Attempt time and grace of the stories' guarded steps.
pub const ATTEMPT_MS: u64 = 1000;
pub const GRACE_MS: u64 = 100;

/// How long an idempotency key is kept after its owner's end.
pub const RETENTION_MS: u64 = 50_000;

pub const A: InstanceId = InstanceId([0xa; 16]);
pub const B: InstanceId = InstanceId([0xb; 16]);

pub struct Story {
    pub model: Model,
    pub now: TimeMs,
    /// The session the story is about.
    pub session: SessionId,
}

impl Story {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self { model: Model::default(), now: TimeMs(10_000), session: session(1) }
    }

    /// A session that instance A runs at epoch 1.
    pub fn running() -> Self {
        let mut story = Self::new();
        story.ok(start(1, Some(lease(A, None))));
        story
    }

    pub fn head(&self) -> Arc<Head> {
        self.model.heads.get(&self.session).unwrap().clone()
    }

    pub fn submit(&mut self, command: impl Into<Command>) -> Result<Decision, Rejection> {
        self.model.submit(&command.into(), self.now)
    }

    /// When: it must be accepted.
    #[track_caller]
    pub fn ok(&mut self, command: impl Into<Command>) -> Decision {
        match self.submit(command) {
            Ok(decision) => decision,
            Err(rejection) => panic!("refused: {rejection}"),
        }
    }

    /// When: it must be refused, and nothing appended.
    #[track_caller]
    pub fn refused(&mut self, command: impl Into<Command>) -> Rejection {
        let before = self.model.events.clone();
        match self.submit(command) {
            Ok(decision) => panic!("accepted: {decision:?}"),
            Err(rejection) => {
                assert_eq!(self.model.events, before);
                rejection
            }
        }
    }

    #[track_caller]
    pub fn code(&mut self, command: impl Into<Command>) -> Code {
        self.refused(command).code
    }

    /// An append of the run at `epoch`.
    pub fn append(&self, epoch: u64, op: Op) -> Command {
        append(self.session, epoch, op)
    }

    /// The run at epoch 1 appends: it must be accepted.
    #[track_caller]
    pub fn run(&mut self, op: Op) -> Decision {
        self.ok(self.append(1, op))
    }

    /// The run at epoch 1 appends what was recorded before: zero events, and the seq of the first time.
    #[track_caller]
    pub fn duplicate(&mut self, op: Op) -> Seq {
        let decision = self.run(op);
        assert_eq!(decision.events, []);
        match decision.reply {
            Reply::Appended { seq, duplicate: true, .. } => seq,
            other => panic!("not a duplicate: {other:?}"),
        }
    }

    #[track_caller]
    pub fn recorded(&mut self, op: Op) -> Seq {
        let decision = self.run(op);
        assert_eq!(decision.events, []);
        match decision.reply {
            Reply::Recorded { seq } => seq,
            other => panic!("not the recorded outcome: {other:?}"),
        }
    }

    /// The run at epoch 1 appends: it must be refused.
    #[track_caller]
    pub fn run_refused(&mut self, op: Op) -> Code {
        self.code(self.append(1, op))
    }

    /// Lets time pass until the open intent of `key` is due.
    pub fn until_due(&mut self, key: &str) {
        self.now = self.head().intent(key).unwrap().due;
    }

    #[track_caller]
    pub fn intent_due(&mut self, key: &str, attempt: u32) -> Decision {
        self.ok(due(self.session, key, attempt))
    }
}

pub fn bodies(decision: &Decision) -> Vec<Body> {
    let events = decision.events.iter();
    events.map(|event| event.body.clone()).collect()
}

pub fn session(n: u8) -> SessionId {
    let mut id = [0; 16];
    id[15] = n;
    SessionId(id)
}

pub fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

pub fn payload(n: u8) -> PayloadRef {
    PayloadRef { format: Format::Value, codec: "".into(), size: 3, digest: digest(n), inline: true }
}

pub fn dedupe(n: u8) -> Option<DedupeId> {
    Some(DedupeId([n; 16]))
}

pub fn lease(instance: InstanceId, dead: Option<InstanceId>) -> LeaseRequest {
    LeaseRequest { instance, incarnation: Incarnation([9; 16]), dead, evidence: Vec::new() }
}

/// A start without a key of session `n`.
pub fn start(n: u8, lease: Option<LeaseRequest>) -> Start {
    Start {
        session: session(n),
        lineage: LineageId([n; 16]),
        namespace: "default".into(),
        workflow: "audit".into(),
        version: "1".into(),
        input: payload(1),
        key: None,
        if_ended_restart: false,
        system: false,
        lease,
        dedupe: None,
        descent: None,
        budget: BudgetStart::default(),
        labels: Vec::new(),
        incarnation: Incarnation([9; 16]),
        timeout_ms: None,
    }
}

/// The same with key `key` and input `input`.
pub fn keyed(n: u8, key: u8, input: u8, lease: Option<LeaseRequest>) -> Start {
    Start {
        key: Some(StartKey { digest: digest(key), input_digest: digest(input), payload: payload(key) }),
        ..start(n, lease)
    }
}

pub fn system(n: u8) -> Start {
    Start { system: true, ..start(n, None) }
}

pub fn acquire(n: u8, lease: LeaseRequest, held: Option<u64>) -> Acquire {
    Acquire { session: session(n), lease, held: held.map(Epoch), version: Some("1".into()) }
}

pub fn release(session: SessionId, epoch: u64) -> Command {
    Command::Release { session, epoch: Epoch(epoch), reason: ReleaseReason::Suspended, seen: Seq(0) }
}

pub fn append(session: SessionId, epoch: u64, op: Op) -> Command {
    Command::Append(Append {
        session,
        epoch: Epoch(epoch),
        after: None,
        state_delta: None,
        conversation_delta: None,
        op,
    })
}

pub fn due(session: SessionId, key: &str, attempt: u32) -> Command {
    Command::IntentDue { session, step_key: key.into(), attempt }
}

pub fn resolve(session: SessionId, key: &str, resolution: Resolution) -> Resolve {
    Resolve { session, step_key: key.into(), resolution, by: "ada".into(), dedupe: None, resume: false }
}

pub fn resume(session: SessionId, dedupe: Option<DedupeId>) -> Command {
    Command::Resume(Resume { session, by: "ada".into(), dedupe, retry: false })
}

pub fn pause(session: SessionId, dedupe: Option<DedupeId>) -> Command {
    Command::Pause(Pause { session, details: None, dedupe })
}

pub fn cancel(session: SessionId, dedupe: Option<DedupeId>) -> Cancel {
    Cancel { session, reason: "too slow".into(), by: "ada".into(), author: Author::Operator(dedupe) }
}

/// The run ends its session, to be continued by session `n` with input `input`.
pub fn continue_as(n: u8, input: u8) -> Op {
    Op::Continue(SessionContinued {
        successor: session(n),
        version: "".into(),
        input: payload(input),
        state: Some(payload(31)),
        conversation: Some(payload(32)),
    })
}

pub fn spawn(key: &str, child: u8, abandoned: bool) -> Op {
    Op::SpawnChild(ChildSpawned {
        step_key: key.into(),
        name: "child".into(),
        child: session(child),
        workflow: "audit".into(),
        version: "1".into(),
        input: payload(41),
        input_digest: Some(digest(77)),
        abandoned,
    })
}

pub fn cancel_child(key: &str) -> Op {
    Op::CancelChild { step_key: key.into(), reason: "lost the race".into() }
}

/// What the driver of the tree makes of a session that `by` named.
pub fn named_start(model: &Model, by: SessionId, session: SessionId) -> Start {
    let head = model.heads.get(&by).unwrap();
    if head.continued_to == Some(session) {
        return successor(model, by, session);
    }
    let spawned = model.log(by).into_iter().find_map(|event| match event.body {
        Body::ChildSpawned(child) if child.child == session => Some(child),
        _ => None,
    });
    let child = spawned.expect("it was named by a spawn");
    Start {
        session,
        lineage: LineageId(session.0),
        input: child.input,
        descent: Some(Descent {
            parent: Some(Parent { session: by, step_key: child.step_key, abandoned: child.abandoned }),
            top: head.top,
            depth: head.depth + 1,
            continues: None,
            state: None,
            conversation: None,
        }),
        ..start(0, None)
    }
}

/// What the driver of the tree makes of the end of a child, or of the last of its successors.
pub fn child_end(model: &Model, parent: SessionId, ended: SessionId) -> Command {
    let head = model.heads.get(&ended).unwrap();
    let step_key = head.parent.clone().unwrap().step_key;
    let child = model.heads.get(&parent).unwrap().wait(&step_key).unwrap().child().unwrap();
    let end = match model.log(ended).last().unwrap().body.clone() {
        Body::SessionCompleted { output } => ChildEnd::Completed(output),
        Body::SessionFailed { failure } => ChildEnd::Failed(failure),
        Body::SessionCancelled(end) => ChildEnd::Cancelled(end.reason),
        other => panic!("{ended} has not ended: {other:?}"),
    };
    Command::ChildEnded { session: parent, ended: ChildEnded { step_key, child, ended, end } }
}

/// What the driver of the tree makes of the continuation of `by` by `session`: key, parent and top go over.
pub fn successor(model: &Model, by: SessionId, session: SessionId) -> Start {
    let before = model.heads.get(&by).unwrap();
    let row = model.rows.keys.iter().find(|(_, row)| row.session == by);
    let Some(Body::SessionContinued(end)) = model.log(by).last().map(|event| event.body.clone()) else {
        panic!("{by} is not continued")
    };
    Start {
        session,
        lineage: LineageId(session.0),
        version: end.version,
        input: end.input,
        key: row.map(|(digest, row)| StartKey {
            digest: *digest,
            input_digest: row.input_digest,
            payload: payload(1),
        }),
        lease: None,
        descent: Some(Descent {
            parent: before.parent.clone(),
            top: before.top,
            depth: before.depth,
            continues: Some(by),
            state: end.state,
            conversation: end.conversation,
        }),
        ..start(0, None)
    }
}

pub fn completed(key: &str, attempt: u32, output: u8) -> Op {
    Op::StepCompleted(step(key, attempt, output))
}

pub fn step(key: &str, attempt: u32, output: u8) -> StepCompleted {
    StepCompleted {
        step_key: key.into(),
        name: "step".into(),
        attempt,
        input_digest: Some(digest(77)),
        input: None,
        output: payload(output),
        llm: None,
        resources: Vec::new(),
        cost: NanoDollars(0),
        duration_us: 5,
        deduplicated_from: None,
        guarded: false,
    }
}

pub fn guarded(key: &str, attempt: u32, output: u8) -> Op {
    Op::StepCompleted(StepCompleted { guarded: true, ..step(key, attempt, output) })
}

pub fn failed(key: &str, attempt: u32, is_final: bool) -> Op {
    Op::StepFailed(failure(key, attempt, is_final))
}

pub fn failure(key: &str, attempt: u32, is_final: bool) -> StepFailed {
    StepFailed {
        step_key: key.into(),
        name: "step".into(),
        attempt,
        input_digest: Some(digest(77)),
        failure: payload(13),
        is_final,
        retry_at: None,
        usage: None,
        duration_us: 5,
        guarded: false,
    }
}

pub fn guarded_failed(key: &str, attempt: u32, is_final: bool) -> Op {
    Op::StepFailed(StepFailed { guarded: true, ..failure(key, attempt, is_final) })
}

/// An intent whose idempotency key and input are the step's own.
pub fn intent(key: &str, attempt: u32, policy: GuardPolicy) -> Op {
    let own = u8::try_from(key.bytes().map(u32::from).sum::<u32>() % 251).unwrap();
    intent_with(key, attempt, policy, own, 77)
}

/// Stands for the hash of a step's key.
pub fn step_key_hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (byte, of_key) in hash.iter_mut().zip(key.bytes()) {
        *byte = of_key;
    }
    hash
}

pub fn intent_with(key: &str, attempt: u32, policy: GuardPolicy, guard: u8, input: u8) -> Op {
    let step_key_hash = step_key_hash(key);
    Op::GuardIntent {
        intent: GuardIntent {
            step_key: key.into(),
            name: "mail".into(),
            attempt,
            input_digest: digest(input),
            attempt_ms: ATTEMPT_MS,
            grace_ms: GRACE_MS,
            policy,
            idempotency_key: payload(guard),
        },
        guard: GuardKey {
            digest: digest(guard),
            input_digest: digest(input),
            step_key_hash,
            refuse_in_flight: false,
            output_gone: false,
            former: None,
        },
        taken: None,
    }
}

pub fn heartbeat(key: &str, attempt: u32) -> Op {
    Op::StepHeartbeat { step_key: key.into(), attempt, details: payload(23) }
}

pub fn set_labels(session: SessionId, set: &[(&str, &str)], removed: &[&str]) -> Command {
    let labels = LabelsSet {
        set: set.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        removed: removed.iter().map(|key| (*key).into()).collect(),
        by: "ada".into(),
    };
    Command::SetLabels(SetLabels { session, labels, dedupe: None })
}

pub fn release_hold(session: SessionId, incarnation: u8) -> Command {
    let incarnation = Incarnation([incarnation; 16]);
    Command::ReleaseHold(ReleaseHold { session, incarnation, by: "ada".into(), dedupe: None })
}

pub fn unknown(key: &str, attempt: u32) -> Op {
    Op::GuardUnknown { step_key: key.into(), attempt, reason: UnknownReason::Threw, failure: None }
}

pub fn finding(key: &str, attempt: u32, finding: Finding, by: &str) -> Op {
    Op::GuardFinding { step_key: key.into(), attempt, finding, by: by.into() }
}

pub fn not_applied(key: &str, attempt: u32) -> Op {
    finding(key, attempt, Finding::NotApplied(None), "tool")
}

pub fn entered(key: &str, attempt: u32) -> Op {
    Op::ZoneEntered { zone_key: key.into(), name: "zone".into(), attempt, input_digest: None }
}

pub fn committed(key: &str, attempt: u32) -> Op {
    Op::ZoneCommitted(ZoneCommitted {
        zone_key: key.into(),
        attempt,
        output: None,
        record: payload(21),
        llm_calls: Vec::new(),
        duration_us: 5,
        cost: NanoDollars(0),
    })
}

pub fn zone_failed(key: &str, attempt: u32, is_final: bool) -> Op {
    Op::ZoneFailed(ZoneFailed {
        zone_key: key.into(),
        attempt,
        failure: payload(22),
        is_final,
        usage: Vec::new(),
        retry_at: None,
    })
}

pub fn aborted(key: &str, attempt: u32) -> Op {
    Op::ZoneAborted { zone_key: key.into(), attempt, evidence_bytes: 40, wasted_tokens: 10 }
}

pub fn timer(key: &str, delay_ms: u64) -> Op {
    Op::TimerStarted { step_key: key.into(), name: "nap".into(), fires: Fires::After(delay_ms) }
}

/// Awaits the signal `name`; 0: for ever.
pub fn awaited(key: &str, name: &str, timeout_ms: u64) -> Op {
    let timeout_ms = (timeout_ms != 0).then_some(timeout_ms);
    Op::SignalAwaited { step_key: key.into(), name: name.into(), timeout_ms }
}

/// Asks for an approval of arguments with this digest; 0: it never expires.
pub fn asked(key: &str, args: u8, expires_in_ms: u64) -> Op {
    Op::ApprovalRequested(ApprovalAsked {
        step_key: key.into(),
        name: "pay".into(),
        call: payload(31),
        args_digest: digest(args),
        expires_in_ms: (expires_in_ms != 0).then_some(expires_in_ms),
    })
}

pub fn dropped(key: &str) -> Op {
    Op::WaitDropped { step_key: key.into() }
}

pub fn signal(session: SessionId, name: &str, id: Option<&str>, value: u8) -> Command {
    Command::Signal(Signal {
        session,
        name: name.into(),
        id: id.map(Into::into),
        value: payload(value),
        by: "ada".into(),
    })
}

pub fn decide(session: SessionId, key: &str, args: u8, dedupe: Option<DedupeId>) -> Command {
    Command::DecideApproval(DecideApproval {
        session,
        step_key: key.into(),
        decision: ApprovalDecision::Approved,
        comment: None,
        args_digest: digest(args),
        by: "ada".into(),
        dedupe,
    })
}

pub fn wait_due(session: SessionId, seq: Seq) -> Command {
    Command::WaitDue { session, seq }
}

pub fn release_waiting(session: SessionId, epoch: u64, seen: Seq) -> Command {
    Command::Release { session, epoch: Epoch(epoch), reason: ReleaseReason::Waiting, seen }
}

/// Reserves for call `call` of an attempt: `cost` nano-dollars, ten tokens, one step on the first call.
pub fn reserve(key: &str, attempt: u32, call: u32, cost: i64) -> Op {
    Op::BudgetReserved(Ask {
        step_key: key.into(),
        attempt,
        call,
        cost: Some(NanoDollars(cost)),
        tokens: 10,
        steps: u64::from(call == 1),
    })
}

pub fn limits(cost: i64, tokens: u64) -> Limits {
    Limits { cost: Some(NanoDollars(cost)), tokens: Some(tokens), ..Limits::default() }
}

pub fn raise(session: SessionId, cost: u64) -> Raise {
    let cost = Some(NanoDollars(i64::try_from(cost).unwrap()));
    Raise { session, limits: Limits { cost, ..Limits::default() }, by: "ada".into(), dedupe: None }
}

pub fn complete(output: u8) -> Op {
    Op::Complete { output: payload(output) }
}

pub fn usage(output_tokens: u64, cost: Option<i64>) -> Usage {
    Usage { input_tokens: 100, output_tokens, cost: cost.map(NanoDollars), ..Usage::default() }
}

impl From<Start> for Command {
    fn from(start: Start) -> Self {
        Self::Start(start)
    }
}

impl From<Acquire> for Command {
    fn from(acquire: Acquire) -> Self {
        Self::Acquire(acquire)
    }
}

impl From<Resolve> for Command {
    fn from(resolve: Resolve) -> Self {
        Self::Resolve(resolve)
    }
}

impl From<Raise> for Command {
    fn from(raise: Raise) -> Self {
        Self::RaiseBudget(raise)
    }
}
