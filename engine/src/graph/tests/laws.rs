//! The laws of the core, on random sequences of commands. Each law is checked on the events alone, by a reader that
//! shares no code with `decide` or `evolve`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::guard_key::{Effects, brought};
use super::model::Model;
use super::story::*;
use crate::graph::budget::{Amounts, BudgetStart, Limits, OWNERS_MAX};
use crate::graph::command::{Command, Finding, LeaseRequest, Op, Reply, Resolve, Start};
use crate::graph::event::{
    ApprovalDecision, Author, Body, Event, GuardPolicy, PauseReason, ReleaseReason, Resolution,
};
use crate::graph::ids::{DedupeId, Epoch, InstanceId, Seq, SessionId, StepKey, TimeMs};
use crate::graph::session::{OPEN_MAX, SIGNALS_BUFFERED_MAX, TREE_DEPTH_MAX};

/// One random request, to be made concrete by what the ledger says then.
#[derive(Clone, Debug)]
pub(super) struct Act {
    kind: Kind,
    /// Which of the sessions, steps, instances and policies.
    session: u8,
    key: StepKey,
    instance: u8,
    policy: GuardPolicy,
    /// Epochs behind the one in force, attempts off the next one: mostly 0.
    stale: u64,
    off: u32,
    wait_ms: u64,
    value: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Start,
    StartKeyed,
    Acquire,
    Reattach,
    Release,
    Completed,
    Failed,
    Heartbeat,
    Intent,
    Guarded,
    GuardedFailed,
    Unknown,
    NotApplied,
    Reconciled,
    Due,
    Resolve,
    Entered,
    Committed,
    ZoneFailed,
    Aborted,
    Reserve,
    ReserveMore,
    Unreserve,
    Raise,
    Complete,
    Fail,
    Pause,
    Resume,
    Timer,
    Await,
    Ask,
    Drop,
    Signal,
    Decide,
    WaitDue,
    ReleaseWaiting,
    PauseRequest,
    Cancel,
    Terminate,
    Cancelled,
    Continue,
    StartNamed,
    CancelChild,
    ChildEnded,
    Hold,
    Label,
    Spawn,
    Unlabel,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    use Kind::*;
    let kind = prop_oneof![
        2 => select(vec![Start, StartKeyed, Label, Unlabel, Hold]),
        8 => select(vec![Acquire, Acquire, Reattach, Release]),
        48 => select(vec![Completed, Failed, Heartbeat, Intent, Guarded, Unknown, NotApplied, Entered, Committed]),
        48 => select(vec![Intent, Due, Due, Resolve, Reconciled, Reconciled, GuardedFailed, ZoneFailed, Aborted]),
        24 => select(vec![Reserve, Reserve, Reserve, ReserveMore, Unreserve, Raise]),
        12 => select(vec![Resume, Resume, Resume, Pause, PauseRequest]),
        32 => select(vec![Timer, Await, Ask, Signal, Signal, Decide, WaitDue, WaitDue, Drop]),
        8 => select(vec![ReleaseWaiting, Acquire, WaitDue]),
        8 => select(vec![Spawn, StartNamed, ChildEnded, CancelChild]),
        3 => select(vec![Complete, Fail, Cancel, Terminate, Cancelled, Cancelled, Continue, StartNamed]),
        3 => select(vec![Complete, Fail, Fail, Cancel, Terminate, Cancelled, Cancelled, Continue, StartNamed]),
    ];
    let mostly_zero = |max: u64| prop_oneof![12 => Just(0), 1 => 1..=max];
    let policies = [GuardPolicy::Pause, GuardPolicy::Fail, GuardPolicy::Retry, GuardPolicy::Reconcile];
    (
        (kind, 1..=3u8, (0..24u8).prop_map(|n| StepKey::from(format!("{}", char::from(b'a' + n)))), 1..=3u8),
        (select(policies.to_vec()), mostly_zero(2), mostly_zero(1)),
        (prop_oneof![1 => Just(1u64), 1 => 0..=1500u64], 1..=2u8),
    )
        .prop_map(|((kind, session, key, instance), (policy, stale, off), (wait_ms, value))| Act {
            kind,
            session,
            key,
            instance,
            policy,
            stale,
            off: u32::try_from(off).unwrap(),
            wait_ms,
            value,
        })
}

/// What a client, worker or driver with a plausible idea of the ledger would send.
struct World {
    model: Model,
    now: TimeMs,
    minted: u8,
}

impl World {
    fn new() -> Self {
        Self { model: Model::default(), now: TimeMs(1000), minted: 0 }
    }

