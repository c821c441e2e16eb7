//! What makes time pass for sessions: timers, waits and intents that become due, leases that run out; and what goes from
//! one session to another (`tree`).
//!
//! Owns: when to look, and the verdict whether wall time can be trusted. Never: writes; it submits commands and lets
//! dispatch look, like any other caller.
//!
//! Invariants:
//! - V1 What is due is submitted within `TICK_MS` of its due time, and again after a while as long as it stays due
//!   (`due`, Y1 to Y3).
//! - V2 While the wall clock is ahead of itself (`jump`), nothing becomes due. Leases go by the monotonic clock and are
//!   not held.
//! - V3 A ledger that cannot be read is said once per look and looked at again; it ends no driver.

mod budgets;
mod due;
mod jump;
mod reclaim;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::ledger::{Handle, Observer};

use budgets::Budgets;
use due::Due;
use jump::{Jump, Verdict};
use tree::Tree;

/// Longest time between two looks in milliseconds.
pub const TICK_MS: u64 = 100;

/// Observes the ledger from now on and returns the loops to spawn, dispatch's included; they run until dropped.
pub fn start(
    handle: Handle,
    dispatch: Arc<Dispatch>,
    clock: Arc<dyn Clock>,
) -> impl Future<Output = ()> + Send {
    let due = Arc::new(Due::new(handle.clone()));
    handle.observe(Arc::clone(&due) as Arc<dyn Observer>);
    let tree = Arc::new(Tree::new(handle.clone(), Arc::clone(&clock)));
    handle.observe(Arc::clone(&tree) as Arc<dyn Observer>);
    let reclaiming = reclaim::run(handle.clone(), Arc::clone(&clock));
    let budgets = budgets::start(handle);
    let offering = Arc::clone(&dispatch).run();
    let carrying = tree.run();
    let looking = look(due, budgets, dispatch, clock);
    async move {
        tokio::join!(offering, looking, carrying, reclaiming);
    }
}

async fn look(due: Arc<Due>, budgets: Arc<Budgets>, dispatch: Arc<Dispatch>, clock: Arc<dyn Clock>) {
    // Time that was skipped on purpose is no jump.
    let unskipped = |wall_ms: u64| wall_ms.saturating_sub(clock.skipped_ms());
    let mut jump = Jump::new(unskipped(clock.wall_ms()), clock.mono_ms());
    loop {
        let (wall_ms, mono_ms) = (clock.wall_ms(), clock.mono_ms());
        dispatch.sweep();
        budgets.look();
        let held = is_held(jump.look(unskipped(wall_ms), mono_ms));
        if !held {
            due.look(wall_ms, mono_ms); // V2
        }
        // What is held stays due: it must not be looked at every millisecond.
        let due_in_ms = if held { TICK_MS } else { due.due_in_ms(clock.wall_ms()) };
        let wait = tokio::time::sleep(Duration::from_millis(due_in_ms.clamp(1, TICK_MS)));
        tokio::select! {
            () = wait => {}
            () = due.sooner(), if !held => {}
        }
    }
}

/// Says what the clocks do, once per change.
fn is_held(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Steady => false,
        Verdict::Jumped { ahead_ms } => {
            tracing::error!(
                ahead_ms,
                "the wall clock jumped forward: timers are held until it is back; if the new time is right, restart the engine"
            );
            true
        }
        Verdict::Held => true,
        Verdict::Back => {
            tracing::warn!("the wall clock is back: timers run again");
            false
        }
    }
}
