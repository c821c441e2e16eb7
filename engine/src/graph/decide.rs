//! Judges a command against what the ledger says. Owns the order of the checks; each promise's rules are in its file.
//!
//! D1. Pure: the same view, command and time give the same decision. Nothing is folded here but the head it returns on.
//! D2. A refusal appends nothing; so does a duplicate, whose answer names the event that recorded it.
//! D3. A decision's events are of one session, their seqs follow its head, and `evolve` accepts them in order.
//! D4. Ledger time of an event is max(the session's last, now).
//!
//! The answer says nothing of the head after the decision: the ledger folds the events anyway and attaches it.

use std::sync::Arc;

use super::archive::ArchiveRow;
use super::budget::BudgetRow;
pub use super::claim::Lookups;
use super::command::{Append, Code, Command, Evidence, Op, Rejection, Reply};
use super::context::ContextRow;
use super::event::{Event, ReleaseReason};
use super::ids::{Digest, Epoch, LineageId, Seq, SessionId, TimeMs};
use super::session::{
    GuardOutcome, GuardRow, Head, KeyRow, NAME_BYTES_MAX, STEP_KEY_BYTES_MAX, SignalRow, Status, StepRow,
    StepState,
};
use super::version::WorkflowRow;
use super::{
    approval, archive, budget, cancel, child, context, draft::Draft, end, fork, guard, guard_key, hold,
    import, label, lease, signal, start, step, succession, timer, token, version, wait, zone,
};

/// The point look-ups a decision may make, all answered before it starts.
pub trait View {
    /// The head of a session.
    fn head(&self, session: SessionId) -> Option<Arc<Head>>;
    /// The row of a step or zone; `END_KEY`: of the end.
    fn step(&self, session: SessionId, key: &str) -> Option<StepRow>;
    /// The row of an idempotency key.
    fn guard(&self, digest: &Digest) -> Option<GuardRow>;
    /// What is known of the step that owns an idempotency key.
    fn guard_outcome(&self, guard: &GuardRow) -> Option<GuardOutcome>;
    /// The row of a signal's id in a session.
    fn signal(&self, session: SessionId, id: &str) -> Option<SignalRow>;
    /// The row of a session key.
    fn session_key(&self, digest: &Digest) -> Option<KeyRow>;
    /// The row of a budget, by its owner.
    fn budget(&self, owner: SessionId) -> Option<BudgetRow>;
    /// The row of a workflow's version in a namespace.
    fn workflow(&self, namespace: &str, workflow: &str, version: &str) -> Option<WorkflowRow>;
    /// The row of a lineage that the archive has to do with.
    fn archive(&self, lineage: LineageId) -> Option<ArchiveRow>;
    /// How far a session is folded.
    fn context(&self, session: SessionId) -> Option<ContextRow>;
}

/// What a command comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The session concerned; for a start by key, the one the key names.
    pub session: SessionId,
    /// To be appended in this order; empty: nothing changes.
    pub events: Vec<Event>,
    pub reply: Reply,
    /// Where the bytes of an `Evidence` command are to be kept.
    pub evidence: Option<EvidencePlace>,
}

/// Where evidence is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvidencePlace {
    /// Seq of the zone's entry.
    pub entry: Seq,
    pub attempt: u32,
    /// First byte within the attempt.
    pub offset: u64,
}

/// Decides what `command` comes to at `now` (wall clock).
///
/// # Errors
/// A `Rejection` if the command may not be carried out; nothing is appended then.
pub fn decide(view: &impl View, command: &Command, now: TimeMs) -> Result<Decision, Rejection> {
    match command {
        Command::Start(start) => start::start(view, start, now),
        Command::Import(sent) => import::import(view, sent, now),
        Command::Acquire(acquire) => lease::acquire(view, acquire, now),
        Command::Release { session, epoch, reason: ReleaseReason::Waiting, seen } => {
            wait::release(&*found(view, *session)?, *epoch, *seen, now)
        }
        Command::Release { session, epoch, reason, seen: _ } => {
            lease::release(&*found(view, *session)?, *epoch, *reason, now)
        }
        Command::Append(sent) => append(view, sent, now),
        Command::Evidence(evidence) => keep(view, evidence),
        Command::IntentDue { session, step_key, attempt } => {
            guard::due(&*found(view, *session)?, step_key, *attempt, now)
        }
        Command::WaitDue { session, seq } => wait::due(&*found(view, *session)?, *seq, now),
        Command::Signal(sent) => {
            let row = sent.id.as_deref().and_then(|id| view.signal(sent.session, id));
            signal::received(&*found(view, sent.session)?, sent, row, now)
        }
        Command::DecideApproval(decided) => {
            let row = view.step(decided.session, &decided.step_key);
            approval::decided(&*found(view, decided.session)?, decided, row, now)
        }
        Command::Resolve(resolve) => guard::resolve(&*found(view, resolve.session)?, resolve, now),
        Command::Fork(fork) => fork::fork(view, fork, now),
        Command::Accept(accept) => fork::accept(&*found(view, accept.session)?, accept, now),
        Command::Resume(resume) => end::resume(&*found(view, resume.session)?, resume, now),
        Command::Pause(pause) => end::pause_on_request(&*found(view, pause.session)?, pause, now),
        Command::Cancel(sent) => cancel::cancel(&*found(view, sent.session)?, sent, now),
        Command::Terminate(sent) => cancel::terminate(&*found(view, sent.session)?, sent, now),
        Command::ChildEnded { session, ended } => Ok(child::ended(&*found(view, *session)?, ended, now)),
        Command::RaiseBudget(raise) => budget::raise(&*found(view, raise.session)?, raise, now),
        Command::ForgetKeys(keys) => guard_key::forget(view, keys, now),
        Command::BudgetDue { session } => Ok(budget::due(&*found(view, *session)?, now)),
        Command::SetLabels(set) => label::set(&*found(view, set.session)?, set, now),
        Command::ReleaseHold(release) => hold::release(&*found(view, release.session)?, release, now),
        Command::CreateToken { session, token } => token::create(&*found(view, *session)?, token, now),
        Command::RevokeToken { session, token } => token::revoke(&*found(view, *session)?, *token, now),
        Command::RegisterWorkflow(register) => version::register(view, register, now),
        Command::DrainWorkflow(drain) => version::drain(view, drain, now),
        Command::PutContext(sent) => context::put(view, sent),
        Command::Archive(asked) => archive::decide(view, &*found(view, asked.system)?, asked, now),
    }
}