    /// The `n`th session of those that exist.
    fn pick(&self, n: u8) -> SessionId {
        let known: Vec<SessionId> = self.model.heads.keys().copied().collect();
        match known.len() {
            0 => session(1),
            count => known[known.len() - 1 - usize::from(n) % count.min(3)],
        }
    }

    /// The act, aimed at something that is open if it is about such a thing.
    fn aimed(&self, act: &Act, picked: SessionId) -> Act {
        let mut aimed = act.clone();
        let Some(head) = self.model.heads.get(&picked).filter(|_| act.off == 0) else {
            return aimed;
        };
        let open: Vec<&StepKey> = match act.kind {
            Kind::Guarded | Kind::GuardedFailed | Kind::Unknown | Kind::NotApplied => {
                head.intents.iter().map(|intent| &intent.step_key).collect()
            }
            Kind::Reconciled | Kind::Due | Kind::Resolve => {
                head.intents.iter().map(|intent| &intent.step_key).collect()
            }
            Kind::Unreserve => head.budget.reservations.iter().map(|open| &open.step_key).collect(),
            Kind::Committed | Kind::ZoneFailed | Kind::Aborted => {
                head.zones.iter().map(|zone| &zone.zone_key).collect()
            }
            Kind::CancelChild => {
                let children = head.waits.iter().filter(|wait| wait.child().is_some());
                children.map(|wait| &wait.step_key).collect()
            }
            Kind::Decide | Kind::WaitDue | Kind::Drop => {
                head.waits.iter().map(|wait| &wait.step_key).collect()
            }
            _ => Vec::new(),
        };
        if let Some(key) = open.get(usize::from(act.instance) % open.len().max(1)) {
            aimed.key = (*key).clone();
        }
        aimed
    }

    fn lease(&self, act: &Act, session: SessionId) -> LeaseRequest {
        let holder = self.model.heads.get(&session).and_then(|head| head.holder);
        let dead = holder.filter(|_| act.value == 1);
        lease(InstanceId([act.instance; 16]), dead)
    }

    fn command(&mut self, act: &Act) -> Command {
        let picked = self.pick(act.session);
        let act = &self.aimed(act, picked);
        let op = match act.kind {
            Kind::Start | Kind::StartKeyed => return self.start(act).into(),
            Kind::StartNamed => return self.start_named(act),
            Kind::ChildEnded => return self.child_ended(act),
            Kind::PauseRequest => return pause(picked, dedupe(act.value + 10)),
            Kind::Cancel => return Command::Cancel(cancel(picked, dedupe(act.value + 20))),
            Kind::Terminate => return Command::Terminate(cancel(picked, dedupe(act.value + 30))),
            Kind::Acquire | Kind::Reattach => return self.acquire(act, picked),
            Kind::Release => return release(picked, self.epoch(act, picked)),
            Kind::Due => return due(picked, &act.key, self.last(act, picked)),
            Kind::Resolve => return self.resolve(act, picked).into(),
            Kind::Label => {
                return set_labels(picked, &[(&act.key, if act.value == 1 { "1" } else { "2" })], &[]);
            }
            Kind::Unlabel => return set_labels(picked, &[], &[&act.key]),
            Kind::Hold => return release_hold(picked, 8 + act.value),
            Kind::Resume => return resume(picked, dedupe(act.value)),
            Kind::Signal => return self.signal(act, picked),
            Kind::Decide => return self.decide(act, picked),
            Kind::WaitDue => return wait_due(picked, self.wait_seq(act, picked)),
            Kind::ReleaseWaiting => {
                let seq = self.model.heads.get(&picked).map_or(0, |head| head.seq.0);
                let seen = Seq(seq.saturating_sub(u64::from(act.off)));
                return release_waiting(picked, self.epoch(act, picked), seen);
            }
            Kind::Timer => timer(&act.key, u64::from(act.instance) * 100),
            Kind::Await => awaited(&act.key, &name(act), u64::from(act.value - 1) * 500),
            Kind::Ask => asked(&act.key, 7, u64::from(act.value - 1) * 500),
            Kind::Drop => dropped(&act.key),
            Kind::Completed => completed(&act.key, self.next(act, picked), act.value),
            Kind::Failed => failed(&act.key, self.next(act, picked), act.value == 2),
            Kind::Heartbeat => heartbeat(&act.key, self.next(act, picked)),
            Kind::Intent => self.intent(act, picked),
            Kind::Guarded => guarded(&act.key, self.last(act, picked), act.value),
            Kind::GuardedFailed => guarded_failed(&act.key, self.last(act, picked), true),
            Kind::Unknown => unknown(&act.key, self.last(act, picked)),
            Kind::NotApplied => not_applied(&act.key, self.last(act, picked)),
            Kind::Reconciled => self.reconciled(act, picked),
            Kind::Entered => entered(&act.key, self.next(act, picked)),
            Kind::Committed => committed(&act.key, self.last(act, picked)),
            Kind::ZoneFailed => zone_failed(&act.key, self.last(act, picked), act.value == 2),
            Kind::Aborted => aborted(&act.key, self.last(act, picked)),
            Kind::Raise => return raise(picked, self.now.0).into(),
            Kind::Reserve => reserve(&act.key, self.next(act, picked), 1, i64::from(act.session)),
            Kind::ReserveMore => reserve(&act.key, self.last(act, picked), u32::from(act.value), 1),
            Kind::Unreserve => {
                let head = self.model.heads.get(&picked);
                let open = head.and_then(|head| head.budget.open(&act.key));
                let attempt = open.map_or(1, |open| open.attempt + act.off);
                Op::BudgetReleased { step_key: act.key.clone(), attempt }
            }
            Kind::Complete => complete(act.value),
            Kind::Fail => Op::Fail { failure: payload(act.value) },
            Kind::Cancelled => Op::Cancelled { reason: "cleaned up".into() },
            Kind::Continue => {
                self.minted += 1;
                continue_as(self.minted, act.value)
            }
            Kind::Spawn => {
                self.minted += 1;
                spawn(&act.key, self.minted, act.value == 2)
            }
            Kind::CancelChild => cancel_child(&act.key),
            Kind::Pause => Op::Pause { reason: PauseReason::Nondeterminism, step_key: None, details: None },
        };
        append(picked, self.epoch(act, picked), op)
    }

