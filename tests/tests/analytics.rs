//! Promise: **accounted**, in the archive. What sessions cost, wasted and saved is told by DuckDB over published files only,
//! and its figures are those that were sent to the engine.

use std::path::Path;
use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::{
    self, ForkSessionRequest, GuardIntent, GuardPolicy, GuardUnknown, LlmCall, PayloadFormat, SessionFailed,
    StepCompleted, StepFailed, UnknownReason, Usage, ZoneCommitted, ZoneEntered, ZoneEvidence, ZoneFailed,
};
use cellaflow_tests::channel::{Alive, Worker, completed, session_completed};
use cellaflow_tests::client::{Client, by_id};
use cellaflow_tests::duckdb::{self, ask, ask_one};
use cellaflow_tests::{Engine, Options, Ran, events, payload, wait};
use serde_json::{Value, json};

const RUN: [&str; 3] = ["run", "--once", "--json"];
const ATTEMPT_MS: u64 = 200;
const GRACE_MS: u64 = 200;
/// The event at which the fork of the scene is cut.
const FORKED_AT: u64 = 5;

async fn engine() -> Engine {
    let flags = ["--archive-after-ms", "0", "--lease-ttl-ms", "500"].map(str::to_owned).to_vec();
    Engine::start_with(Options { flags }).await
}

fn usage(model: &str, tokens: [u64; 4], cost_nanos: Option<i64>) -> Usage {
    let [input_tokens, cached_read_tokens, cache_write_tokens, output_tokens] = tokens;
    Usage {
        provider: "test".into(),
        model: model.into(),
        input_tokens,
        cached_read_tokens,
        cache_write_tokens,
        output_tokens,
        estimated: false,
        cost_nanos,
        price_date: if cost_nanos.is_some() { "2026-11-01".into() } else { String::new() },
    }
}

fn called(usage: Usage) -> LlmCall {
    LlmCall { request: Some(payload::of(PayloadFormat::LlmRequest, "")), response: None, usage: Some(usage) }
}

fn step(name: &str, attempt: u32, cost_nanos: i64, llm: Option<Usage>) -> Op {
    Op::StepCompleted(StepCompleted {
        step_key: format!("{name}#1"),
        name: name.into(),
        attempt,
        output: Some(payload::literal("1")),
        cost_nanos,
        duration_us: 2_000,
        llm: llm.map(called),
        ..StepCompleted::default()
    })
}

fn step_failed(name: &str, is_final: bool, usage: Option<Usage>) -> Op {
    Op::StepFailed(StepFailed {
        step_key: format!("{name}#1"),
        name: name.into(),
        attempt: 1,
        failure: Some(payload::failure("rate_limited")),
        r#final: is_final,
        duration_us: 500_000,
        usage,
        ..StepFailed::default()
    })
}

fn entered(attempt: u32) -> Op {
    let (zone_key, name) = ("draft#1".into(), "draft".into());
    Op::ZoneEntered(ZoneEntered { zone_key, name, attempt, ..ZoneEntered::default() })
}

fn streamed(text: &str) -> Op {
    let data = text.as_bytes().to_vec().into();
    Op::ZoneEvidence(ZoneEvidence { zone_key: "draft#1".into(), attempt: 1, offset: 0, data })
}

fn zone_failed(attempt: u32, usage: Usage) -> Op {
    Op::ZoneFailed(ZoneFailed {
        zone_key: "draft#1".into(),
        attempt,
        failure: Some(payload::failure("overloaded")),
        usage: vec![usage],
        ..ZoneFailed::default()
    })
}

fn zone_committed(attempt: u32, calls: Vec<Usage>) -> Op {
    Op::ZoneCommitted(ZoneCommitted {
        zone_key: "draft#1".into(),
        attempt,
        output: Some(payload::literal("\"text\"")),
        record: Some(payload::of(PayloadFormat::ZoneRecord, "")),
        llm_calls: calls.into_iter().map(called).collect(),
        duration_us: 4_000,
        ..ZoneCommitted::default()
    })
}

fn intent(attempt: u32) -> Op {
    Op::GuardIntent(GuardIntent {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt,
        input_digest: vec![1; 32].into(),
        attempt_ms: ATTEMPT_MS,
        grace_ms: GRACE_MS,
        policy: GuardPolicy::Retry.into(),
        idempotency_key: Some(payload::bytes("order-7")),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    })
}

