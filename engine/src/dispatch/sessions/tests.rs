use std::sync::Arc;

use super::*;
use crate::graph::event::{LeaseGranted, PauseReason};
use crate::graph::ids::{Hash, Incarnation, LineageId, Seq, TimeMs};
use crate::graph::session::{Counters, Status};

const SESSION: SessionId = SessionId([9; 16]);
const A: InstanceId = InstanceId([1; 16]);
const B: InstanceId = InstanceId([2; 16]);
const CONN_A: ConnId = ConnId(1);
const CONN_B: ConnId = ConnId(2);

fn head(status: Status, holder: Option<InstanceId>, epoch: u64) -> Head {
    Head {
        session: SESSION,
        namespace: "n".into(),
        workflow: "audit".into(),
        version: "1".into(),
        generation: 0,
        lineage: LineageId::default(),
        root: SESSION,
        system: false,
        status,
        seq: Seq(1),
        hash: Hash::default(),
        time: TimeMs(0),
        started: TimeMs(0),
        epoch: Epoch(epoch),
        holder,
        intents: vec![],
        zones: vec![],
        waits: vec![],
        signals: vec![],
        counters: Counters::default(),
        budget: crate::graph::budget::SessionBudget::default(),
        dedupe: vec![],
        parent: None,
        top: SESSION,
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

fn granted(epoch: u64, instance: InstanceId) -> Body {
    let incarnation = Incarnation::default();
    Body::LeaseGranted(LeaseGranted { epoch: Epoch(epoch), instance, takeover: false, incarnation })
}

fn paused() -> Body {
    Body::SessionPaused { reason: PauseReason::Requested, step_key: None, details: None }
}

fn resumed() -> Body {
    Body::SessionResumed { by: Arc::from("ops"), retry: false }
}

fn released(reason: ReleaseReason) -> Body {
    Body::LeaseReleased { epoch: Epoch(1), reason }
}

/// A head of a workflow's session, for tests that only read its names.
pub fn test_head(workflow: &str, version: &str) -> Head {
    Head { workflow: workflow.into(), version: version.into(), ..head(Status::Pending, None, 0) }
}

/// The sessions, and who is alive.
struct Rig {
    sessions: Sessions,
    alive: Vec<InstanceId>,
    now_ms: u64,
}

impl Rig {
    /// Two workers; A holds the session in epoch 1 on its connection.
    fn with_a_running() -> Self {
        let mut rig = Self { sessions: Sessions::default(), alive: vec![A, B], now_ms: 0 };
        for conn in [CONN_A, CONN_B] {
            let kind = Entry::new(&head(Status::Running, None, 0), true).kind;
            rig.sessions.queue.join(conn, vec![kind], 1);
        }
        rig.change(&head(Status::Running, Some(A), 1), &[granted(1, A)], Some(A));
        assert!(rig.sessions.bind(SESSION, A, CONN_A, Epoch(1)));
        rig
    }

    fn change(&mut self, head: &Head, bodies: &[Body], origin: Option<InstanceId>) -> Vec<Notice> {
        let change = Change { head, bodies: bodies.iter().collect(), origin, now_ms: self.now_ms };
        let alive = &self.alive;
        self.sessions.changed(&change, |instance| alive.contains(&instance))
    }

    fn die(&mut self, instance: InstanceId) {
        self.alive.retain(|alive| *alive != instance);
        self.sweep(Sweep { died: vec![instance], revived: vec![] });
    }

    fn sweep(&mut self, sweep: Sweep) {
        let alive = &self.alive;
        self.sessions.swept(&sweep, self.now_ms, |instance| alive.contains(&instance));
    }

    fn queued(&self) -> bool {
        !self.sessions.queue.is_empty()
    }
}

#[test]
fn s1_a_new_session_is_queued_and_a_leased_one_is_not() {
    let mut rig = Rig::with_a_running();
    assert!(!rig.queued());
    rig.change(&head(Status::Running, None, 1), &[released(ReleaseReason::Suspended)], Some(A));
    assert!(rig.queued());
    assert!(rig.sessions.offer().is_some());
    rig.change(&head(Status::Completed, None, 1), &[], None);
    assert!(!rig.queued());
    assert_eq!(rig.sessions.held_by(A), 0);
}

#[test]
fn s1_the_sessions_of_a_dead_holder_are_offered_and_its_return_takes_them_back() {
    let mut rig = Rig::with_a_running();
    rig.die(A);
    assert!(rig.queued());
    rig.alive.push(A);
    rig.sweep(Sweep { died: vec![], revived: vec![A] });
    assert!(!rig.queued());
    rig.die(A);
    rig.sessions.offer().unwrap();
    let notices = rig.change(&head(Status::Running, Some(B), 2), &[granted(2, B)], Some(B));
    let fenced = Notice::Revoked { conn: CONN_A, epoch: Epoch(1), why: Revocation::Fenced };
    assert_eq!(notices, [fenced]); // S2
    assert!(rig.sessions.bind(SESSION, B, CONN_B, Epoch(2)));
    assert!(!rig.sessions.bind(SESSION, A, CONN_A, Epoch(1)), "S2: the loser binds no more");
    assert_eq!((rig.sessions.held_by(A), rig.sessions.held_by(B)), (0, 1));
}

#[test]
fn s1_a_paused_session_waits_for_its_resume_whoever_died_meanwhile() {
    let mut rig = Rig::with_a_running();
    let status = Status::Paused { reason: PauseReason::Requested, step_key: None };
    let notices = rig.change(&head(status, Some(A), 1), &[paused()], None);
    let revoked = Notice::Revoked { conn: CONN_A, epoch: Epoch(1), why: Revocation::Paused };
    assert_eq!(notices, [Notice::Events(CONN_A), revoked]); // S3
    rig.die(A);
    assert!(!rig.queued());
    rig.change(&head(Status::Running, Some(A), 1), &[resumed()], None);
    assert!(rig.queued());
}

#[test]
fn s1_a_session_a_worker_could_not_take_waits_out_a_delay() {
    let mut rig = Rig::with_a_running();
    rig.change(&head(Status::Running, None, 1), &[released(ReleaseReason::Unable)], Some(A));
    assert!(!rig.queued());
    rig.now_ms = RETRY_MS - 1;
    rig.sweep(Sweep::default());
    assert!(!rig.queued());
    rig.now_ms = RETRY_MS;
    rig.sweep(Sweep::default());
    assert!(rig.queued());
}

#[test]
fn s1_a_refused_offer_goes_back_to_the_queue() {
    let mut rig = Rig::with_a_running();
    rig.die(A);
    rig.sessions.offer().unwrap();
    rig.sweep(Sweep { died: vec![A], revived: vec![] });
    assert!(!rig.queued(), "it is offered only once at a time");
    rig.sessions.refused(SESSION, None, |_| false);
    assert!(rig.queued());
}

#[test]
fn s3_events_of_others_are_pushed_and_own_ones_are_not() {
    let mut rig = Rig::with_a_running();
    let running = head(Status::Running, Some(A), 1);
    assert_eq!(rig.change(&running, &[resumed()], Some(A)), []);
    assert_eq!(rig.change(&running, &[resumed()], None), [Notice::Events(CONN_A)]);
    rig.sessions.unbind(A, CONN_B);
    assert_eq!(rig.change(&running, &[resumed()], None), [Notice::Events(CONN_A)]);
    rig.sessions.unbind(A, CONN_A);
    assert_eq!(rig.change(&running, &[resumed()], None), []);
}

#[test]
fn s3_an_end_by_somebody_else_is_told_and_an_own_end_is_not() {
    let mut rig = Rig::with_a_running();
    let ended = Notice::Revoked { conn: CONN_A, epoch: Epoch(1), why: Revocation::Ended };
    let notices = rig.change(&head(Status::Cancelled, Some(A), 1), &[], None);
    assert_eq!(notices, [Notice::Events(CONN_A), ended]);
    let mut rig = Rig::with_a_running();
    assert_eq!(rig.change(&head(Status::Completed, Some(A), 1), &[], Some(A)), []);
}

#[test]
fn the_reason_for_waiting_names_a_silent_holder_or_the_queue() {
    let mut rig = Rig::with_a_running();
    assert_eq!(rig.sessions.waiting(SESSION), None);
    rig.sessions.unbind(A, CONN_A);
    assert_eq!(rig.sessions.waiting(SESSION), Some(Why::Silent { holder: A, next: Waiting::Soon }));
    rig.change(&head(Status::Running, None, 1), &[released(ReleaseReason::Shutdown)], Some(A));
    for conn in [CONN_A, CONN_B] {
        rig.sessions.queue.leave(conn);
    }
    assert_eq!(rig.sessions.waiting(SESSION), Some(Why::Queued(Waiting::NoWorker { served: vec![] })));
}