    fn signal(&self, act: &Act, picked: SessionId) -> Command {
        let id = format!("{}{}", act.key, act.instance);
        // A signal without an id is another one each time; sent again it would be received again.
        signal(picked, &name(act), Some(&id), act.value)
    }

    fn decide(&self, act: &Act, picked: SessionId) -> Command {
        let [.., n] = picked.0;
        let key = act.key.bytes().next().unwrap();
        let args = if act.stale > 0 { 8 } else { 7 };
        decide(picked, &act.key, args, Some(DedupeId([key, n, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])))
    }

    fn wait_seq(&self, act: &Act, picked: SessionId) -> Seq {
        let head = self.model.heads.get(&picked);
        head.and_then(|head| head.wait(&act.key)).map_or(Seq(1), |wait| wait.seq)
    }

    /// What the driver of the tree does: it starts what an event named, or tries to once more.
    fn start_named(&mut self, act: &Act) -> Command {
        let named = self.model.rows.to_start.iter().next().copied();
        let Some((by, session)) = named else { return self.start(act).into() };
        Command::Start(named_start(&self.model, by, session))
    }

    /// What the driver of the tree does: it brings the end of a child back, or tries to once more.
    fn child_ended(&mut self, act: &Act) -> Command {
        let heads = &self.model.heads;
        let ended = heads.values().find_map(|head| {
            let parent = head.parent.as_ref().filter(|_| head.status.is_terminal())?;
            let waits = heads.get(&parent.session)?.wait(&parent.step_key).is_some();
            (head.continued_to.is_none() && waits).then_some((parent.session, head.session))
        });
        match ended {
            Some((parent, child)) => child_end(&self.model, parent, child),
            None => {
                let mut live = heads.values().filter(|head| head.parent.is_some() && head.is_live());
                match live.next().map(|head| head.session).filter(|_| act.value == 1) {
                    Some(child) => Command::Terminate(cancel(child, dedupe(40))),
                    None => self.start_named(act),
                }
            }
        }
    }

    fn start(&mut self, act: &Act) -> Start {
        self.minted += 1;
        let lease = (act.session != 3).then(|| {
            let named = self.model.rows.keys.get(&digest(act.instance));
            let session = named.map_or(session(self.minted), |row| row.session);
            self.lease(act, session)
        });
        match act.kind {
            Kind::StartKeyed => Start {
                if_ended_restart: act.value == 2,
                ..keyed(self.minted, act.instance, 60 + u8::from(act.off > 0), lease)
            },
            _ => self.under_budgets(act, start(self.minted, lease)),
        }
    }

    /// Half of the sessions own a budget, half of them are under the budgets of an earlier one.
    fn under_budgets(&self, act: &Act, start: Start) -> Start {
        let parent = self.model.heads.get(&self.pick(act.session));
        let inherited = parent.filter(|_| act.instance == 1).map(|head| head.budget.owners.clone());
        let own = if act.value == 1 { limits(40, 60) } else { Limits::default() };
        let mut inherited = inherited.unwrap_or_default();
        inherited.truncate(OWNERS_MAX - 1);
        Start { budget: BudgetStart { limits: own, inherited }, ..start }
    }

