//! `savings`: measured from the ledger where nothing is given.

use cellaflow_tests::Engine;
use serde_json::json;

use super::{completed, started, step};

#[tokio::test]
async fn what_is_not_given_comes_from_the_ledger() {
    let engine = Engine::start().await;
    let nothing = engine.cli(&["savings"]).await;
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("--runs-per-day"), "{}", nothing.stderr);

    let (worker, session, _) = started(&engine, "a").await;
    worker.commit(&session, step("look", &json!(1))).await.unwrap();
    worker.commit(&session, step("think", &json!(2))).await.unwrap();
    worker.commit(&session, completed(&json!(3))).await.unwrap();
    let said = engine.cli(&["savings", "--failure-rate", "0.5", "--no-ccs", "--json"]).await.json();
    let input = |name: &str| said["inputs"][name].clone();
    assert_eq!(input("runs_per_day"), json!({ "value": 1.0, "source": "measured" }));
    assert_eq!(input("steps"), json!({ "value": 3.0, "source": "measured" }));
    assert_eq!(input("cost_per_step"), json!({ "value": 0.002, "source": "measured" }));
    assert_eq!(input("failure_rate"), json!({ "value": 0.5, "source": "given" }));
    let wasted = said["wasted_usd"].as_f64().unwrap();
    assert!((wasted - 365.0 * 3.0 * 0.002 * 0.5 * 0.5).abs() < 1e-9, "{said}");
}
