//! The archive, measured from outside: a ledger is filled with sessions over several segments, nine of ten of them,
//! drawn at random, are archived, and the files are asked.
//!
//! Owns the shape of the data and how often things are looked at. Never judges a figure.
//!
//! * `events_per_s`, `mb_per_s`: from the compactor's start to its end, listing and verifying included; bytes are those of
//!   stored events and of payloads beside them.
//! * `parquet_bytes_per_event`: all tables, raw events and readable columns. `jsonl_zstd_bytes_per_event`: the same rows
//!   as JSON lines, bytes in base64, compressed by zstd.
//! * `slowest_query_ms`: of the report's queries, DuckDB's start included.
//! * `compactor_rss_mb_max`: the most that the archiving process had resident, in MB (1e6 bytes).
//! * `disk_drop`: the share of the ledger's folder that was given back after nine of ten sessions were archived.

mod programs;
mod random;
mod transcripts;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

pub use programs::Programs;
use programs::{Engine, bytes_below};
use transcripts::{EVENTS, Transcripts};

/// Segments over which the sessions are spread.
const SEGMENTS: u64 = 8;
/// Of hundred sessions, how many ended long ago.
const COLD_PERCENT: u64 = 90;
/// What is archived ended at least this long ago.
const DAY_MS: u64 = 86_400_000;
/// Most sessions on one command line.
const FILES_MAX: usize = 500;
/// How long the ledger's folder must not have changed to count as settled, and how long that is waited for. The engine
/// looks for space to give back once a minute.
const SETTLED: Duration = Duration::from_secs(130);
const SETTLING_MAX: Duration = Duration::from_secs(15 * 60);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events to archive.
    pub events: u64,
    /// The programs.
    pub programs: Programs,
    /// Waits for space to be given back; else `disk_drop` is null.
    pub reclaim: bool,
}

/// The figures, in the order in which they are printed.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    events: u64,
    events_per_s: f64,
    compactor_rss_mb_max: f64,
    parquet_bytes_per_event: f64,
    jsonl_zstd_bytes_per_event: f64,
    slowest_query_ms: u64,
    disk_drop: Option<f64>,
    mb_per_s: f64,
    raw_bytes_per_event: f64,
    sessions: u64,
    query_ms: Value,
}

/// Measures in a folder; says what it does on standard error.
///
/// # Panics
/// If a program fails, or events are lost.
#[must_use]
pub fn measure(folder: &Path, options: &Options) -> Figures {
    let programs = &options.programs;
    let mut engine = Engine::start(programs, folder);
    let filled = fill(folder, options, &mut engine);
    // Closed a whole segment ago: its space may be given back.
    engine.skip(3);
    let ledger = folder.join(".cellaflow/ledger");
    let before = settled(&ledger, Duration::from_secs(5));
    say(&format!("{} events imported; the ledger has {} MB", filled.events, before / 1_000_000));

    let day = DAY_MS.to_string();
    let run = programs.compactor(folder, &["run", "--once", "--json", "--ended-before-ms", &day]);
    let summary: Value = serde_json::from_str(run.said.trim()).expect("a summary");
    let (events, sessions) = (number(&summary["events"]), number(&summary["sessions"]));
    assert_eq!(
        (sessions, events),
        (filled.cold, filled.cold * EVENTS as u64),
        "all that is cold is archived"
    );
    let seconds = run.took.as_secs_f64();
    say(&format!("{events} events archived in {seconds:.1} s"));

    let archive = folder.join("archive");
    let counted = &programs.ask(&archive, COUNT)[0];
    assert_eq!(number(&counted["events"]), events, "DuckDB counts them all");
    let raw_bytes = number(&counted["raw_bytes"]) as f64;
    let jsonl = jsonl_bytes(programs, &archive, folder) as f64;
    let report = programs.compactor(folder, &["report", "--json"]);
    let report: Value = serde_json::from_str(report.said.trim()).expect("a report");
    let queries = report["took_ms"].clone();
    say(&format!("queries, in ms: {queries}"));

    let drop = options.reclaim.then(|| {
        let after = settled(&ledger, SETTLED);
        say(&format!("the ledger has {} MB", after / 1_000_000));
        1.0 - after as f64 / before as f64
    });
    let slowest = queries.as_object().into_iter().flat_map(|all| all.values()).map(number).max();
    Figures {
        events,
        events_per_s: (events as f64 / seconds).round(),
        compactor_rss_mb_max: tenths(run.rss_mb_max),
        parquet_bytes_per_event: tenths(number(&summary["bytes"]) as f64 / events as f64),
        jsonl_zstd_bytes_per_event: tenths(jsonl / events as f64),
        slowest_query_ms: slowest.unwrap_or_default(),
        disk_drop: drop.map(|drop| (drop * 1_000.0).round() / 1_000.0),
        mb_per_s: tenths(raw_bytes / 1e6 / seconds),
        raw_bytes_per_event: tenths(raw_bytes / events as f64),
        sessions,
        query_ms: queries,
    }
}

