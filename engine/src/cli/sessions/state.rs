//! `cellaflow sessions state`: what a session was at one of its events.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{self, Engine};
use crate::cli::history::{self, Outcomes, Projection};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::table::{self, Column};
use crate::cli::{format, lookup, payload};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions state 334455                     as of its last event
  cellaflow sessions state 334455 --at 12             as of event 12
  cellaflow sessions state 334455 --at 12 --json | jq .state

Shows the input, the variables (ctx.state), the conversation (ctx.messages) and the outcomes of
steps and zones, as its events say; what the code has kept since the event shows with the next one.
With --json: {\"session_id\", \"seq\", \"time_ms\", \"input\", \"state\", \"messages\", \"outcomes\"}.";

#[derive(Args)]
pub(in crate::cli) struct State {
    #[command(flatten)]
    target: Target,
    /// Event up to which, and with, it is shown [default: the last one]
    #[arg(long, value_name = "SEQ")]
    at: Option<u64>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// What was read.
#[derive(Default)]
struct Past {
    session_id: String,
    seq: u64,
    time_ms: u64,
    input: Option<v1::Payload>,
    projection: Projection,
    outcomes: Outcomes,
}

impl State {
    pub(super) fn run(self) -> Result<String, Failure> {
        let past = client::block_on(self.read())?;
        if self.json {
            return Ok(output::json(&past.json()));
        }
        Ok(past.page(table::columns()))
    }

    async fn read(&self) -> Result<Past, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session = self.target.find(&engine).await?.session;
        let to = self.at.unwrap_or(session.seq);
        if to == 0 || to > session.seq {
            return Err(Failure::usage(format!(
                "the session has events 1 to {}: name one of those",
                session.seq
            )));
        }
        let mut past = Past { session_id: session.session_id.clone(), ..Past::default() };
        history::each(&engine, &session.session_id, (1, to), |event| past.note(event)).await?;
        Ok(past)
    }
}

impl Past {
    fn note(&mut self, event: &v1::Event) {
        (self.seq, self.time_ms) = (event.seq, event.time_ms);
        if let Some(v1::event::Body::SessionStarted(started)) = &event.body {
            self.input.clone_from(&started.input);
        }
        self.projection.note(event);
        self.outcomes.note(event);
    }

    fn json(&self) -> Value {
        let outcomes: Vec<Value> =
            self.outcomes.list().into_iter().map(|(key, outcome)| outcome.json(key)).collect();
        json!({
            "session_id": self.session_id,
            "seq": self.seq,
            "time_ms": self.time_ms,
            "input": self.input.as_ref().map(payload::json),
            "state": self.projection.state(),
            "messages": self.projection.messages(),
            "outcomes": outcomes,
        })
    }

    fn page(&self, columns: Option<u16>) -> String {
        let facts = table::details(&[
            ("session", self.session_id.clone()),
            ("as of", format!("event {}, {} UTC", self.seq, format::time(self.time_ms))),
            ("input", self.input.as_ref().map_or_else(String::new, payload::preview)),
        ]);
        let sections = [facts, self.variables(columns), self.conversation(columns), self.steps(columns)];
        let shown: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
        shown.join("\n")
    }

    fn variables(&self, columns: Option<u16>) -> String {
        const HEADER: [(&str, Column); 2] = [("variable", Column::Whole), ("value", Column::Text)];
        let Value::Object(state) = self.projection.state() else { return String::new() };
        let rows: Vec<_> = state.into_iter().map(|(name, value)| vec![name, value.to_string()]).collect();
        if rows.is_empty() { String::new() } else { table::table(&HEADER, rows, columns) }
    }

    fn conversation(&self, columns: Option<u16>) -> String {
        const HEADER: [(&str, Column); 2] = [("message", Column::Whole), ("content", Column::Text)];
        let rows: Vec<_> = self.projection.lines().into_iter().map(|(role, text)| vec![role, text]).collect();
        if rows.is_empty() { String::new() } else { table::table(&HEADER, rows, columns) }
    }

    fn steps(&self, columns: Option<u16>) -> String {
        const HEADER: [(&str, Column); 3] =
            [("step", Column::Text), ("seq", Column::Number), ("outcome", Column::Text)];
        let rows: Vec<_> = self
            .outcomes
            .list()
            .into_iter()
            .map(|(key, outcome)| vec![key.clone(), outcome.seq.to_string(), outcome.preview.clone()])
            .collect();
        if rows.is_empty() { String::new() } else { table::table(&HEADER, rows, columns) }
    }
}
