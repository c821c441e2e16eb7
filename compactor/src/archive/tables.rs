//! The tables of the archive and their columns.
//!
//! Ids are UUIDs as text, hashes and digests are bytes, times are UTC timestamps in milliseconds, money is in
//! nano-dollars (1e-9 USD). A column without a value is null, never zero. All files of a table have the same columns, in
//! this order, sorted by (`lineage_id`, `session_id`, …).
//!
//! * `sessions`: a session, once. Its sums are its own: what a fork has from its parent is counted there.
//! * `events`: an event, once; of a step of `ctx.context`, `detail` says in JSON what the prompt was made of. `raw` is the stored record: header length (4 bytes, big-endian), header
//!   (`cellaflow.disk.v1.EventHeader`, what the hash chain covers), inline payloads in the header's order.
//! * `llm_calls`: a model call that was paid: in a completed or failed attempt, or inside a zone.
//! * `messages`: a part of a message, in order: what a request added to the one it builds on, the answer, and what was
//!   added to the conversation. Text that repeats an earlier one is filled in where it is at hand; `same_as_seq` and
//!   `same_as_text` name it in any case (`text_seq`, `text_index` of the other row).
//! * `payloads`: parts of payloads that are too large to lie in `raw`.
//!
//! Wasted is what was paid for work that is not in the result: calls of failed attempts, and what a zone had streamed
//! when it was rolled back (tokens estimated by the engine, without a price). Saved by replay is what a run took from
//! the ledger when another worker went on with it, or a fork began in the middle: the tokens and cost that were spent
//! up to there, and would have been spent again.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// See the module.
    Sessions,
    /// See the module.
    Events,
    /// See the module.
    LlmCalls,
    /// See the module.
    Messages,
    /// See the module.
    Payloads,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// 64 bits, signed.
    Int,
    /// True or false.
    Flag,
    /// Bytes.
    Bytes,
    /// Milliseconds since the Unix epoch, UTC.
    Time,
}

use Kind::{Bytes, Flag, Int, Text, Time};

type Columns = &'static [(&'static str, Kind)];

const SESSIONS: Columns = &[
    ("lineage_id", Text),
    ("session_id", Text),
    ("namespace", Text),
    ("workflow", Text),
    ("version", Text),
    ("key", Text),
    ("generation", Int),
    ("status", Text),
    ("started_at", Time),
    ("ended_at", Time),
    ("duration_ms", Int),
    ("root_id", Text),
    ("parent_id", Text),
    ("top_id", Text),
    ("forked_from_session", Text),
    ("forked_from_seq", Int),
    ("continued_from", Text),
    ("continued_to", Text),
    ("labels", Text),
    ("first_seq", Int),
    ("last_seq", Int),
    ("last_hash", Bytes),
    ("events", Int),
    ("steps", Int),
    ("failed_attempts", Int),
    ("unknown_effects", Int),
    ("llm_calls", Int),
    ("input_tokens", Int),
    ("cached_read_tokens", Int),
    ("cache_write_tokens", Int),
    ("output_tokens", Int),
    ("cost_nanos", Int),
    ("unpriced_calls", Int),
    ("wasted_tokens", Int),
    ("wasted_cost_nanos", Int),
    ("replays", Int),
    ("replay_saved_tokens", Int),
    ("replay_saved_cost_nanos", Int),
    ("failure_name", Text),
    ("failure_code", Text),
    ("failure_message", Text),
];

const EVENTS: Columns = &[
    ("lineage_id", Text),
    ("session_id", Text),
    ("seq", Int),
    ("workflow", Text),
    ("version", Text),
    ("time", Time),
    ("type", Text),
    ("author", Text),
    ("epoch", Int),
    ("step_key", Text),
    ("name", Text),
    ("attempt", Int),
    ("is_final", Flag),
    ("guarded", Flag),
    ("duration_us", Int),
    ("cost_nanos", Int),
    ("input_tokens", Int),
    ("cached_read_tokens", Int),
    ("cache_write_tokens", Int),
    ("output_tokens", Int),
    ("wasted_tokens", Int),
    ("wasted_cost_nanos", Int),
    ("replay_saved_tokens", Int),
    ("replay_saved_cost_nanos", Int),
    ("deduplicated_from_session", Text),
    ("deduplicated_from_seq", Int),
    ("resources", Text),
    ("detail", Text),
    ("error_name", Text),
    ("error_code", Text),
    ("error_message", Text),
    ("hash", Bytes),
    ("raw", Bytes),
];

const LLM_CALLS: Columns = &[
    ("lineage_id", Text),
    ("session_id", Text),
    ("seq", Int),
    ("call", Int),
    ("workflow", Text),
    ("version", Text),
    ("time", Time),
    ("step_key", Text),
    ("name", Text),
    ("attempt", Int),
    ("in_zone", Flag),
    ("provider", Text),
    ("model", Text),
    ("input_tokens", Int),
    ("cached_read_tokens", Int),
    ("cache_write_tokens", Int),
    ("output_tokens", Int),
    ("estimated", Flag),
    ("cost_nanos", Int),
    ("price_date", Text),
    ("wasted", Flag),
    ("duration_us", Int),
    ("finish_reason", Text),
    ("messages", Int),
];

const MESSAGES: Columns = &[
    ("lineage_id", Text),
    ("session_id", Text),
    ("seq", Int),
    ("source", Text),
    ("call", Int),
    ("position", Int),
    ("part", Int),
    ("workflow", Text),
    ("time", Time),
    ("role", Text),
    ("kind", Text),
    ("text", Text),
    ("tool_name", Text),
    ("tool_call_id", Text),
    ("tool_failed", Flag),
    ("media_type", Text),
    ("text_seq", Int),
    ("text_index", Int),
    ("same_as_seq", Int),
    ("same_as_text", Int),
];

const PAYLOADS: Columns = &[("lineage_id", Text), ("digest", Bytes), ("n", Int), ("data", Bytes)];

impl Table {
    /// All tables.
    pub const ALL: [Table; 5] =
        [Table::Sessions, Table::Events, Table::LlmCalls, Table::Messages, Table::Payloads];

    /// Its name, in manifests, file names and SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Table::Sessions => "sessions",
            Table::Events => "events",
            Table::LlmCalls => "llm_calls",
            Table::Messages => "messages",
            Table::Payloads => "payloads",
        }
    }

    /// Its columns.
    #[must_use]
    pub const fn columns(self) -> &'static [(&'static str, Kind)] {
        match self {
            Table::Sessions => SESSIONS,
            Table::Events => EVENTS,
            Table::LlmCalls => LLM_CALLS,
            Table::Messages => MESSAGES,
            Table::Payloads => PAYLOADS,
        }
    }

    /// How many leading columns its rows are sorted by.
    #[must_use]
    pub const fn sorted_by(self) -> usize {
        match self {
            Table::Sessions => 2,
            Table::Events => 3,
            Table::LlmCalls => 4,
            Table::Messages => 3,
            Table::Payloads => 1,
        }
    }

    /// Its columns as readers see them.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        let field = |(name, kind): &(&str, Kind)| Field::new(*name, kind.data_type(), true);
        Arc::new(Schema::new(self.columns().iter().map(field).collect::<Vec<_>>()))
    }

    /// The table called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

impl Kind {
    fn data_type(self) -> DataType {
        match self {
            Text => DataType::Utf8,
            Int => DataType::Int64,
            Flag => DataType::Boolean,
            Bytes => DataType::Binary,
            Time => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        }
    }
}