fn threw() -> Op {
    let (step_key, failure) = ("charge#1".into(), Some(payload::failure("socket_closed")));
    Op::GuardUnknown(GuardUnknown { step_key, attempt: 1, reason: UnknownReason::Threw.into(), failure })
}

fn charged() -> Op {
    Op::StepCompleted(StepCompleted {
        step_key: "charge#1".into(),
        name: "charge".into(),
        attempt: 2,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal("\"paid\"")),
        guarded: true,
        ..StepCompleted::default()
    })
}

fn done() -> Op {
    session_completed(payload::literal("\"done\""))
}

/// A session with one of everything that costs or wastes, and a fork of it.
struct Scene {
    engine: Engine,
    client: Client,
    worker: Worker,
    _alive: Alive,
    session: String,
    fork: String,
}

impl Scene {
    async fn start() -> Self {
        let engine = engine().await;
        let client = engine.client().await;
        let loser = Worker::connect(&client).await;
        let session = loser.begin("everything").await;
        let run = async |op| loser.append(&session, 1, op).await.expect("the run may append");
        run(step("plan", 1, 0, Some(usage("small", [100, 300, 50, 20], Some(1_000_000))))).await;
        run(step_failed("look", false, Some(usage("small", [50, 0, 0, 5], Some(400_000))))).await;
        run(step("look", 2, 7_000_000, None)).await;
        run(entered(1)).await;
        run(streamed("words that were streamed and then lost with the worker that had asked for them")).await;
        let worker = Worker::connect(&client).await;
        assert_eq!(worker.take_over(&session).await, 2);
        let alive = worker.stay_alive();
        let run = async |op| worker.append(&session, 2, op).await.expect("the run may append");
        run(entered(2)).await;
        run(zone_failed(2, usage("large", [200, 0, 0, 10], Some(5_000_000)))).await;
        run(entered(3)).await;
        let calls =
            vec![usage("large", [200, 100, 0, 50], Some(9_000_000)), usage("unheard", [10, 0, 0, 1], None)];
        run(zone_committed(3, calls)).await;
        run(intent(1)).await;
        run(threw()).await;
        wait::until("the policy lets it be called again", async || {
            worker.append(&session, 2, intent(2)).await.ok()
        })
        .await;
        run(charged()).await;
        run(done()).await;
        let fork = fork_and_fail(&client, &worker, &session).await;
        Self { engine, client, worker, _alive: alive, session, fork }
    }

    async fn report(&self, queries: &[&str]) -> Value {
        self.reported(&[&["report", "--json"], queries].concat()).await.json()["queries"].take()
    }

    async fn reported(&self, arguments: &[&str]) -> Ran {
        self.engine.compactor(arguments).await
    }
}

/// A fork that begins after "plan", "look" and the zone's entry, and fails.
async fn fork_and_fail(client: &Client, worker: &Worker, session: &str) -> String {
    let request =
        ForkSessionRequest { session: by_id(session), from_seq: FORKED_AT, ..ForkSessionRequest::default() };
    let forked = client.sessions().fork_session(request).await.expect("an ended session can be forked");
    let fork = forked.into_inner().session.expect("an answer has it").session_id;
    let bound = worker.attach(&fork, 0).await.expect("a fork can be run");
    let failed = Op::SessionFailed(SessionFailed { failure: Some(payload::failure("gave_up")) });
    for op in [step_failed("other", true, None), failed] {
        worker.append(&fork, bound.epoch, op).await.expect("the run may append");
    }
    fork
}

fn column<'a>(rows: &'a Value, name: &str) -> Vec<&'a Value> {
    rows.as_array().unwrap().iter().map(|row| &row[name]).collect()
}

/// The row in which a column has a value.
fn row<'a>(rows: &'a Value, name: &str, value: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row[name] == value);
    found.unwrap_or_else(|| panic!("no {name} {value} in {rows}"))
}