/// An append of the run that holds the lease, admitted.
pub(super) struct Run<'a> {
    pub head: &'a Head,
    pub append: &'a Append,
    /// Row of the step or zone that the append is about.
    pub row: Option<StepRow>,
    pub now: TimeMs,
}

fn append(view: &impl View, append: &Append, now: TimeMs) -> Result<Decision, Rejection> {
    let head = found(view, append.session)?;
    check_keys(append)?;
    let row = append.op.row_key().and_then(|key| view.step(append.session, key));
    admit(&head, append, row.as_ref())?;
    let run = Run { head: &head, append, row, now };
    if let Some(seq) = run.recorded_by_this_run() {
        return Ok(run.duplicate(seq));
    }
    if head.status.is_terminal() {
        return Err(end::over(&head));
    }
    match &append.op {
        Op::StepCompleted(done) => step::completed(&run, done),
        Op::StepFailed(failed) => step::failed(&run, failed),
        Op::StepHeartbeat { step_key, attempt, details } => {
            step::heartbeat(&run, step_key, *attempt, details)
        }
        Op::GuardIntent { intent, guard, taken } => {
            let sent = guard::Sent { intent, key: guard, taken: taken.as_ref() };
            guard::intent(&run, view, &sent)
        }
        Op::GuardStub { intent, outcome } => fork::stub(&run, intent, outcome),
        Op::GuardUnknown { step_key, attempt, reason, failure } => {
            guard::unknown(&run, step_key, *attempt, *reason, failure.clone())
        }
        Op::GuardFinding { step_key, attempt, finding, by } => {
            guard::finding(&run, step_key, *attempt, finding, by)
        }
        Op::ZoneEntered { zone_key, name, attempt, input_digest } => {
            zone::entered(&run, zone_key, name, *attempt, *input_digest)
        }
        Op::ZoneCommitted(done) => zone::committed(&run, done),
        Op::ZoneFailed(failed) => zone::failed(&run, failed),
        Op::ZoneAborted { zone_key, attempt, evidence_bytes, wasted_tokens } => {
            zone::aborted(&run, zone_key, *attempt, *evidence_bytes, *wasted_tokens)
        }
        Op::TimerStarted { step_key, name, fires } => timer::started(&run, step_key, name, *fires),
        Op::SignalAwaited { step_key, name, timeout_ms } => {
            signal::awaited(&run, step_key, name, *timeout_ms)
        }
        Op::ApprovalRequested(asked) => approval::requested(&run, asked),
        Op::WaitDropped { step_key } => wait::dropped(&run, step_key),
        Op::Complete { output } => end::complete(&run, output),
        Op::Fail { failure } => end::fail(&run, failure),
        Op::SpawnChild(child) => child::spawned(&run, child),
        Op::CancelChild { step_key, reason } => child::cancel(&run, step_key, reason),
        Op::Continue(continued) => succession::continued(&run, continued),
        Op::Cancelled { reason } => cancel::ended(&run, reason),
        Op::BudgetReserved(ask) => budget::reserve(&run, view, ask),
        Op::BudgetReleased { step_key, attempt } => Ok(budget::release(&run, step_key, *attempt)),
        Op::Pause { reason, step_key, details } => {
            end::pause(&run, *reason, step_key.as_ref(), details.as_ref())
        }
    }
}

