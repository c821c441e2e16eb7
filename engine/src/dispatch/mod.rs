//! Which worker runs which session.
//!
//! Owns: the lease table, the queue of sessions that want a worker, and the binding of sessions to connections. Never:
//! changes a session (it submits commands like anybody else) and never holds a lease of its own.
//!
//! See `leases` (D1 to D4), `queue` (Q1 to Q5) and `sessions` (S1 to S3) for what stays true.
//!
//! Locks: the state's lock may be held while the lease table's is taken, never the other way round. Peers are called
//! under the state's lock, so that what they are told is in ledger order; they must only queue.

mod assign;
mod leases;
mod observe;
mod queue;
mod sessions;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::graph::ids::{Epoch, InstanceId, Namespace, Seq, SessionId};
use crate::graph::session::Head;
use crate::ledger::{Handle, ReadError, StoredEvent};

pub use assign::lease_request;
pub use leases::{ConnId, Foreign, Pulse, Renewal};
pub use queue::{Kind, Waiting};
pub use sessions::{Revocation, Why};

use leases::Leases;
use sessions::Sessions;

/// A worker's connection, as dispatch speaks to it. Every call only queues, in the order of the calls.
pub trait Peer: Send + Sync {
    /// A session is to be run here: say so, send its events from `from` on, then what comes after.
    fn bound(&self, bound: Bound);
    /// Events of a bound session that its run did not append itself.
    fn events(&self, session: SessionId, events: &Arc<[Arc<StoredEvent>]>);
    /// The run must stop.
    fn revoked(&self, session: SessionId, epoch: Epoch, why: Revocation);
    /// The engine stops in `grace_ms`.
    fn draining(&self, grace_ms: u64);
    /// Another channel of the same instance was opened: end this one.
    fn replaced(&self);
}

/// A session to be run on a connection.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Request it answers; 0: dispatched.
    pub request_id: u64,
    /// State when the lease was bound; its seq is where the replay ends.
    pub head: Arc<Head>,
    /// `None`: no lease was taken (ended, paused, waiting).
    pub epoch: Option<Epoch>,
    /// True if the request created the session.
    pub created: bool,
    /// First event wanted.
    pub from: Seq,
}

/// A worker that opens a channel.
pub struct Joining {
    pub instance: InstanceId,
    pub namespace: Namespace,
    /// What it serves; for a client: nothing.
    pub kinds: Vec<Kind>,
    /// Sessions it takes by dispatch.
    pub capacity: u32,
    /// SDK and version.
    pub client: Arc<str>,
    pub peer: Arc<dyn Peer>,
}

/// Assigns sessions to workers; shared by all connections.
pub struct Dispatch {
    handle: Handle,
    clock: Arc<dyn Clock>,
    leases: Leases,
    state: Mutex<State>,
    /// There may be something to offer.
    wake: Notify,
    stopping: AtomicBool,
    next_conn: AtomicU64,
}

#[derive(Default)]
struct State {
    sessions: Sessions,
    peers: HashMap<ConnId, Connected>,
}

struct Connected {
    instance: InstanceId,
    namespace: Namespace,
    client: Arc<str>,
    peer: Arc<dyn Peer>,
    /// When the sessions of its instance that it has not attached to are given anew; `None`: they were.
    claims_until_ms: Option<u64>,
}

/// A connected worker, for `status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerView {
    pub instance: InstanceId,
    pub client: Arc<str>,
    pub kinds: Vec<Kind>,
    /// Leases it holds.
    pub sessions: usize,
    pub free: u32,
    /// Milliseconds since it was last heard of.
    pub idle_ms: u64,
}

impl Dispatch {
    /// Reads which sessions live and observes the ledger from then on. Call it before anything else is submitted;
    /// `drivers` run its loop, without which nothing is offered.
    ///
    /// # Errors
    /// As every read.
    pub fn start(handle: Handle, clock: Arc<dyn Clock>, lease_ttl_ms: u64) -> Result<Arc<Self>, ReadError> {
        let sessions = Sessions::under(handle.identity().incarnation);
        let dispatch = Arc::new(Self {
            handle,
            clock,
            leases: Leases::new(lease_ttl_ms),
            state: Mutex::new(State { sessions, peers: HashMap::new() }),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            next_conn: AtomicU64::new(1),
        });
        dispatch.recover()?;
        dispatch.handle.observe(Arc::clone(&dispatch) as Arc<dyn crate::ledger::Observer>);
        Ok(dispatch)
    }

    fn recover(&self) -> Result<(), ReadError> {
        let now_ms = self.clock.mono_ms();
        let mut state = self.state.lock();
        for session in self.handle.reader().live()? {
            let Some(head) = self.handle.reader().head(session)? else { continue };
            if let Some(holder) = head.holder {
                self.leases.recovered(holder, &head.namespace, now_ms); // D2
            }
            state.sessions.recovered(&head, |instance| self.leases.alive(instance, now_ms));
        }
        Ok(())
    }

    /// How long a lease lasts after a sign of life, in milliseconds.
    #[must_use]
    pub fn lease_ttl_ms(&self) -> u64 {
        self.leases.ttl_ms()
    }

    /// True while the holder of a lease was heard of within the TTL and has not said goodbye.
    #[must_use]
    pub fn holder_alive(&self, instance: InstanceId) -> bool {
        self.leases.alive(instance, self.clock.mono_ms())
    }

    /// Notes the call of a thin client, which has no channel, as a sign of life.
    ///
    /// # Errors
    /// [`Foreign`] if another namespace uses this instance.
    pub fn called(&self, instance: InstanceId, namespace: &Namespace) -> Result<(), Foreign> {
        self.leases.called(instance, namespace, self.clock.mono_ms())
    }