/// Some columns of a row.
fn of<const N: usize>(row: &Value, names: [&str; N]) -> Vec<Value> {
    names
        .iter()
        .map(|name| row.get(name).unwrap_or_else(|| panic!("no column {name} in {row}")).clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_tells_what_was_sent_to_the_engine() {
    let scene = Scene::start().await;
    let totals = scene.client.session(&scene.session).await.totals.unwrap();
    let engine_events = events::all(&scene.client, &scene.session).await;
    scene.reported(&RUN).await.ok();
    let report = scene.report(&[]).await;

    let cost = &report["cost"];
    let small =
        of(row(cost, "model", "small"), ["workflow", "version", "calls", "input_tokens", "cached_tokens"]);
    assert_eq!(small, [json!("test"), json!("1"), json!(2), json!(150), json!(300)]);
    let figures = ["output_tokens", "cost_usd", "of_it_wasted_usd", "calls_without_price"];
    assert_eq!(of(row(cost, "model", "small"), figures), [json!(25), json!(0.0014), json!(0.0004), json!(0)]);
    assert_eq!(of(row(cost, "model", "large"), figures), [json!(60), json!(0.014), json!(0.005), json!(0)]);
    assert_eq!(of(row(cost, "model", "unheard"), figures), [json!(1), Value::Null, json!(0.0), json!(1)]);
    let steps = cost.as_array().unwrap().iter().find(|row| row["model"].is_null()).unwrap();
    assert_eq!(of(steps, ["calls", "cost_usd"]), [json!(0), json!(0.007)], "what a step cost by itself");
    let sum: f64 = column(cost, "cost_usd").iter().filter_map(|cost| cost.as_f64()).sum();
    assert_eq!((sum * 1e9).round() as i64, totals.cost_nanos, "all of it is what the engine says");

    let cached = row(&report["cache_hits"], "model", "small");
    assert_eq!(cached["cache_hit_share"], json!(0.6), "300 of 500 tokens");

    let wasted = &report["wasted"];
    let shown = |kind| of(row(wasted, "kind", kind), ["times", "tokens", "cost_usd"]);
    assert_eq!(shown("step attempt retried"), [json!(1), json!(55), json!(0.0004)]);
    assert_eq!(shown("zone attempt retried"), [json!(1), json!(210), json!(0.005)]);
    assert_eq!(shown("step failed"), [json!(1), json!(0), Value::Null]);
    let lost = row(wasted, "kind", "interrupted zone");
    let lost_tokens = totals.wasted_tokens - 55 - 210;
    assert!(lost_tokens > 0);
    assert_eq!(of(lost, ["times", "tokens", "cost_usd"]), [json!(1), json!(lost_tokens), Value::Null]);
    // 15.4 million nano-dollars for 470 + 55 + 210 + 350 tokens that have a price.
    let estimated = lost_tokens as f64 * 15_400_000.0 / (470.0 + 55.0 + 210.0 + 350.0) / 1e9;
    assert!((lost["estimated_cost_usd"].as_f64().unwrap() - estimated).abs() < 1e-6, "{lost}");
    let unknown = row(wasted, "kind", "unknown effect");
    assert_eq!(unknown["times"], json!(1), "said twice, and once unknown");
    assert!(unknown["seconds"].as_f64().unwrap() >= (ATTEMPT_MS + GRACE_MS) as f64 / 1e3 - 0.1, "{unknown}");

    let replay = &report["replay"][0];
    // Up to the takeover and up to the cut of the fork: 470 + 55 tokens, 8.4 million nano-dollars.
    assert_eq!(
        of(replay, ["recoveries", "forks", "saved_tokens", "saved_usd"]),
        [json!(1), json!(1), json!(2 * 525), json!(0.0168)]
    );

    let steps = &report["steps"];
    assert_eq!(
        of(row(steps, "step", "draft"), ["kind", "times", "median_ms", "tokens"]),
        [json!("zone"), json!(1), json!(4.0), json!(361)]
    );
    assert_eq!(of(row(steps, "step", "plan"), ["kind", "cost_usd"]), [json!("step"), json!(0.001)]);

    let failures = &report["failures"];
    assert_eq!(
        of(row(failures, "step", "look"), ["failures", "of_them_final", "share"]),
        [json!(1), json!(0), json!(0.5)]
    );
    assert_eq!(
        of(row(failures, "step", "other"), ["failures", "of_them_final", "share"]),
        [json!(1), json!(1), json!(1.0)]
    );
    assert_eq!(
        of(row(failures, "step", "(the session)"), ["code", "last_message"]),
        [json!("gave_up"), json!("gave_up")]
    );
    // An unknown outcome is an attempt, too: the share was null without one that ended, and above 1 with several.
    assert_eq!(
        of(row(failures, "code", "socket_closed"), ["step", "failures", "of_them_final", "share"]),
        [json!("charge"), json!(1), json!(0), json!(0.5)]
    );

    let ended = &report["sessions"];
    assert_eq!(of(row(ended, "status", "failed"), ["sessions"]), [json!(1)]);
    let archive = scene.engine.archive();
    let counted =
        ask_one(&archive, &format!("SELECT count(*) FROM events WHERE session_id = '{}'", scene.session));
    assert_eq!(counted, json!(engine_events.len()), "DuckDB counts as many events as the engine");
    let own =
        format!("SELECT events, wasted_tokens, cost_nanos FROM sessions WHERE session_id = '{}'", scene.fork);
    assert_eq!(
        ask(&archive, &own),
        [json!({"events": 4, "wasted_tokens": 0, "cost_nanos": 0})],
        "only its own"
    );
    drop(scene.worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_says_what_it_cannot_do_and_runs_queries_of_ones_own() {
    let engine = engine().await;
    let nowhere = engine.compactor(&["report"]).await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("no archive"), "{nowhere:?}");
    engine.compactor(&RUN).await.ok();
    let empty = engine.compactor(&["report", "--json"]).await.json();
    assert_eq!(empty["queries"]["cost"], json!([]), "an archive without rows has answers");
    let shown = engine.compactor(&["report"]).await.ok();
    assert!(shown.contains("Cost of wasted work"), "{shown}");
    let unknown = engine.compactor(&["report", "coast"]).await;
    assert!(unknown.stderr.contains("cache_hits"), "it names those that there are: {unknown:?}");
    let without = engine.compactor(&["report", "--duckdb", "/nowhere/duckdb"]).await;
    assert!(without.code == Some(1) && without.stderr.contains("install"), "{without:?}");

    let mine = engine.data().with_file_name("mine.sql");
    std::fs::write(&mine, "-- Mine.\nSELECT count(*) AS n FROM messages;\n").unwrap();
    let answered = engine.compactor(&["report", "--json", mine.to_str().unwrap()]).await.json();
    assert_eq!(answered["queries"]["mine"], json!([{"n": 0}]));
    std::fs::write(&mine, "SELECT nothing FROM nowhere;").unwrap();
    let refused = engine.compactor(&["report", mine.to_str().unwrap()]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("nowhere"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_pyarrow_and_polars_read_every_file_alike() {
    let scene = Scene::start().await;
    let mut recorded = events::all(&scene.client, &scene.session).await.len();
    recorded += events::all(&scene.client, &scene.fork).await.len() - FORKED_AT as usize;
    let large = scene.worker.begin("large").await;
    for op in [completed("one", payload::noise_literal(600_000)), done()] {
        scene.worker.append(&large, 1, op).await.expect("the run may append");
    }
    recorded += events::all(&scene.client, &large).await.len();
    scene.reported(&RUN).await.ok();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/read_archive.py");
    let python =
        std::env::var_os("CELLAFLOW_PYTHON").expect("`source scripts/env` says which Python has the readers");
    let output = std::process::Command::new(python).arg(script).arg(scene.engine.archive()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        read["tables"]["events"],
        json!(recorded),
        "as many events as the engine has, in every reader"
    );
    assert_eq!(read["tables"]["sessions"], json!(3));
    assert_eq!(read["tables"]["llm_calls"], json!(5));
    assert_eq!(read["tables"]["payloads"], json!(3), "600,000 bytes in chunks of 256 KiB");
}

/// Ends sessions of five events each; returns how many events that are.
async fn sessions(worker: &Worker, count: usize) -> usize {
    for n in 0..count {
        let session = worker.begin(&format!("key-{n}")).await;
        for op in
            [completed("one", payload::noise_literal(2_000)), completed("two", payload::literal("2")), done()]
        {
            worker.append(&session, 1, op).await.expect("the run may append");
        }
    }
    count * EVENTS
}

const EVENTS: usize = 5;

/// Sessions that are seen, and whether each is whole: all tables as of one moment.
const WHOLE: &str =
    "SELECT count(*) AS sessions, coalesce(bool_and(there = events AND there = last_seq), true) AS whole,
    (SELECT count(*) FROM llm_calls) AS calls
  FROM sessions LEFT JOIN (SELECT session_id, count(*) AS there FROM events GROUP BY ALL) USING (session_id)";

fn seen(archive: &Path) -> u64 {
    let rows = ask(archive, WHOLE);
    assert_eq!(rows[0]["whole"], json!(true), "{rows:?}");
    rows[0]["sessions"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_loops_while_it_is_archived_sees_whole_sessions_only() {
    let engine = engine().await;
    let worker = Worker::connect(&engine.client().await).await;
    engine.compactor(&RUN).await.ok();
    let archive = engine.archive();
    assert_eq!(seen(&archive), 0);
    let count = 600;
    let events = sessions(&worker, count).await;
    let mut compactor = engine.compactor_in_background(&RUN, &[]);
    let (mut last, mut looked) = (0, 0);
    loop {
        let ended = compactor.try_wait().unwrap();
        let now = tokio::task::block_in_place(|| seen(&archive));
        assert!(now >= last, "{now} sessions after {last}");
        (last, looked) = (now, looked + 1);
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
    }
    assert!(looked > 1, "it was read while it was written");
    assert_eq!(last, count as u64);
    assert_eq!(ask_one(&archive, "SELECT count(*) FROM events"), json!(events));
    assert_eq!(ask_one(&archive, "SELECT count(DISTINCT (session_id, seq)) FROM events"), json!(events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_and_not_committed_is_not_seen() {
    let engine = engine().await;
    let worker = Worker::connect(&engine.client().await).await;
    sessions(&worker, 3).await;
    let archive = engine.archive();
    for arrow in ["written", "verified", "committed", "published"] {
        let go = engine.data().with_file_name(format!("go-{arrow}"));
        let env = [("CELLAFLOW_COMPACTOR_BREAK", arrow), ("CELLAFLOW_COMPACTOR_GO", go.to_str().unwrap())];
        let mut stopped = engine.compactor_in_background(&[&RUN[..], &["--claim-ms", "1000"]].concat(), &env);
        let reached = go.with_extension("reached");
        wait::until("the compactor is at its arrow", async || reached.exists().then_some(())).await;
        assert_eq!(seen(&archive), if arrow == "published" { 3 } else { 0 }, "at {arrow}");
        if matches!(arrow, "committed" | "published") {
            std::fs::write(&go, "").unwrap();
            assert!(wait::within("its end", stopped.wait()).await.unwrap().success());
            assert_eq!(seen(&archive), 3);
            return;
        }
        stopped.kill().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_about_in_the_archive_changes_nothing() {
    let engine = engine().await;
    let worker = Worker::connect(&engine.client().await).await;
    let session =
        worker.start(v1::StartSessionRequest { workflow: "a b/ü=[*]'".into(), ..start("odd") }).await;
    let session = session.expect("any name will do").session.unwrap().session_id;
    worker.append(&session, 1, done()).await.unwrap();
    sessions(&worker, 2).await;
    engine.compactor(&RUN).await.ok();
    let archive = engine.archive();
    let half = std::fs::read(archive.join("schema/events.parquet")).unwrap();
    for folder in ["data/ns=default/dt=2026-01-01/workflow=test", "data/ns=default", "manifests/ns=default"] {
        std::fs::create_dir_all(archive.join(folder)).unwrap();
        std::fs::write(archive.join(folder).join("events-half-1-0000.parquet"), &half[..half.len() / 2])
            .unwrap();
        std::fs::write(archive.join(folder).join("events-whole-1-0000.parquet"), &half).unwrap();
    }
    assert_eq!(seen(&archive), 3);
    assert_eq!(ask_one(&archive, "SELECT workflow FROM sessions WHERE key = 'odd'"), json!("a b/ü=[*]'"));
    let above =
        duckdb::run(archive.parent().unwrap(), "archive/cellaflow.sql", "SELECT count(*) AS n FROM sessions");
    assert_eq!(String::from_utf8(above.stdout).unwrap().trim(), "[{\"n\":3}]", "from the folder above, too");
    let none = engine.compactor(&["report", "--json", "--namespace", "other", "sessions"]).await.json();
    assert_eq!(none["queries"]["sessions"], json!([]), "another namespace's sessions");
}

fn start(key: &str) -> v1::StartSessionRequest {
    cellaflow_tests::channel::start(key)
}
