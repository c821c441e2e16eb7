//! Transcripts from a folder, as sessions that the compactor can fold.

use std::path::{Path, PathBuf};

use crate::ccs::{self, Body};
use crate::transcripts::{self, Format, Part, Transcript};

/// A session to measure.
#[derive(Debug, Clone)]
pub struct Session {
    pub format: Format,
    /// The file's name and, in files of several runs, the run.
    pub name: String,
    pub transcript: Transcript,
}

/// What a folder held.
#[derive(Debug, Default)]
pub struct Loaded {
    pub sessions: Vec<Session>,
    /// Files that are no transcripts, and lines that were skipped: what and why.
    pub skipped: Vec<String>,
}

/// Reads all transcripts under a folder, in the order of their paths.
pub fn load(dir: &Path) -> std::io::Result<Loaded> {
    let mut files = Vec::new();
    walk(dir, &mut files)?;
    files.sort();
    let mut out = Loaded::default();
    for path in files {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        let bytes = std::fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        let Some(format) = transcripts::detect(&text) else { continue };
        match transcripts::parse(format, &text) {
            Ok(runs) => {
                let many = runs.len() > 1;
                for (n, transcript) in runs.into_iter().enumerate() {
                    let name = if many { format!("{name}#{}", n + 1) } else { name.clone() };
                    out.skipped
                        .extend(transcript.bad.iter().map(|b| format!("{name}:{}: {}", b.line, b.reason)));
                    out.sessions.push(Session { format, name, transcript });
                }
            }
            Err(e) => out.skipped.push(format!("{name}: {e}")),
        }
    }
    Ok(out)
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), out)?;
        } else {
            out.push(entry.path());
        }
    }
    Ok(())
}

/// The history of a session as ledger events, numbered from 1; the base prompt is not part of it. Beside each, the
/// transcript's event it came from.
#[must_use]
pub fn events(transcript: &Transcript) -> Vec<(usize, ccs::Event)> {
    let mut out = Vec::new();
    for (at, event) in transcript.events.iter().enumerate() {
        let body = match &event.part {
            Part::System(_) => continue,
            Part::User(text) => Body::User(text.clone().into_bytes()),
            Part::Notice(text) => Body::Notice(text.clone().into_bytes()),
            Part::Assistant(text) | Part::Reasoning(text) if text.trim().is_empty() => continue,
            Part::Assistant(text) => Body::Assistant(text.clone().into_bytes()),
            Part::Reasoning(text) => Body::Reasoning(text.clone().into_bytes()),
            Part::ToolCall(call) => Body::Call(ccs::Call {
                id: call.id.clone(),
                tool: call.name.clone(),
                arguments: call.arguments.clone().into_bytes(),
                resources: call.resources.clone(),
            }),
            Part::ToolResult(result) => Body::Result(ccs::Outcome {
                call: result.id.clone(),
                content: result.text.clone().into_bytes(),
                failed: result.failed,
            }),
        };
        out.push((at, ccs::Event { seq: out.len() as u64 + 1, body }));
    }
    out
}