    fn acquire(&self, act: &Act, picked: SessionId) -> Command {
        let mut lease = self.lease(act, picked);
        let mut held = None;
        if matches!(act.kind, Kind::Reattach) {
            held = Some(Epoch(self.epoch(act, picked)));
            let holder = self.model.heads.get(&picked).and_then(|head| head.holder);
            lease.instance = holder.unwrap_or(lease.instance);
        }
        let mut command = acquire(0, lease, None);
        command.session = picked;
        command.held = held;
        command.into()
    }

    fn resolve(&self, act: &Act, picked: SessionId) -> Resolve {
        let resolution = match (act.value, act.stale) {
            (1, 0) => Resolution::Output(payload(5)),
            (1, _) => Resolution::Failure(Some(payload(6))),
            (_, 0) => Resolution::NotApplied(None),
            (_, _) => Resolution::Retry,
        };
        Resolve {
            resume: true,
            dedupe: dedupe(100 + self.minted.wrapping_mul(3) + act.value),
            ..resolve(picked, &act.key, resolution)
        }
    }

    /// A key and an input of this session's own, mostly.
    fn intent(&self, act: &Act, picked: SessionId) -> Op {
        let [.., n] = picked.0;
        let own = (act.key.bytes().next().unwrap() - b'a') * 8 + n % 8 + 2;
        // Some steps share three keys, whatever their sessions.
        let shared = 200 + act.session % 3;
        let guard = if act.stale > 0 || act.instance == 1 { shared } else { own };
        let input = if act.value == 2 && act.instance == 2 { 78 } else { 77 };
        brought(&self.model, picked, intent_with(&act.key, self.next(act, picked), act.policy, guard, input))
    }

    fn reconciled(&self, act: &Act, picked: SessionId) -> Op {
        let found = match act.value {
            1 => Finding::Applied(payload(5)),
            _ if act.instance == 1 => Finding::Unknown,
            _ => Finding::NotApplied(None),
        };
        finding(&act.key, self.last(act, picked), found, "reconcile")
    }

    fn epoch(&self, act: &Act, picked: SessionId) -> u64 {
        let epoch = self.model.heads.get(&picked).map_or(1, |head| head.epoch.0);
        epoch.saturating_sub(act.stale)
    }

    fn last(&self, act: &Act, picked: SessionId) -> u32 {
        let row = self.model.rows.steps.get(&(picked, act.key.to_string()));
        row.map_or(1, |row| row.attempt) + act.off
    }

    fn next(&self, act: &Act, picked: SessionId) -> u32 {
        let row = self.model.rows.steps.get(&(picked, act.key.to_string()));
        row.map_or(0, |row| row.attempt) + 1 - act.off.min(1)
    }
}

/// Two names, so that signals meet waits.
fn name(act: &Act) -> String {
    format!("signal-{}", act.session % 2)
}

/// Sends the acts, checks each answer, and returns the ledger with every append that was accepted.
pub(super) fn play(acts: &[Act]) -> (Model, Vec<Command>) {
    let mut world = World::new();
    let mut accepted = Vec::new();
    let mut keys = Effects::default();
    for act in acts {
        world.now = world.now.plus(act.wait_ms);
        let command = world.command(act);
        let before = world.model.heads.clone();
        let Ok(decision) = world.model.submit(&command, world.now) else {
            assert_eq!(world.model.heads, before, "a refusal appends nothing"); // D2
            continue;
        };
        check_budgets(&world.model);
        keys.check(&command, &decision.events);
        check_takeover(&command, &decision.events, before.get(&decision.session));
        check_answer(&command, &decision.reply, &decision.events);
        if decision.events.is_empty() {
            continue;
        }
        check_resent(&mut world, &command);
        if matches!(command, Command::Append(_)) {
            accepted.push(command);
        }
    }
    (world.model, accepted)
}

/// B1, B2: an owner's row is the sum over the sessions that name it, and what was reserved never exceeds its limits.
fn check_budgets(model: &Model) {
    for (owner, row) in &model.rows.budgets {
        let heads = || model.heads.values().map(|head| &head.budget);
        let named = || heads().filter(|budget| budget.owners.iter().any(|known| known.session == *owner));
        let spent = named().fold(Amounts::default(), |sum, budget| sum.plus(budget.spent));
        let reserved = named().fold(Amounts::default(), |sum, budget| sum.plus(budget.reserved()));
        assert_eq!((row.spent, row.reserved), (spent, reserved));
        assert_eq!(row.limits, model.heads[owner].budget.limits);
        // Nothing in these stories costs more than was reserved for it; what was not reserved for costs nothing.
        if let Some(limit) = row.limits.cost {
            assert!(spent.cost.0 + reserved.cost.0 <= limit.0, "{row:?}");
        }
    }
}

