//! The command line of `bench`.

use std::io::Write as _;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::ccs::Settings;

use super::{json_line, load, measure, table};

/// Measures compaction on transcripts: offline, without a model.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with transcripts, searched recursively; formats are detected
    dir: PathBuf,
    /// Print only the line of JSON, and no progress
    #[arg(long)]
    json: bool,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {0}: {1}; name a folder with transcripts")]
    Read(String, std::io::Error),
    #[error("no transcript found in {0}; known formats: claude-code, openai-chat, swe-agent, pi")]
    Empty(String),
    #[error("cannot write the report: {0}")]
    Write(#[from] std::io::Error),
}

/// Runs the measurements and prints them; the last line is JSON.
pub fn run(args: &Args) -> Result<(), Error> {
    let dir = args.dir.display().to_string();
    let loaded = load(&args.dir).map_err(|e| Error::Read(dir.clone(), e))?;
    if loaded.sessions.is_empty() {
        return Err(Error::Empty(dir));
    }
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(loaded.sessions.len() as u64) };
    let style = ProgressStyle::with_template("{pos}/{len} transcripts {wide_bar}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = measure(&loaded.sessions, &Settings::default(), &|done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if !args.json {
        for skipped in &loaded.skipped {
            writeln!(out, "skipped {skipped}")?;
        }
        writeln!(out, "{}", table(&report))?;
    }
    writeln!(out, "{}", json_line(&report))?;
    Ok(())
}
