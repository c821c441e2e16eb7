//! `cellaflow sessions events`: what is recorded, page by page, never all at once in memory.

use cellaflow_proto::v1::StreamReset;
use clap::Args;

use crate::cli::client::{self, Engine};
use crate::cli::feed::{Feed, Item, Wanted};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::streamed::Tokens;
use crate::cli::{event_line, json, lookup, refusal, table};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions events 334455
  cellaflow sessions events audit/report-7 --from 40 --limit 20
  cellaflow sessions events 334455 --json | jq '.step_completed.output.value | values'

With --json: one event per line, with the field names of cellaflow.v1.Event; \"type\" says which
body it has. A payload is {\"format\", \"codec\", \"size_bytes\", \"digest\"} and \"value\" if its bytes can
be read as JSON; what JSON lacks is shown in its nearest form (a Date as text, a Map as pairs).";

#[derive(Args)]
pub(in crate::cli) struct Events {
    #[command(flatten)]
    target: Target,
    /// First event
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// Events printed at most [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Leaves payload bytes out; their digests and sizes remain
    #[arg(long)]
    headers: bool,
    /// Prints one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Events {
    pub(super) fn run(self) -> Result<String, Failure> {
        client::block_on(self.print()).map(|()| String::new())
    }

    async fn print(&self) -> Result<(), Failure> {
        let engine = Engine::find(&self.engine).await?;
        let found = self.target.find(&engine).await?;
        let wanted = Wanted {
            session_id: found.session.session_id,
            from_seq: self.from.max(1),
            until_caught_up: true,
            headers_only: self.headers,
            tokens: None,
        };
        let failed = |status: tonic::Status| refusal::failure(&status);
        let mut feed = Feed::open(&engine, wanted).await.map_err(failed)?;
        let mut printer = Printer::new(self.json);
        let mut left = self.limit.unwrap_or(u64::MAX);
        while left > 0 {
            match feed.next().await.map_err(failed)? {
                Item::Event(event) => printer.print(&event)?,
                Item::CaughtUp | Item::Tokens(_) | Item::Reset(_) => continue,
                Item::End(_) => break,
                Item::Cut => {
                    return Err(Failure::unavailable(format!(
                        "the engine ended the answer early: go on with --from {}",
                        printer.next_seq.max(self.from)
                    )));
                }
            }
            left -= 1;
        }
        Ok(())
    }
}

/// Prints events as they come, under one header.
pub(super) struct Printer {
    json: bool,
    columns: Option<u16>,
    /// Seq after the last event printed; 0: none was.
    pub(super) next_seq: u64,
    /// The zone whose text the cursor stands behind.
    within: Option<String>,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, columns: table::columns(), next_seq: 0, within: None }
    }

    /// Prints what a zone streamed: as it is, or as `{"type": "tokens", …}`.
    pub(super) fn tokens(&mut self, tokens: &Tokens) -> Result<(), Failure> {
        let Tokens { zone_key, attempt, byte, text } = tokens;
        if self.json {
            let line = serde_json::json!({
                "type": "tokens", "zone_key": zone_key, "attempt": attempt, "byte": byte, "text": text,
            });
            return output::print(&line.to_string());
        }
        if self.within.as_ref() != Some(zone_key) {
            self.leave()?;
            output::print(&format!("       {zone_key}:"))?;
            self.within = Some(zone_key.clone());
        }
        output::print_part(&output::printable(text))
    }

    /// Prints that what was shown of a zone is void.
    pub(super) fn reset(&mut self, reset: &StreamReset) -> Result<(), Failure> {
        let StreamReset { zone_key, attempt } = reset;
        if self.json {
            let line = serde_json::json!({ "type": "reset", "zone_key": zone_key, "attempt": attempt });
            return output::print(&line.to_string());
        }
        self.leave()?;
        output::print(&format!("       {zone_key}: void, attempt {attempt} follows if any does"))
    }

    /// Ends the line of streamed text.
    pub(super) fn leave(&mut self) -> Result<(), Failure> {
        if self.within.take().is_some() { output::print("\n") } else { Ok(()) }
    }

    pub(super) fn print(&mut self, event: &cellaflow_proto::v1::Event) -> Result<(), Failure> {
        if self.json {
            output::print(&json::of(event).to_string())?;
        } else {
            self.leave()?;
            if self.next_seq == 0 {
                output::print(&event_line::header())?;
            }
            output::print(&event_line::line(event, self.columns))?;
        }
        self.next_seq = event.seq + 1;
        Ok(())
    }
}
