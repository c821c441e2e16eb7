//! DuckDB as people use it: its command line over the views that lie beside an archive.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Returns DuckDB's command line: `CELLAFLOW_DUCKDB`, or the one on the PATH.
pub fn duckdb_binary() -> PathBuf {
    std::env::var_os("CELLAFLOW_DUCKDB").map_or_else(|| PathBuf::from("duckdb"), PathBuf::from)
}

/// Asks a question over the views of the archive in a folder, as somebody who stands in it.
///
/// # Panics
/// If DuckDB refuses.
pub fn ask(archive: &Path, sql: &str) -> Vec<Value> {
    let output = run(archive, "cellaflow.sql", sql);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("Error"), "DuckDB refused {sql}: {said}");
    let rows = String::from_utf8(output.stdout).unwrap();
    // Without rows it prints nothing, or an array that it does not close.
    if rows.trim().len() < 3 { Vec::new() } else { serde_json::from_str(&rows).unwrap() }
}

/// The only value of an answer.
///
/// # Panics
/// If DuckDB refuses, or answers with more.
pub fn ask_one(archive: &Path, sql: &str) -> Value {
    let rows = ask(archive, sql);
    let [Value::Object(row)] = &rows[..] else { panic!("{sql} gives one row, not {rows:?}") };
    assert_eq!(row.len(), 1, "{sql} gives one value, not {row:?}");
    row.values().next().unwrap().clone()
}

/// Runs DuckDB with views in a folder.
///
/// # Panics
/// If there is no DuckDB.
pub fn run(folder: &Path, views: &str, sql: &str) -> Output {
    let program = duckdb_binary();
    Command::new(&program)
        .args(["-init", views, "-json", "-c", sql])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "cannot run {}: {error}; `source scripts/env` finds it, `make setup` installs it",
                program.display()
            )
        })
}
