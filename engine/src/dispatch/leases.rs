//! Who holds leases and was heard of: one row per worker instance, in memory only.
//!
//! Owns: last signs of life, goodbyes, and the verdict whether a holder is alive. Never: grants or takes a lease (those
//! are events), or reads a clock (callers pass monotonic milliseconds).
//!
//! Invariants:
//! - D1 A holder is alive while it was heard of within the TTL and has not said goodbye. Nothing else kills: a dropped
//!   connection does not.
//! - D2 After an engine start every holder found in a head gets a full TTL.
//! - D3 An instance belongs to the namespace it first spoke for; another namespace can neither renew nor replace it.
//! - D4 A death is told once, and so is a return to life before somebody took over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::graph::ids::{InstanceId, Namespace};

/// Names one open worker channel of this process; grows, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// Where a connection notes that its worker was heard of, without a lock.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Notes a sign of life at `now_ms` (monotonic).
    pub fn beat(&self, now_ms: u64) {
        self.0.fetch_max(now_ms, Ordering::Relaxed);
    }

    fn last_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a renewal found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// Renewed; the instance has a channel open, or is a thin client's.
    Known,
    /// Renewed if there was anything to renew, but the instance has spoken to no channel since this engine started.
    Unknown,
}

/// The instance belongs to another namespace (D3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign;

/// Whose state changed since the last look (D4).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// Not alive any more.
    pub died: Vec<InstanceId>,
    /// Heard of again.
    pub revived: Vec<InstanceId>,
}

struct Lease {
    namespace: Namespace,
    pulse: Pulse,
    conn: Option<ConnId>,
    /// True once a channel or a thin client's call came in since this engine started.
    spoke: bool,
    goodbye: bool,
    told_dead: bool,
}

/// The table.
pub struct Leases {
    ttl_ms: u64,
    table: Mutex<HashMap<InstanceId, Lease>>,
}

impl Leases {
    /// Creates an empty table of leases that last `ttl_ms` milliseconds.
    #[must_use]
    pub fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, table: Mutex::default() }
    }

    /// How long a lease lasts after a sign of life, in milliseconds.
    #[must_use]
    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// Gives a holder found in a head at start a full TTL (D2).
    pub fn recovered(&self, instance: InstanceId, namespace: &Namespace, now_ms: u64) {
        let mut table = self.table.lock();
        row(&mut table, instance, namespace).pulse.beat(now_ms);
    }

    /// Notes the call of a thin client, which has no channel, as a sign of life.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn called(&self, instance: InstanceId, namespace: &Namespace, now_ms: u64) -> Result<(), Foreign> {
        let mut table = self.table.lock();
        let lease = row(&mut table, instance, namespace);
        lease.check(namespace)?;
        lease.spoke = true;
        lease.goodbye = false;
        lease.pulse.beat(now_ms);
        Ok(())
    }

    /// Renews by heartbeat. An instance nobody knows is not remembered: it holds nothing.
    /// `sees` says whether the caller may speak for the namespace (D3).
    pub fn heartbeat(&self, instance: InstanceId, sees: impl Fn(&str) -> bool, now_ms: u64) -> Renewal {
        let mut table = self.table.lock();
        let Some(lease) = table.get_mut(&instance).filter(|lease| sees(&lease.namespace)) else {
            return Renewal::Unknown;
        };
        lease.pulse.beat(now_ms);
        if lease.spoke { Renewal::Known } else { Renewal::Unknown }
    }

    /// Notes a channel of the instance; returns its pulse and the channel it replaces.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn connected(
        &self,
        instance: InstanceId,
        namespace: &Namespace,
        conn: ConnId,
        now_ms: u64,
    ) -> Result<(Pulse, Option<ConnId>), Foreign> {
        let mut table = self.table.lock();
        let lease = row(&mut table, instance, namespace);
        lease.check(namespace)?;
        lease.spoke = true;
        lease.goodbye = false;
        lease.pulse.beat(now_ms);
        Ok((lease.pulse.clone(), lease.conn.replace(conn)))
    }

    /// Notes that a channel is gone; its instance lives on until the TTL (D1).
    pub fn disconnected(&self, instance: InstanceId, conn: ConnId) {
        if let Some(lease) = self.table.lock().get_mut(&instance)
            && lease.conn == Some(conn)
        {
            lease.conn = None;
        }
    }

    /// Notes that nothing of the instance is in flight any more: its leases may be taken at once.
    pub fn goodbye(&self, instance: InstanceId, conn: ConnId) {
        if let Some(lease) = self.table.lock().get_mut(&instance)
            && lease.conn == Some(conn)
        {
            lease.goodbye = true;
        }
    }

    /// Says whether the holder of a lease is alive (D1).
    #[must_use]
    pub fn alive(&self, instance: InstanceId, now_ms: u64) -> bool {
        self.table.lock().get(&instance).is_some_and(|lease| lease.alive(now_ms, self.ttl_ms))
    }

    /// Milliseconds until the holder counts as dead if nothing more is heard of it; 0: it does.
    #[must_use]
    pub fn left_ms(&self, instance: InstanceId, now_ms: u64) -> u64 {
        self.table.lock().get(&instance).map_or(0, |lease| lease.left_ms(now_ms, self.ttl_ms))
    }

    /// Milliseconds since an instance was last heard of; 0 for one that is not known.
    #[must_use]
    pub fn idle_ms(&self, instance: InstanceId, now_ms: u64) -> u64 {
        self.table.lock().get(&instance).map_or(0, |lease| now_ms.saturating_sub(lease.pulse.last_ms()))
    }

    /// Tells deaths and returns to life since the last sweep, and forgets the dead that `holds` nothing.
    pub fn sweep(&self, now_ms: u64, holds: impl Fn(InstanceId) -> bool) -> Sweep {
        let mut sweep = Sweep::default();
        self.table.lock().retain(|&instance, lease| {
            let alive = lease.alive(now_ms, self.ttl_ms);
            if alive && lease.told_dead {
                sweep.revived.push(instance);
            } else if !alive && !lease.told_dead {
                sweep.died.push(instance);
            }
            lease.told_dead = !alive;
            alive || lease.conn.is_some() || holds(instance)
        });
        sweep
    }
}

