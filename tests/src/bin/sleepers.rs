//! Measures sessions that sleep: `sleepers [SESSIONS] [WINDOW_MS]` (default: 10,000 over 15 s). The last line is JSON.
//!
//! First their timers are spread over a window, and the engine is killed with SIGKILL twice while they fire; then as many
//! fire at the same moment.

use cellaflow_tests::sleepers::{Plan, Report, run};
use cellaflow_tests::{Engine, Options};
use serde_json::json;

/// Time to put a session to sleep on a slow machine, in ms, and what is allowed besides.
const SETUP_MS_EACH: u64 = 5;
const SETUP_MS_LEAST: u64 = 5_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let sessions = arguments.next().unwrap_or(10_000);
    let window_ms = arguments.next().unwrap_or(15_000);
    let setup_ms = SETUP_MS_LEAST + SETUP_MS_EACH * sessions;
    let sessions = usize::try_from(sessions).expect("they fit into memory");
    let spread = Plan { sessions, window_ms, setup_ms, kills: 2 };
    let mut engine = Engine::start_with(Options::default()).await;
    eprintln!(
        "{sessions} sessions go to sleep; their timers fire over {window_ms} ms, the engine is killed twice"
    );
    let report = run(&mut engine, spread).await;
    eprintln!("and again: {sessions} timers fire at the same moment");
    let burst = run(&mut engine, Plan { window_ms: 0, kills: 0, ..spread }).await;
    println!("{}", line(&report, &burst));
}

fn line(spread: &Report, burst: &Report) -> serde_json::Value {
    let mb = |bytes: u64| (bytes as f64 / 1e5).round() / 10.0;
    json!({ "sleepers": {
        "sessions": spread.sessions,
        "workers_held": spread.workers_held,
        "engine_rss_mb": mb(spread.rss_bytes),
        "engine_rss_settled_mb": mb(spread.rss_settled_bytes),
        "fired": spread.fired,
        "duplicates": spread.duplicates,
        "out_of_order": spread.out_of_order,
        "early": spread.early,
        "late_ms_p99": spread.late_ms_p99,
        "late_ms_max": spread.late_ms_max,
        "completed": spread.completed,
        "restarts": spread.restarts,
        "burst": {
            "sessions": burst.sessions,
            "engine_rss_mb": mb(burst.rss_bytes),
            "engine_rss_settled_mb": mb(burst.rss_settled_bytes),
            "fired": burst.fired,
            "duplicates": burst.duplicates,
            "late_ms_p99": burst.late_ms_p99,
            "late_ms_max": burst.late_ms_max,
        },
    } })
}