/// L4: a lease is taken only from whom the request names as dead, or by the same instance.
fn check_takeover(
    command: &Command,
    events: &[Event],
    before: Option<&std::sync::Arc<crate::graph::session::Head>>,
) {
    let holder = before.and_then(|head| head.holder);
    for event in events {
        let Body::LeaseGranted(granted) = &event.body else {
            continue;
        };
        let asked = match command {
            Command::Start(start) => start.lease.as_ref(),
            Command::Acquire(acquire) => Some(&acquire.lease),
            other => panic!("{other:?} took a lease"),
        };
        let asked = asked.expect("a lease is granted only if asked for");
        assert_eq!(granted.instance, asked.instance);
        assert!(holder.is_none() || holder == asked.dead || holder == Some(asked.instance));
    }
}

/// An answer that says "appended" names an event of its decision; a duplicate appended none.
fn check_answer(command: &Command, reply: &Reply, events: &[Event]) {
    match reply {
        Reply::Appended { seq, duplicate, .. } => {
            let named = events.iter().any(|event| event.seq == *seq);
            assert_eq!(named, !duplicate, "{command:?} → {reply:?}");
        }
        // An outcome that is recorded with the answer is one that is taken over.
        Reply::Recorded { seq } => assert!(events.iter().all(|event| {
            let taken = matches!(&event.body, Body::StepCompleted(step) if step.deduplicated_from.is_some());
            taken && event.seq == *seq
        })),
        Reply::Done { .. } => assert!(events.is_empty()),
        Reply::Bound { created, epoch } => {
            let started = events.iter().any(|event| matches!(event.body, Body::SessionStarted(_)));
            assert_eq!(started, *created);
            if let Some(event) = events.last() {
                assert!(*created || epoch.is_some(), "{event:?} without a lease");
            }
        }
    }
}

/// D2: what was just carried out is not carried out again when it is sent again.
fn check_resent(world: &mut World, command: &Command) {
    let leases = match command {
        Command::Start(start) => start.key.is_none() || start.lease.is_some(),
        Command::Acquire(_) => true,
        Command::Append(append) => matches!(append.op, Op::StepHeartbeat { .. }),
        _ => false,
    };
    if leases {
        return; // a lease asked for again without an epoch is a new one (L1); so is a heartbeat (P5)
    }
    let again = world.model.submit(command, world.now).expect("what was accepted is not refused");
    assert_eq!(again.events, [], "{command:?}");
}

/// Everything sent before, sent once more after a reconnect, leaves no event. (A pause and a heartbeat are the exceptions: they carry
/// no key, so one that was resumed or overtaken since cannot be told from a new one. So is a reservation that was given
/// back since: what gave it back is sent again, too.)
fn check_all_resent(model: &mut Model, accepted: &[Command]) {
    for command in accepted {
        if matches!(command, Command::Append(append) if matches!(append.op, Op::BudgetReserved(_) | Op::BudgetReleased { .. } | Op::Pause { .. } | Op::StepHeartbeat { .. } | Op::GuardFinding { finding: Finding::Unknown, .. }))
        {
            continue;
        }
        // Without a dedupe id a change of labels is told from a new one only while nobody changed them since.
        if matches!(command, Command::SetLabels(_)) {
            continue;
        }
        let later = TimeMs(u64::MAX / 2);
        if let Ok(decision) = crate::graph::decide::decide(model, command, later) {
            assert_eq!(decision.events, [], "{command:?}");
        }
    }
}

/// What is known of one step or zone, from its events alone.
#[derive(Default)]
struct Track {
    /// A guarded attempt was started and nothing has settled it.
    unsettled: bool,
    /// An attempt of a zone was entered and not left.
    entered: bool,
    outcome: bool,
    attempt: u32,
    /// Waits since this seq.
    waits: Option<Seq>,
    due: Option<TimeMs>,
}

impl Track {
    /// W1: a wait is opened once.
    fn wait(&mut self, seq: Seq, due: Option<TimeMs>) {
        assert!(self.waits.is_none() && !self.outcome && !self.entered && !self.unsettled);
        assert_eq!(self.attempt, 0, "a wait has a key of its own");
        (self.waits, self.due, self.attempt) = (Some(seq), due, 1);
    }

    /// W1: it has one outcome, of the time that was said.
    fn come(&mut self, late: bool, time: TimeMs) {
        assert!(self.waits.take().is_some() && !self.outcome);
        assert!(!late || self.due.is_some_and(|due| due <= time), "never early"); // M2
        self.outcome = true;
    }

