//! Transcripts of agents, as other programs wrote them, parsed into one typed form.
//!
//! Owned: the formats `claude-code`, `openai-chat`, `swe-agent` and `pi`, and the map from the tools that those agents
//! have to the resources their calls touch. Never: files, clocks, or what is done with a transcript.
//!
//! T1. Parsing is pure: the same bytes give the same transcript.
//! T2. A line that cannot be read is named by its number and skipped; it never ends the parse and is never guessed at.
//! T3. Message text is kept as it was written; cleaning is the reader's.

mod claude_code;
mod openai_chat;
mod pi;
mod resources;
mod shell;
mod swe_agent;
#[cfg(test)]
mod tests;
mod value;

pub use crate::ccs::resource::{Mode, Range, Resource};

/// The program that wrote a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    ClaudeCode,
    OpenaiChat,
    SweAgent,
    Pi,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::ClaudeCode, Self::OpenaiChat, Self::SweAgent, Self::Pi];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::OpenaiChat => "openai-chat",
            Self::SweAgent => "swe-agent",
            Self::Pi => "pi",
        }
    }

    /// The format with this command-line name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// One run of an agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcript {
    /// The run's own id where the format has one, else the position in its file.
    pub id: String,
    pub events: Vec<Event>,
    /// Calls of the model in order; `Event::call` points here.
    pub calls: Vec<Call>,
    pub bad: Vec<BadLine>,
}

/// A part of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Unix time in milliseconds, where the format tells.
    pub at_ms: Option<i64>,
    /// The call of the model that wrote this part; none for what the model was sent.
    pub call: Option<usize>,
    pub part: Part,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The base prompt and demonstrations: part of every request, not of the history.
    System(String),
    /// What the person wrote.
    User(String),
    /// What the agent's program put in the user's place: reminders, notices, summaries.
    Notice(String),
    Assistant(String),
    Reasoning(String),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Pairs the call with its result.
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
    pub resources: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    pub id: String,
    pub text: String,
    /// Absent where the format does not tell.
    pub failed: Option<bool>,
}

/// One call of the model, as the provider counted it, in tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Call {
    pub at_ms: Option<i64>,
    pub model: String,
    /// Absent where the format does not tell.
    pub usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Neither read from the cache nor written to it.
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    /// All that was sent.
    #[must_use]
    pub fn prompt_tokens(self) -> u64 {
        self.input_tokens + self.cached_tokens + self.cache_write_tokens
    }
}

/// A line or record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// 1-based; in a JSON file of several runs, the run's place.
    pub line: usize,
    pub reason: String,
}

/// Why a whole file is no transcript.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a transcript of a known format; name it with --format claude-code|openai-chat|swe-agent|pi")]
    Unknown,
    #[error("not JSON ({0}); check that the file is whole")]
    Json(String),
    #[error("no `{0}` found; check that --format fits the file")]
    Missing(&'static str),
}

/// The format of a file, told by its first records.
#[must_use]
pub fn detect(text: &str) -> Option<Format> {
    let first = text.lines().filter(|l| !l.trim().is_empty()).take(20);
    for line in first {
        let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        match value::str(&record, "type") {
            Some("session" | "model_change" | "thinking_level_change") => return Some(Format::Pi),
            Some("message") if record.get("message").is_some() => return Some(Format::Pi),
            Some(_) if record.get("sessionId").is_some() || record.get("messageId").is_some() => {
                return Some(Format::ClaudeCode);
            }
            Some("summary") if record.get("leafUuid").is_some() => return Some(Format::ClaudeCode),
            _ => {}
        }
        if record.get("messages").is_some() {
            return Some(Format::OpenaiChat);
        }
    }
    let whole: serde_json::Value = serde_json::from_str(text).ok()?;
    if whole.get("history").is_some() {
        return Some(Format::SweAgent);
    }
    openai_chat::fits(&whole).then_some(Format::OpenaiChat)
}

/// Parses a file into its runs: one for the JSONL formats, possibly several for chats.
pub fn parse(format: Format, text: &str) -> Result<Vec<Transcript>, Error> {
    match format {
        Format::ClaudeCode => claude_code::parse(text).map(|t| vec![t]),
        Format::OpenaiChat => openai_chat::parse(text),
        Format::SweAgent => swe_agent::parse(text).map(|t| vec![t]),
        Format::Pi => pi::parse(text).map(|t| vec![t]),
    }
}