    /// Renews all leases of an instance; `sees` says whether the caller may speak for a namespace.
    pub fn heartbeat(&self, instance: InstanceId, sees: impl Fn(&str) -> bool) -> Renewal {
        self.leases.heartbeat(instance, sees, self.clock.mono_ms())
    }

    /// Registers a worker's connection; an older one of the same instance is ended.
    ///
    /// # Errors
    /// [`Foreign`] if another namespace uses this instance.
    pub fn connect(&self, joining: Joining) -> Result<(ConnId, Pulse), Foreign> {
        let Joining { instance, namespace, kinds, capacity, client, peer } = joining;
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let mut state = self.state.lock();
        let now_ms = self.clock.mono_ms();
        let (pulse, replaced) = self.leases.connected(instance, &namespace, conn, now_ms)?;
        if let Some(old) = replaced {
            state.leave(instance, old).inspect(|peer| peer.replaced());
        }
        let claims_until_ms = Some(now_ms.saturating_add(self.leases.ttl_ms()));
        state.peers.insert(conn, Connected { instance, namespace, client, peer, claims_until_ms });
        state.sessions.queue.join(conn, kinds, capacity);
        drop(state);
        self.wake.notify_one();
        Ok((conn, pulse))
    }

    /// Forgets a connection. Its leases stay with the instance until the TTL, or are free at once if its last message
    /// said that `nothing_in_flight` is.
    pub fn disconnect(&self, instance: InstanceId, conn: ConnId, nothing_in_flight: bool) {
        let mut state = self.state.lock();
        if nothing_in_flight {
            self.leases.goodbye(instance, conn);
        }
        self.leases.disconnected(instance, conn);
        state.leave(instance, conn);
        drop(state);
        if nothing_in_flight {
            self.sweep();
        }
    }

    /// Notes how many further sessions a worker takes.
    pub fn set_capacity(&self, conn: ConnId, free: u32) {
        self.state.lock().sessions.queue.set_free(conn, free);
        self.wake.notify_one();
    }

    /// Binds a connection to a session whose lease its instance holds, from the responder of the command that took it.
    /// False: the lease has moved on, or the connection is gone.
    pub fn bind(&self, conn: ConnId, session: SessionId, epoch: Epoch) -> bool {
        let mut state = self.state.lock();
        let Some(instance) = state.peers.get(&conn).map(|connected| connected.instance) else { return false };
        state.sessions.bind(session, instance, conn, epoch)
    }

    /// How many leases an instance holds.
    #[must_use]
    pub fn held_by(&self, instance: InstanceId) -> usize {
        self.state.lock().sessions.held_by(instance)
    }

    /// The connected workers of the namespaces that `sees` accepts, oldest connection first.
    pub fn workers(&self, sees: impl Fn(&str) -> bool) -> Vec<WorkerView> {
        let now_ms = self.clock.mono_ms();
        let state = self.state.lock();
        let mut seen: Vec<_> =
            state.peers.iter().filter(|(_, connected)| sees(&connected.namespace)).collect();
        seen.sort_unstable_by_key(|(conn, _)| **conn);
        let view = |(conn, connected): (&ConnId, &Connected)| {
            let (kinds, free) = state.sessions.queue.serves(*conn);
            WorkerView {
                instance: connected.instance,
                client: Arc::clone(&connected.client),
                kinds,
                sessions: state.sessions.held_by(connected.instance),
                free,
                idle_ms: self.leases.idle_ms(connected.instance, now_ms),
            }
        };
        seen.into_iter().map(view).collect()
    }

    /// Offers no more sessions and tells all connections that the engine stops in `grace_ms`.
    pub fn drain(&self, grace_ms: u64) {
        self.stopping.store(true, Ordering::Release);
        self.state.lock().peers.values().for_each(|connected| connected.peer.draining(grace_ms));
    }

    /// True once [`Dispatch::drain`] was called: new work is refused.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Looks for holders that died or came back; called every tick by `drivers`.
    pub fn sweep(&self) {
        let now_ms = self.clock.mono_ms();
        let mut state = self.state.lock();
        let sweep = self.leases.sweep(now_ms, |instance| state.sessions.held_by(instance) > 0);
        state.set_silent(&sweep.died, true);
        state.set_silent(&sweep.revived, false);
        state.sessions.swept(&sweep, now_ms, |instance| self.leases.alive(instance, now_ms));
        state.abandon_unclaimed(now_ms, |instance| self.leases.alive(instance, now_ms));
        let offer = !state.sessions.queue.is_empty();
        drop(state);
        for instance in &sweep.died {
            tracing::info!(%instance, "worker is silent: its sessions are free for others");
        }
        if offer {
            self.wake.notify_one();
        }
    }
}

impl State {
    /// S4: once per connection, a TTL after it was opened.
    fn abandon_unclaimed(&mut self, now_ms: u64, alive: impl Fn(InstanceId) -> bool) {
        for connected in self.peers.values_mut() {
            if connected.claims_until_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
                self.sessions.abandon_unbound(connected.instance, &alive);
            }
        }
    }

    fn set_silent(&mut self, instances: &[InstanceId], silent: bool) {
        for (conn, connected) in &self.peers {
            if instances.contains(&connected.instance) {
                self.sessions.queue.set_silent(*conn, silent);
            }
        }
    }

    fn leave(&mut self, instance: InstanceId, conn: ConnId) -> Option<Arc<dyn Peer>> {
        self.sessions.queue.leave(conn);
        self.sessions.unbind(instance, conn);
        self.peers.remove(&conn).map(|connected| connected.peer)
    }
}