    /// Z2: an attempt is left once, and only while it is open.
    fn leave(&mut self, attempt: u32, outcome: bool) {
        assert!(self.entered && self.attempt == attempt && !self.outcome);
        (self.entered, self.outcome) = (false, outcome);
    }
}

/// Reads a session's events as a careful person would.
fn check_log(events: &[Event]) {
    let mut tracks: BTreeMap<String, Track> = BTreeMap::new();
    let (mut epoch, mut held, mut ended, mut paused, mut cancelling) = (0, false, false, false, false);
    let mut time = TimeMs(0);
    let mut buffered: BTreeMap<u64, String> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut waiting = false;
    let mut children: BTreeMap<String, (SessionId, bool)> = BTreeMap::new();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.seq, Seq(n as u64 + 1), "seqs are contiguous"); // V2
        assert!(event.time >= time, "ledger time never goes back");
        assert!(!ended, "terminal accepts nothing: {event:?}"); // E1
        time = event.time;
        if let Author::Worker(of) = event.author {
            assert!(held && of.0 == epoch, "no append of another epoch: {event:?}"); // L2
        }
        let mut track = |key: &str| tracks.remove(key).unwrap_or_default();
        let changed = match &event.body {
            Body::GuardIntent(intent) => {
                let mut track = track(&intent.step_key);
                assert!(!paused && !track.unsettled, "one accepted intent per unknown outcome"); // G1
                assert!(!track.outcome && !track.entered && intent.attempt == track.attempt + 1);
                (track.unsettled, track.attempt) = (true, intent.attempt);
                Some((&intent.step_key, track))
            }
            Body::GuardResolved(resolved) => {
                let mut track = track(&resolved.step_key);
                assert!(track.unsettled && track.attempt == resolved.attempt);
                track.unsettled = false;
                track.outcome = matches!(resolved.resolution, Resolution::Output(_) | Resolution::Failure(_));
                Some((&resolved.step_key, track))
            }
            Body::StepCompleted(step) => {
                let mut track = track(&step.step_key);
                assert!(!track.outcome && !track.entered, "one outcome per step: {event:?}"); // P1
                // What is taken over needs no attempt of its own (K1).
                assert_eq!(track.unsettled, step.guarded && step.deduplicated_from.is_none());
                (track.unsettled, track.outcome) = (false, true);
                Some((&step.step_key, track))
            }
            Body::StepFailed(step) => {
                let mut track = track(&step.step_key);
                assert!(!track.outcome && !track.entered && !track.unsettled);
                (track.outcome, track.attempt) = (step.is_final, step.attempt);
                Some((&step.step_key, track))
            }
            Body::ZoneEntered { zone_key, attempt, .. } => {
                let mut track = track(zone_key);
                assert!(!paused && !track.outcome && !track.entered && !track.unsettled);
                assert_eq!(*attempt, track.attempt + 1); // Z1
                (track.entered, track.attempt) = (true, *attempt);
                Some((zone_key, track))
            }
            Body::ZoneCommitted(zone) => {
                let mut track = track(&zone.zone_key);
                track.leave(zone.attempt, true);
                Some((&zone.zone_key, track))
            }
            Body::ZoneFailed(zone) => {
                let mut track = track(&zone.zone_key);
                track.leave(zone.attempt, zone.is_final);
                Some((&zone.zone_key, track))
            }
            Body::ZoneRolledBack(zone) => {
                let mut track = track(&zone.zone_key);
                track.leave(zone.attempt, false);
                Some((&zone.zone_key, track))
            }
            Body::LeaseGranted(granted) => {
                assert_eq!((granted.epoch.0, granted.takeover), (epoch + 1, held)); // L1
                assert!(!waiting, "nobody runs a session that waits"); // W3
                (epoch, held) = (granted.epoch.0, true);
                None
            }
            Body::LeaseReleased { reason, .. } => {
                assert!(tracks.values().all(|track| !track.entered)); // L5
                held = false;
                if *reason == ReleaseReason::Waiting {
                    assert!(tracks.values().any(|track| track.waits.is_some())); // W2
                    assert!(tracks.values().all(|track| !track.unsettled));
                    waiting = !paused;
                }
                None
            }
            Body::SessionCompleted { .. } | Body::SessionFailed { .. } | Body::SessionContinued(_) => {
                assert!(!cancelling, "what was asked to cancel ends as cancelled"); // C2
                assert!(children.values().all(|(_, abandoned)| *abandoned)); // H3
                assert!(tracks.values().all(|track| !track.unsettled)); // E2
                assert!(tracks.values().all(|track| !track.entered)); // Z3
                ended = true;
                None
            }
            Body::SessionPaused { .. } => {
                waiting = false;
                assert!(!paused); // E3
                paused = true;
                None
            }
            Body::CancelRequested { .. } => {
                assert!(epoch > 0 && (!cancelling || paused)); // C1, C3
                (cancelling, paused, waiting) = (true, false, false);
                None
            }
            Body::SessionCancelled(end) => {
                assert!(end.terminated || cancelling || epoch == 0);
                assert!(end.terminated || children.values().all(|(_, abandoned)| *abandoned)); // H3
                assert!(tracks.values().all(|track| !track.entered));
                let unsettled: Vec<&str> =
                    tracks.iter().filter(|(_, track)| track.unsettled).map(|(key, _)| &**key).collect();
                let mut unknown: Vec<&str> = end.unknown.iter().map(|key| &**key).collect();
                unknown.sort_unstable();
                assert_eq!(unknown, unsettled, "what nobody knows is said"); // C4
                ended = true;
                None
            }
            Body::SessionResumed { .. } => {
                paused = false;
                None
            }
            Body::SessionStarted(_) => {
                assert_eq!(n, 0);
                None
            }
            Body::StepHeartbeat { step_key, .. } => {
                let track = track(step_key);
                assert!(!track.outcome && !track.entered && !track.unsettled); // P5
                Some((step_key, track))
            }
            Body::TimerStarted { step_key, due, .. } => {
                let mut track = track(step_key);
                assert!(!paused); // W4
                track.wait(event.seq, Some(*due));
                Some((step_key, track))
            }
            Body::SignalAwaited { step_key, due, name } => {
                let mut track = track(step_key);
                assert!(!paused); // W4
                track.wait(event.seq, *due);
                names.insert(step_key.to_string(), name.to_string());
                Some((step_key, track))
            }
            Body::ApprovalRequested(request) => {
                let mut track = track(&request.step_key);
                assert!(!paused); // W4
                track.wait(event.seq, request.due);
                Some((&request.step_key, track))
            }
            Body::TimerFired { step_key } => {
                let mut track = track(step_key);
                track.come(true, event.time);
                waiting = false;
                Some((step_key, track))
            }
            Body::SignalReceived(signal) => {
                buffered.insert(event.seq.0, signal.name.to_string());
                assert!(buffered.len() <= SIGNALS_BUFFERED_MAX + 1); // S4
                None
            }
            Body::SignalDelivered { step_key, signal } => {
                let mut track = track(step_key);
                track.come(signal.is_none(), event.time);
                waiting = false;
                if let Some(seq) = signal {
                    let name = buffered.get(&seq.0).expect("a delivered signal is buffered once"); // S1
                    assert_eq!(names.get(&step_key.to_string()), Some(name));
                    let first = buffered.iter().find(|(_, other)| *other == name).map(|(seq, _)| *seq);
                    assert_eq!(first, Some(seq.0), "signals of a name come in order"); // S1
                    buffered.remove(&seq.0);
                }
                Some((step_key, track))
            }
            Body::ApprovalDecided(decided) => {
                let mut track = track(&decided.step_key);
                track.come(decided.decision == ApprovalDecision::Expired, event.time); // A2
                waiting = false;
                Some((&decided.step_key, track))
            }
            Body::ChildSpawned(child) => {
                let mut track = track(&child.step_key);
                assert!(!paused); // W4
                track.wait(event.seq, None);
                children.insert(child.step_key.to_string(), (child.child, child.abandoned));
                Some((&child.step_key, track))
            }
            Body::ChildEnded(end) => {
                let mut track = track(&end.step_key);
                track.come(false, event.time);
                waiting = false;
                let spawned = children.remove(&end.step_key.to_string());
                assert_eq!(spawned.map(|(child, _)| child), Some(end.child), "one end per spawn"); // H2
                Some((&end.step_key, track))
            }
            Body::ChildCancelRequested { step_key, .. } => {
                assert!(children.contains_key(&step_key.to_string()));
                None
            }
            Body::WaitDropped { step_key } => {
                let mut track = track(step_key);
                assert!(track.waits.take().is_some());
                track.outcome = true;
                Some((step_key, track))
            }
            Body::GuardUnknown { .. }
            | Body::BudgetReserved { .. }
            | Body::BudgetRaised { .. }
            | Body::BudgetReleased { .. } => None,
            Body::LabelsSet(_) | Body::SessionReleased { .. } => None,
            Body::ForkEdited(_)
            | Body::DivergenceAccepted(_)
            | Body::TokenCreated(_)
            | Body::TokenRevoked { .. }
            | Body::Archive(_)
            | Body::WorkflowRegistered(_)
            | Body::WorkflowDrained(_) => {
                panic!("nobody asked for {event:?}")
            }
        };
        tracks.extend(changed.map(|(key, track)| (key.to_string(), track)));
    }
}

