//! The command line of `report`.

use std::io::Write as _;
use std::path::PathBuf;

use super::{Answer, DuckDb, Error, READY};
use crate::archive::tables::Table;

/// Prints what sessions cost, from the archive, through DuckDB
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Queries: sessions, cost, cache_hits, contexts, wasted, replay, steps, failures; or a file of yours with one statement
over the views sessions, events, llm_calls, messages and payloads (their columns: DESCRIBE sessions, in DuckDB).

Examples:
  cellaflow-compactor report --archive ./archive
  cellaflow-compactor report cost wasted --json
  duckdb -init archive/cellaflow.sql        the same views, by hand")]
pub struct Args {
    /// Queries to run, by name or file; all ready ones if none is named
    #[arg(value_name = "QUERY")]
    queries: Vec<String>,
    /// Folder or s3://bucket/prefix of the archive
    #[arg(long, value_name = "PATH|URL", env = "CELLAFLOW_ARCHIVE", default_value = "archive")]
    archive: String,
    /// Only what this namespace archived
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// DuckDB's command line
    #[arg(long, value_name = "PATH", env = "CELLAFLOW_DUCKDB", default_value = "duckdb")]
    duckdb: PathBuf,
    /// Prints one JSON object: each query's rows by its name, and how long it took
    #[arg(long)]
    json: bool,
}

/// Runs the queries and prints their answers.
///
/// # Errors
/// See `Error`.
pub async fn run(args: &Args) -> Result<(), Error> {
    let asked = super::queries(&args.queries)?;
    let tables = if asked.iter().all(|query| query.ready) { READY } else { &Table::ALL };
    let local = super::local(&args.archive, tables).await?;
    let duckdb = DuckDb::find(&args.duckdb, &local.folder, args.namespace.clone())?;
    let mut out = std::io::stdout().lock();
    if !args.json {
        return super::run(&duckdb, asked, false, &mut |answer| Ok(show(&mut out, &answer)?));
    }
    let (mut rows, mut took) = (serde_json::Map::new(), serde_json::Map::new());
    super::run(&duckdb, asked, true, &mut |answer| {
        let Answer { asked, text, took: after } = answer;
        let answered: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| Error::Answer { query: asked.name.clone(), problem: error.to_string() })?;
        took.insert(asked.name.clone(), u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into());
        rows.insert(asked.name, answered);
        Ok(())
    })?;
    writeln!(out, "{}", serde_json::json!({"archive": args.archive, "queries": rows, "took_ms": took}))?;
    Ok(())
}

fn show(out: &mut impl std::io::Write, answer: &Answer) -> std::io::Result<()> {
    let nothing = if answer.text.is_empty() { "(nothing)" } else { "" };
    writeln!(out, "{} ({}.sql)\n{}{nothing}\n", answer.asked.title, answer.asked.name, answer.text)
}
