//! `cellaflow sessions show`: one session on one screen.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::{Value, json};

use super::divergence::{self, Divergence};
use super::{advice, list, waits};
use crate::cli::client::{self, Engine};
use crate::cli::feed::{Feed, Item, Wanted};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::{Found, Target};
use crate::cli::table::{self, Column};
use crate::cli::{event_line, format, json, lookup, payload, refusal};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions show 01935a2b-77f0-7abc-9def-001122334455
  cellaflow sessions show 334455                     by the end of its id
  cellaflow sessions show audit/report-7             by workflow and key
  cellaflow sessions show 334455 --json | jq .session.status

With --json: {\"session\", \"output\", \"failure\", \"events\"} and, for a session paused for one,
\"divergence\", with the field names of cellaflow.v1.";

#[derive(Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    target: Target,
    /// How many of the last events are shown
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    last: u64,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Show {
    pub(super) fn run(self) -> Result<String, Failure> {
        let (found, events, diverged) = client::block_on(self.fetch())?;
        if self.json {
            return Ok(output::json(&whole(&found, &events, diverged.as_ref())));
        }
        let text = page(&found, &events, clock::System.wall_ms(), table::columns());
        let sides = diverged.map(|diverged| {
            format!("\n{}\n{}", diverged.sides(), diverged.advice(&found.session.session_id))
        });
        Ok(text + &sides.unwrap_or_default())
    }

    async fn fetch(&self) -> Result<(Found, Vec<v1::Event>, Option<Divergence>), Failure> {
        let engine = Engine::find(&self.engine).await?;
        let found = self.target.find(&engine).await?;
        let mut events = Vec::new();
        if self.last > 0 && found.session.archived.is_empty() {
            let wanted = Wanted {
                session_id: found.session.session_id.clone(),
                from_seq: found.session.seq.saturating_sub(self.last - 1).max(1),
                until_caught_up: true,
                headers_only: false,
                tokens: None,
            };
            let failed = |status: tonic::Status| refusal::failure(&status);
            let mut feed = Feed::open(&engine, wanted).await.map_err(failed)?;
            loop {
                match feed.next().await.map_err(failed)? {
                    Item::Event(event) => events.push(*event),
                    Item::CaughtUp | Item::Tokens(_) | Item::Reset(_) => {}
                    Item::End(_) => break,
                    Item::Cut => {
                        return Err(Failure::unavailable("the engine ended the answer early: try again"));
                    }
                }
            }
        }
        let diverged = divergence::read(&engine, &found.session).await?;
        Ok((found, events, diverged))
    }
}

fn whole(found: &Found, events: &[v1::Event], diverged: Option<&Divergence>) -> Value {
    let mut shown = json::of(&found.whole);
    if let Some(fields) = shown.as_object_mut() {
        if let Some(diverged) = diverged {
            fields.insert("divergence".to_owned(), diverged.json());
        }
        fields.insert("events".to_owned(), json!(events.iter().map(json::of).collect::<Vec<_>>()));
    }
    shown
}

/// The sections of the screen, the empty ones left out.
fn page(found: &Found, events: &[v1::Event], now_ms: u64, columns: Option<u16>) -> String {
    let session = &found.session;
    let sections = [
        table::details(&facts(found, now_ms)),
        intents(session, now_ms, columns),
        zones(session, columns),
        waits::waits(session, now_ms, columns),
        last(events, columns),
        advice(session, now_ms),
    ];
    let shown: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    shown.join("\n")
}

fn facts(found: &Found, now_ms: u64) -> Vec<(&'static str, String)> {
    let session = &found.session;
    let when = |ms: u64| {
        if ms == 0 { String::new() } else { format!("{} UTC, {}", format::time(ms), format::ago(ms, now_ms)) }
    };
    let generation =
        if session.generation > 1 { format!(" (generation {})", session.generation) } else { String::new() };
    let key = if session.key.is_empty() { String::new() } else { format!("{}{generation}", session.key) };
    let content = |payload: &Option<v1::Payload>| payload.as_ref().map_or_else(String::new, payload::preview);
    vec![
        ("session", session.session_id.clone()),
        ("namespace", session.namespace.clone()),
        ("workflow", format!("{}@{}", session.workflow, session.version)),
        ("key", key),
        ("fork of", fork_of(session)),
        ("status", format::status(session.status()).to_owned()),
        ("waits for", list::waits_for(session)),
        ("result", content(&found.whole.output)),
        ("failure", content(&found.whole.failure)),
        ("lease", lease(session)),
        ("started", when(session.started_ms)),
        ("updated", when(session.updated_ms)),
        ("ended", when(session.ended_ms)),
        ("archived", session.archived.clone()),
        ("events", format::count(session.seq)),
        ("steps", format::count(session.steps)),
        ("model calls", session.totals.as_ref().map_or_else(String::new, model_calls)),
        ("cost", session.totals.as_ref().map_or_else(String::new, cost)),
    ]
}

fn fork_of(session: &v1::Session) -> String {
    if session.forked_from_session.is_empty() {
        return String::new();
    }
    let effects = if session.effects_live { "performed" } else { "taken from what was recorded" };
    let had = session.inherited_totals.as_ref().map_or(0, |totals| totals.cost_nanos);
    let own = session.totals.as_ref().map_or(0, |totals| totals.cost_nanos).saturating_sub(had);
    format!(
        "{} up to event {}, effects {effects}, {} of its own",
        session.forked_from_session,
        session.forked_from_seq,
        format::dollars(own)
    )
}

fn lease(session: &v1::Session) -> String {
    match (session.epoch, session.instance.as_str()) {
        (0, _) => "none yet".to_owned(),
        (epoch, "") => format!("nobody (last epoch {epoch})"),
        (epoch, instance) => format!("epoch {epoch}, worker {instance}"),
    }
}

fn model_calls(totals: &v1::Totals) -> String {
    if totals.llm_calls == 0 {
        return String::new();
    }
    let input = totals
        .input_tokens
        .saturating_add(totals.cached_read_tokens)
        .saturating_add(totals.cache_write_tokens);
    format!(
        "{}: {} tokens in ({} from cache), {} out",
        format::count(totals.llm_calls),
        format::count(input),
        format::count(totals.cached_read_tokens),
        format::count(totals.output_tokens)
    )
}

fn cost(totals: &v1::Totals) -> String {
    let wasted = match (totals.wasted_tokens, totals.wasted_cost_nanos) {
        (0, 0) => String::new(),
        (tokens, nanos) => format!(
            ", besides {} for about {} tokens of attempts that were lost",
            format::dollars(nanos),
            format::count(tokens)
        ),
    };
    format!("{}{wasted}", format::cost(Some(totals)))
}

fn intents(session: &v1::Session, now_ms: u64, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 6] = [
        ("open intent", Column::Text),
        ("attempt", Column::Number),
        ("seq", Column::Number),
        ("outcome", Column::Whole),
        ("due", Column::Whole),
        ("then", Column::Whole),
    ];
    let row = |intent: &v1::OpenIntent| {
        vec![
            intent.step_key.clone(),
            intent.attempt.to_string(),
            intent.seq.to_string(),
            if intent.unknown { "unknown" } else { "not there yet" }.to_owned(),
            format::ago(intent.due_ms, now_ms),
            format::guard_policy(intent.policy()).to_owned(),
        ]
    };
    if session.open_intents.is_empty() {
        return String::new();
    }
    table::table(&HEADER, session.open_intents.iter().map(row).collect(), columns)
}

