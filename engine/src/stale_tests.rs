//! ST1 to ST3, on a clock of their own.

use std::sync::Arc;
use std::time::Duration;

use super::{Due, Entry, Stale, Why};
use crate::clock::Clock;
use crate::config::Limits;
use crate::graph::ids::{Namespace, Seq, SessionId};

struct At(std::sync::atomic::AtomicU64);

impl Clock for At {
    fn wall_ms(&self) -> u64 {
        0
    }
    fn mono_us(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst) * 1_000
    }
}

fn stale() -> (Stale, Arc<At>) {
    let clock = Arc::new(At(0.into()));
    let limits = Limits {
        context_due_bytes: 100,
        context_high_mark_bytes: 1_000,
        context_gap_ms: 50,
        ..Limits::default()
    };
    (Stale::new(&limits, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn came(stale: &Stale, n: u8, bytes: u64, suspended: bool) -> SessionId {
    let session = SessionId([n; 16]);
    let entry = Entry { namespace: "a".into(), seq: Seq(9), bytes, last_ms: 0, suspended, asked: None };
    stale.state.lock().sessions.insert(session, entry);
    session
}

async fn take(stale: &Stale, namespace: &str) -> (Vec<Due>, bool) {
    let namespace: Namespace = namespace.into();
    stale.take(&namespace, 8, Duration::ZERO).await
}

#[tokio::test]
async fn a_session_is_handed_out_once_and_the_most_urgent_first() {
    let (stale, clock) = stale();
    assert!(take(&stale, "a").await.1, "a new engine may have missed some"); // ST3
    came(&stale, 1, 1_000, false);
    came(&stale, 2, 100, true);
    came(&stale, 3, 99, true);
    came(&stale, 4, 100, false);
    stale.ask(SessionId([5; 16]), &"a".into(), Seq(1), 32_000);
    let (due, missed) = take(&stale, "a").await;
    let shown: Vec<_> = due.iter().map(|due| (due.session.0[0], due.why, due.budget_tokens)).collect();
    assert_eq!(shown, [(5, Why::Asked, 32_000), (2, Why::Suspended, 0), (1, Why::HighMark, 0)]);
    assert!(!missed);
    assert!(take(&stale, "a").await.0.is_empty()); // ST1
    clock.0.store(50, std::sync::atomic::Ordering::SeqCst);
    let (due, _) = take(&stale, "a").await;
    assert_eq!(due.iter().map(|due| (due.session.0[0], due.why)).collect::<Vec<_>>(), [(4, Why::Gap)]);
}

#[tokio::test]
async fn other_namespaces_see_nothing_and_nobody_waits_there() {
    let (stale, clock) = stale();
    came(&stale, 1, 1_000, false);
    assert!(take(&stale, "b").await.0.is_empty());
    assert!(stale.unattended(&"a".into()) && !stale.unattended(&"b".into()));
    clock.0.store(30_001, std::sync::atomic::Ordering::SeqCst);
    assert!(stale.unattended(&"b".into()));
    assert_eq!(take(&stale, "a").await.0.len(), 1);
}

#[tokio::test]
async fn who_waits_is_woken_by_who_asks() {
    let (stale, _clock) = stale();
    let stale = Arc::new(stale);
    drop(take(&stale, "a").await);
    let waiting = tokio::spawn({
        let stale = Arc::clone(&stale);
        async move { stale.take(&"a".into(), 8, Duration::from_secs(60)).await }
    });
    while stale.state.lock().waiting.get("a").is_none_or(|(waiting, _)| *waiting == 0) {
        tokio::task::yield_now().await;
    }
    stale.ask(SessionId([5; 16]), &"a".into(), Seq(1), 1);
    assert_eq!(waiting.await.unwrap().0.len(), 1);
}