/// Refuses what does not come from the run that holds the lease (L2). An ended session has no lease: what the last
/// epoch re-sends is looked at as a duplicate.
fn admit(head: &Head, append: &Append, row: Option<&StepRow>) -> Result<(), Rejection> {
    if head.system {
        return Err(invalid("a system session takes no appends; name a session of a workflow"));
    }
    if head.status.is_terminal() {
        let same_run = append.epoch == head.epoch;
        return match row {
            Some(_) if same_run => Ok(()),
            Some(_) | None => Err(end::over(head)),
        };
    }
    lease::fence(head, append.epoch)?;
    match append.after {
        Some(after) if after.seq > head.seq => Err(invalid(format!(
            "`after` names seq {} and the session ends at {}; name the last outcome delivered",
            after.seq, head.seq
        ))),
        Some(_) | None => Ok(()),
    }
}

fn keep(view: &impl View, evidence: &Evidence) -> Result<Decision, Rejection> {
    let head = found(view, evidence.session)?;
    if head.status.is_terminal() {
        return Err(end::over(&head));
    }
    lease::fence(&head, evidence.epoch)?;
    zone::evidence(&head, evidence)
}

impl Run<'_> {
    /// Returns the event that recorded this very append before, or a later attempt's if this one was retried since:
    /// what a run re-sends after a lost acknowledgement (D2).
    fn recorded_by_this_run(&self) -> Option<Seq> {
        let row = self.row.as_ref()?;
        let claim = self.append.op.claim()?;
        if row.epoch != self.append.epoch || row.epoch == Epoch(0) {
            return None;
        }
        let same =
            row.attempt == claim.attempt && row.state == claim.state && row.outcome_digest == claim.digest;
        // An entry that is recorded is open; a wait under the same key is another thing.
        let same = same
            && (claim.state != StepState::Open
                || self.append.op.row_key().is_some_and(|key| self.head.zone(key).is_some()));
        let superseded = claim.state == StepState::Retryable && row.attempt > claim.attempt;
        (same || superseded).then_some(row.seq)
    }

    /// The answer to what was recorded before.
    pub fn duplicate(&self, seq: Seq) -> Decision {
        nothing(self.head.session, Reply::Appended { seq, time: self.head.time, duplicate: true })
    }

    /// The answer to an outcome that came after another one.
    pub fn recorded(&self, seq: Seq) -> Decision {
        nothing(self.head.session, Reply::Recorded { seq })
    }

    /// Events of this append.
    pub fn draft(&self) -> Draft {
        Draft::after(self.head, self.now)
    }

    /// Refuses to begin anything new while the session is paused.
    pub fn unless_paused(&self) -> Result<(), Rejection> {
        match &self.head.status {
            Status::Paused { reason, .. } => Err(Rejection::new(
                Code::SessionPaused,
                format!("the session is paused ({reason:?}); finish what has begun, then release the lease"),
            )),
            Status::Pending
            | Status::Running
            | Status::Waiting
            | Status::Completed
            | Status::Failed
            | Status::Cancelled => Ok(()),
        }
    }

    /// Checks that `attempt` is the next one of an unguarded step or a zone (P2).
    pub fn next_attempt(&self, key: &str, attempt: u32, input: Option<Digest>) -> Result<(), Rejection> {
        let next = match &self.row {
            None => 1,
            Some(row) if row.state == StepState::Retryable => {
                let differs = row.input_digest.is_some() && input.is_some() && row.input_digest != input;
                if differs {
                    return Err(conflict(format!(
                        "step {key} was attempted with another input; workflow code must ask for the same again"
                    )));
                }
                row.attempt.saturating_add(1)
            }
            Some(row) => {
                return Err(conflict(format!(
                    "step {key} is {:?} at seq {} and what was sent differs; read that event instead",
                    row.state, row.seq
                )));
            }
        };
        if attempt == next {
            return Ok(());
        }
        Err(conflict(format!(
            "step {key} is to be attempted with number {next}, not {attempt}; count the attempts in its events"
        )))
    }
}

/// A decision without events.
pub(super) fn nothing(session: SessionId, reply: Reply) -> Decision {
    Decision { session, events: Vec::new(), reply, evidence: None }
}

pub(super) fn found(view: &impl View, session: SessionId) -> Result<Arc<Head>, Rejection> {
    view.head(session).ok_or_else(|| {
        Rejection::new(
            Code::SessionNotFound,
            format!("there is no session {session}; check the id and the namespace of your token"),
        )
    })
}

fn check_keys(append: &Append) -> Result<(), Rejection> {
    if let Some(key) = append.op.step_key() {
        check_length("step key", key, STEP_KEY_BYTES_MAX)?;
    }
    match append.op.name() {
        Some(name) => check_length("name", name, NAME_BYTES_MAX),
        None => Ok(()),
    }
}

/// Refuses an empty or too long text.
pub(super) fn check_length(what: &str, text: &str, bytes_max: usize) -> Result<(), Rejection> {
    if text.is_empty() {
        return Err(invalid(format!("the {what} is empty; give it one")));
    }
    if text.len() > bytes_max {
        let bytes = text.len();
        return Err(invalid(format!("the {what} has {bytes} bytes; use at most {bytes_max}")));
    }
    Ok(())
}

pub(super) fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::new(Code::InvalidArgument, message)
}

pub(super) fn conflict(message: impl Into<String>) -> Rejection {
    Rejection::new(Code::StepConflict, message)
}