struct Filled {
    events: u64,
    /// Sessions that ended long ago.
    cold: u64,
}

/// Imports transcripts, segment by segment, until so many events have ended long ago.
fn fill(folder: &Path, options: &Options, engine: &mut Engine) -> Filled {
    let wanted = options.events.div_ceil(EVENTS as u64);
    let mut transcripts = Transcripts::new(7);
    let mut filled = Filled { events: 0, cold: 0 };
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis();
    let now_ms = u64::try_from(now_ms).expect("a clock");
    let began = Instant::now();
    for segment in 1..=SEGMENTS {
        while filled.cold < wanted * segment / SEGMENTS {
            let inbox = tempfile::tempdir_in(folder).expect("the folder can be written to");
            let mut files: Vec<PathBuf> = Vec::new();
            while files.len() < FILES_MAX && filled.cold < wanted * segment / SEGMENTS {
                let cold = transcripts.chance(COLD_PERCENT);
                filled.cold += u64::from(cold);
                let file = inbox.path().join(format!("{}.jsonl", files.len()));
                let ended_ms = if cold { now_ms - 3 * DAY_MS } else { now_ms - 60_000 };
                transcripts.write(&file, ended_ms).expect("the folder can be written to");
                files.push(file);
            }
            let mut arguments = vec!["import", "--json", "--format", "claude-code", "--workflow", "coder"];
            arguments.extend(files.iter().map(|file| file.to_str().expect("a plain path")));
            let ran = options.programs.compactor(folder, &arguments);
            let summary: Value = serde_json::from_str(ran.said.trim()).expect("a summary");
            assert_eq!(number(&summary["created"]), files.len() as u64, "every transcript is new");
            filled.events += number(&summary["events"]);
        }
        say(&format!(
            "segment {segment} of {SEGMENTS}: {} events after {:?}",
            filled.events,
            began.elapsed()
        ));
        engine.skip(1);
    }
    filled
}

const COUNT: &str = "SELECT count(*) AS events,
    (sum(octet_length(raw)) + (SELECT coalesce(sum(octet_length(data)), 0) FROM payloads))::BIGINT AS raw_bytes FROM events";

/// Columns that hold bytes, by table.
const JSONL: [(&str, &str); 5] = [
    ("sessions", "* REPLACE (hex(last_hash) AS last_hash)"),
    ("events", "* REPLACE (hex(hash) AS hash, to_base64(raw) AS raw)"),
    ("llm_calls", "*"),
    ("messages", "*"),
    ("payloads", "* REPLACE (hex(digest) AS digest, to_base64(data) AS data)"),
];

fn jsonl_bytes(programs: &Programs, archive: &Path, folder: &Path) -> u64 {
    let file = folder.join("rows.jsonl.zst");
    let path = file.to_str().expect("a plain path").replace('\'', "''");
    let mut bytes = 0;
    for (table, columns) in JSONL {
        let sql = format!("COPY (SELECT {columns} FROM {table}) TO '{path}' (FORMAT json, COMPRESSION zstd)");
        drop(programs.ask(archive, &sql));
        bytes += std::fs::metadata(&file).map_or(0, |about| about.len());
        std::fs::remove_file(&file).expect("it was just written");
    }
    bytes
}

/// Bytes below a folder once they have not changed for a while, or at the end of patience.
fn settled(folder: &Path, still: Duration) -> u64 {
    let began = Instant::now();
    let (mut bytes, mut since) = (bytes_below(folder), Instant::now());
    while since.elapsed() < still && began.elapsed() < SETTLING_MAX {
        std::thread::sleep(Duration::from_secs(1));
        let now = bytes_below(folder);
        if now != bytes {
            (bytes, since) = (now, Instant::now());
        }
    }
    bytes
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|n| n as u64))
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

#[expect(clippy::print_stderr, reason = "a measurement of minutes says what it does")]
fn say(what: &str) {
    eprintln!("bench-archive: {what}");
}