/// H1, N1, N2: every child and successor was named by one event, and nobody else began as one.
fn check_tree(model: &Model) {
    let mut named: BTreeMap<SessionId, SessionId> = BTreeMap::new();
    for (session, (event, _)) in model.events.iter().flat_map(|(id, log)| log.iter().map(move |e| (id, e))) {
        let next = match &event.body {
            Body::ChildSpawned(child) => child.child,
            Body::SessionContinued(end) => end.successor,
            _ => continue,
        };
        assert_eq!(named.insert(next, *session), None, "{next} was named twice");
    }
    for head in model.heads.values() {
        let by = head.continued_from.or(head.parent.as_ref().map(|parent| parent.session));
        assert_eq!(named.remove(&head.session), by);
        assert!(head.depth <= TREE_DEPTH_MAX); // H5
        let top = model.heads.get(&head.top).unwrap();
        assert_eq!((top.top, top.depth), (head.top, 0));
    }
    let waiting: Vec<(SessionId, SessionId)> = named.into_iter().map(|(next, by)| (by, next)).collect();
    let mut to_start: Vec<(SessionId, SessionId)> = model.rows.to_start.iter().copied().collect();
    to_start.sort_by_key(|(_, next)| *next);
    assert_eq!(waiting, to_start, "what was named and has not begun is to be started"); // I5
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What `decide` emits `evolve` accepts (in `Model::submit`); folding all events gives the stored heads; indexes
    /// rebuilt from events equal the accumulated ones; and every session's events keep the promises.
    #[test]
    fn the_laws_hold(acts in prop::collection::vec(act(), 1..200)) {
        let (mut model, accepted) = play(&acts);
        let (heads, rows) = model.rebuilt();
        prop_assert_eq!(&heads, &model.heads);
        prop_assert_eq!(&rows, &model.rows); // I1
        for events in model.events.values() {
            let events: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
            check_log(&events);
        }
        for head in heads.values() {
            prop_assert!(head.intents.len() + head.zones.len() + head.waits.len() <= OPEN_MAX);
        }
        check_tree(&model);
        check_all_resent(&mut model, &accepted);
    }
}