fn zones(session: &v1::Session, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 3] =
        [("open zone", Column::Text), ("attempt", Column::Number), ("seq", Column::Number)];
    let row =
        |zone: &v1::OpenZone| vec![zone.zone_key.clone(), zone.attempt.to_string(), zone.seq.to_string()];
    if session.open_zones.is_empty() {
        return String::new();
    }
    table::table(&HEADER, session.open_zones.iter().map(row).collect(), columns)
}

fn last(events: &[v1::Event], columns: Option<u16>) -> String {
    if events.is_empty() {
        return String::new();
    }
    let lines = events.iter().map(|event| event_line::line(event, columns));
    std::iter::once(event_line::header()).chain(lines).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        let session = v1::Session {
            session_id: "s1".into(),
            root_id: "s1".into(),
            workflow: "audit".into(),
            version: "3".into(),
            status: v1::SessionStatus::Paused.into(),
            pause_reason: v1::PauseReason::EffectUnknown.into(),
            epoch: 2,
            started_ms: 1_732_338_000_123,
            totals: Some(v1::Totals { llm_calls: 3, cost_nanos: 5_000_000, ..v1::Totals::default() }),
            open_intents: vec![v1::OpenIntent {
                step_key: "mail#1".into(),
                unknown: true,
                ..v1::OpenIntent::default()
            }],
            ..v1::Session::default()
        };
        let whole =
            v1::GetSessionResponse { session: Some(session.clone()), ..v1::GetSessionResponse::default() };
        Found { session, whole }
    }

    #[test]
    fn one_screen_says_why_it_waits_what_it_cost_and_what_to_do() {
        let events = [v1::Event { seq: 1, ..v1::Event::default() }];
        let text = page(&found(), &events, 1_732_338_060_123, Some(100));
        for part in [
            "audit@3",
            "may or may not have happened",
            "nobody (last epoch 2)",
            "2024-11-23 05:00:00 UTC, 1 min ago",
            "$0.0050",
            "OPEN INTENT",
            "SEQ",
            "cellaflow steps resolve s1 mail#1 --not-applied",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("fork of"), "a root is no fork:\n{text}");
    }

    #[test]
    fn programs_get_the_contract_s_fields() {
        let shown = whole(&found(), &[], None);
        assert_eq!(shown["session"]["open_intents"][0]["unknown"], true);
        assert_eq!((&shown["output"], &shown["events"]), (&Value::Null, &json!([])));
    }
}
