//! The command line of `import`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Named, Prices, digest, request};
use crate::connection;
use crate::transcripts::{self, Format, Transcript};

/// Bytes of a file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Bad lines of a file that are named.
const NAMED_LINES_MAX: usize = 20;

/// Imports transcripts of agents as sessions that have ended: messages, tool calls with resources, usage, times
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A transcript is known by its own id, or by its content if it has none: importing it again adds nothing. Costs come from
the SDK's price list, or from the file that CELLAFLOW_PRICES names; a model that is in neither has none.

Examples:
  cellaflow-compactor import --format claude-code ~/.claude/projects/*/*.jsonl
  cellaflow-compactor import --format openai-chat --workflow support --skip-bad runs.json --json")]
pub struct Args {
    #[command(flatten)]
    engine: connection::Options,
    /// Program that wrote the files; told by their first lines if it is not given
    #[arg(long, value_name = "FORMAT", value_parser = ["claude-code", "openai-chat", "swe-agent", "pi"])]
    format: Option<String>,
    /// Workflow of the sessions; the name of the format if it is not given
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Leaves out lines that cannot be read, instead of their whole file
    #[arg(long)]
    skip_bad: bool,
    /// Imports a transcript that was imported with other content once more, as a session of its own
    #[arg(long)]
    as_new: bool,
    /// Price list in the SDK's format
    #[arg(long, value_name = "FILE", env = "CELLAFLOW_PRICES")]
    prices: Option<PathBuf>,
    /// Prints the summary as JSON
    #[arg(long)]
    json: bool,
    /// Files to import
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Why nothing was imported, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no engine.
    #[error(transparent)]
    Connection(#[from] connection::Error),
    /// The price list.
    #[error("the price list {0} cannot be read: {1}")]
    Prices(PathBuf, String),
    /// Some files.
    #[error("{0} problems; what is not named was imported")]
    Problems(usize),
    /// Standard output.
    #[error("cannot write the summary: {0}")]
    Write(#[from] std::io::Error),
}

/// What an import came to.
#[derive(Debug, Default)]
struct Summary {
    files: u64,
    created: u64,
    known: u64,
    events: u64,
    skipped_lines: u64,
    problems: Vec<String>,
}

/// Imports the files and prints what came of it.
///
/// # Errors
/// See `Error`; what could be imported was.
pub async fn run(args: &Args) -> Result<(), Error> {
    let prices = match &args.prices {
        Some(path) => read_prices(path)?,
        None => Prices::shipped(),
    };
    let mut importing = Importing {
        args,
        prices,
        engine: connection::archive(connection::channel(&args.engine).await?),
        summary: Summary::default(),
    };
    let progress = progress(args);
    for path in &args.files {
        progress.set_message(path.display().to_string());
        importing.file(path).await;
        progress.inc(1);
    }
    progress.finish_and_clear();
    importing.say()
}

fn read_prices(path: &Path) -> Result<Prices, Error> {
    let unreadable = |problem: String| Error::Prices(path.to_owned(), problem);
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Prices::read(&text).map_err(|error| unreadable(error.to_string()))
}

fn progress(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{pos}/{len} files {wide_bar} {msg}");
    ProgressBar::new(args.files.len() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Importing<'a> {
    args: &'a Args,
    prices: Prices,
    engine: connection::Archive,
    summary: Summary,
}

impl Importing<'_> {
    async fn file(&mut self, path: &Path) {
        self.summary.files += 1;
        let (format, transcripts, modified_ms) = match self.read(path) {
            Ok(read) => read,
            Err(problem) => return self.problem(path, &problem),
        };
        let bad: Vec<_> = transcripts.iter().flat_map(|transcript| &transcript.bad).collect();
        for line in bad.iter().take(NAMED_LINES_MAX) {
            let verb = if self.args.skip_bad { "skipped" } else { "bad" };
            tracing::warn!(file = %path.display(), line = line.line, reason = line.reason, "{verb} line");
        }
        if let Some(first) = bad.first().filter(|_| !self.args.skip_bad) {
            let problem = format!(
                "{} lines cannot be read, the first is line {} ({}): give --skip-bad to import the others",
                bad.len(),
                first.line,
                first.reason
            );
            return self.problem(path, &problem);
        }
        self.summary.skipped_lines += bad.len() as u64;
        for transcript in &transcripts {
            if let Err(problem) = self.transcript(format, transcript, modified_ms).await {
                self.problem(path, &format!("transcript {}: {problem}", transcript.id));
            }
        }
        tracing::info!(file = %path.display(), transcripts = transcripts.len(), "imported");
    }

    fn problem(&mut self, path: &Path, problem: &str) {
        self.summary.problems.push(format!("{}: {problem}", path.display()));
    }

    fn read(&self, path: &Path) -> Result<(Format, Vec<Transcript>, u64), String> {
        let about = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
        if about.len() > FILE_BYTES_MAX {
            return Err(format!("has {} bytes and may have {FILE_BYTES_MAX}: split it", about.len()));
        }
        let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let format = match &self.args.format {
            Some(name) => Format::named(name),
            None => transcripts::detect(&text),
        };
        let format = format.ok_or_else(|| transcripts::Error::Unknown.to_string())?;
        let found = transcripts::parse(format, &text).map_err(|error| error.to_string())?;
        let modified = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok((format, found, modified.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))))
    }

    async fn transcript(&mut self, format: Format, transcript: &Transcript, ms: u64) -> Result<(), String> {
        let digest = digest(transcript);
        // Only these two have ids that mean this run and no other.
        let own = matches!(format, Format::ClaudeCode | Format::Pi) && !transcript.id.is_empty();
        let key = if own { transcript.id.clone() } else { digest.clone() };
        let named = |key| Named {
            namespace: self.args.engine.namespace.clone(),
            workflow: self.args.workflow.clone().unwrap_or_else(|| format.name().to_owned()),
            key,
            fallback_ms: ms,
        };
        let sent = request(format, transcript, named(key), &self.prices);
        let again = named(format!("{}@{digest}", transcript.id));
        let imported = match self.engine.import_session(sent).await {
            Err(status) if self.args.as_new && is_other_content(status.message()) => {
                self.engine.import_session(request(format, transcript, again, &self.prices)).await
            }
            answered => answered,
        };
        let imported = imported.map_err(|status| said(status.message()))?.into_inner();
        if imported.created {
            self.summary.created += 1;
            self.summary.events += imported.events;
        } else {
            self.summary.known += 1;
        }
        Ok(())
    }

    fn say(self) -> Result<(), Error> {
        let Summary { files, created, known, events, skipped_lines, problems } = self.summary;
        let mut out = std::io::stdout().lock();
        if self.args.json {
            let shown = serde_json::json!({
                "files": files, "created": created, "known": known, "events": events,
                "skipped_lines": skipped_lines, "problems": problems,
            });
            writeln!(out, "{shown}")?;
        } else {
            for problem in &problems {
                writeln!(out, "not imported: {problem}")?;
            }
            writeln!(
                out,
                "imported {created} sessions with {events} events from {files} files; {known} were there before, {skipped_lines} lines skipped"
            )?;
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Problems(problems.len())) }
    }
}

fn is_other_content(message: &str) -> bool {
    message.starts_with("key_conflict")
}

fn said(message: &str) -> String {
    if is_other_content(message) {
        let grown = "it was imported before with other content (it has gone on, or another one has its id)";
        return format!("{grown}: give --as-new to import it as a session of its own");
    }
    message.to_owned()
}