/// The random commands reach what the laws are about; otherwise they would hold for want of anything to break them.
#[test]
fn the_random_commands_reach_every_kind_of_event() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..400 {
        let acts = prop::collection::vec(act(), 200).new_tree(&mut runner).unwrap().current();
        let (model, _) = play(&acts);
        for (event, _) in model.events.values().flatten() {
            let name = format!("{:?}", event.body);
            let word = name.split(['(', ' ', '{']).next().unwrap_or_default();
            *seen.entry(word.to_owned()).or_default() += 1;
            if let Body::GuardResolved(resolved) = &event.body {
                let by = format!("resolved by {}", resolved.by);
                *seen.entry(by).or_default() += 1;
            }
            if matches!(&event.body, Body::StepCompleted(step) if step.deduplicated_from.is_some()) {
                *seen.entry("taken over".to_owned()).or_default() += 1;
            }
            if matches!(&event.body, Body::LeaseReleased { reason: ReleaseReason::Waiting, .. }) {
                *seen.entry("released to wait".to_owned()).or_default() += 1;
            }
        }
    }
    for word in [
        "SessionStarted",
        "LeaseGranted",
        "LeaseReleased",
        "SessionPaused",
        "SessionResumed",
        "SessionCompleted",
        "SessionFailed",
        "SessionCancelled",
        "SessionContinued",
        "CancelRequested",
        "ChildSpawned",
        "ChildEnded",
        "ChildCancelRequested",
        "StepCompleted",
        "StepFailed",
        "StepHeartbeat",
        "GuardIntent",
        "GuardUnknown",
        "GuardResolved",
        "ZoneEntered",
        "ZoneCommitted",
        "ZoneFailed",
        "ZoneRolledBack",
        "TimerStarted",
        "TimerFired",
        "SignalReceived",
        "SignalAwaited",
        "SignalDelivered",
        "WaitDropped",
        "ApprovalRequested",
        "ApprovalDecided",
        "released to wait",
        "BudgetReserved",
        "BudgetReleased",
        "BudgetRaised",
        "resolved by policy",
        "resolved by tool",
        "resolved by reconcile",
        "resolved by ada",
        "taken over",
    ] {
        assert!(seen.get(word).copied().unwrap_or_default() >= 10, "{word}: {seen:?}");
    }
}