impl Lease {
    fn check(&self, namespace: &Namespace) -> Result<(), Foreign> {
        if self.namespace == *namespace { Ok(()) } else { Err(Foreign) }
    }

    fn alive(&self, now_ms: u64, ttl_ms: u64) -> bool {
        self.left_ms(now_ms, ttl_ms) > 0
    }

    fn left_ms(&self, now_ms: u64, ttl_ms: u64) -> u64 {
        if self.goodbye {
            return 0;
        }
        self.pulse.last_ms().saturating_add(ttl_ms).saturating_sub(now_ms)
    }
}

fn row<'a>(
    table: &'a mut HashMap<InstanceId, Lease>,
    instance: InstanceId,
    namespace: &Namespace,
) -> &'a mut Lease {
    table.entry(instance).or_insert_with(|| Lease {
        namespace: Namespace::clone(namespace),
        pulse: Pulse::default(),
        conn: None,
        spoke: false,
        goodbye: false,
        told_dead: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 100;
    const A: InstanceId = InstanceId([1; 16]);

    fn ns(name: &str) -> Namespace {
        name.into()
    }

    #[test]
    fn d1_a_dropped_connection_is_not_a_death_but_silence_and_goodbye_are() {
        let leases = Leases::new(TTL);
        let (pulse, replaced) = leases.connected(A, &ns("n"), ConnId(1), 0).unwrap();
        assert_eq!(replaced, None);
        leases.disconnected(A, ConnId(1));
        assert!(leases.alive(A, 99));
        assert!(!leases.alive(A, 100));
        pulse.beat(100);
        assert!(leases.alive(A, 199));
        leases.connected(A, &ns("n"), ConnId(2), 150).unwrap();
        leases.goodbye(A, ConnId(1));
        assert!(leases.alive(A, 150), "a goodbye on a replaced channel is void");
        leases.goodbye(A, ConnId(2));
        assert!(!leases.alive(A, 150));
        leases.connected(A, &ns("n"), ConnId(3), 160).unwrap();
        assert!(leases.alive(A, 160), "whoever speaks again has not gone");
    }

    #[test]
    fn d2_a_recovered_holder_has_a_full_ttl_and_must_open_a_channel() {
        let leases = Leases::new(TTL);
        leases.recovered(A, &ns("n"), 1_000);
        assert!(leases.alive(A, 1_099));
        assert_eq!(leases.heartbeat(A, |ns| ns == "n", 1_050), Renewal::Unknown);
        assert!(leases.alive(A, 1_149), "the heartbeat renewed it all the same");
        leases.connected(A, &ns("n"), ConnId(1), 1_060).unwrap();
        assert_eq!(leases.heartbeat(A, |ns| ns == "n", 1_070), Renewal::Known);
    }

    #[test]
    fn d3_another_namespace_neither_renews_nor_replaces() {
        let leases = Leases::new(TTL);
        leases.connected(A, &ns("n"), ConnId(1), 0).unwrap();
        assert!(leases.connected(A, &ns("other"), ConnId(2), 50).is_err());
        assert_eq!(leases.called(A, &ns("other"), 50), Err(Foreign));
        assert_eq!(leases.heartbeat(A, |ns| ns == "other", 50), Renewal::Unknown);
        assert!(!leases.alive(A, 100));
    }

    #[test]
    fn d4_deaths_and_returns_are_told_once() {
        let leases = Leases::new(TTL);
        let (pulse, _) = leases.connected(A, &ns("n"), ConnId(1), 0).unwrap();
        let holds = |_| true;
        assert_eq!(leases.sweep(50, holds), Sweep::default());
        assert_eq!(leases.sweep(100, holds).died, [A]);
        assert_eq!(leases.sweep(101, holds), Sweep::default());
        pulse.beat(102);
        assert_eq!(leases.sweep(103, holds), Sweep { died: vec![], revived: vec![A] });
        assert_eq!(leases.sweep(104, holds), Sweep::default());
    }

    #[test]
    fn the_dead_that_hold_nothing_are_forgotten() {
        let leases = Leases::new(TTL);
        leases.recovered(A, &ns("n"), 0);
        leases.sweep(100, |_| true);
        assert_eq!(leases.table.lock().len(), 1);
        leases.sweep(101, |_| false);
        assert!(leases.table.lock().is_empty());
    }
}
