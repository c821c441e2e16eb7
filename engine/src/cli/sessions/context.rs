//! `cellaflow sessions context`: what of a session's conversation its agent prompts with, beside the whole of it.

mod bill;

use std::collections::BTreeMap;

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::{content, v1};
use clap::Args;
use prost::Message as _;
use serde_json::{Value, json};

use crate::cli::client::{self, Engine};
use crate::cli::history::{self, Projection};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::table::{self, Column};
use crate::cli::{format, json as shown, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions context 334455                 the newest, and what passes took out
  cellaflow sessions context 334455 --at 120        what there was of it for event 120
  cellaflow sessions context 334455 --diff          each part beside what is left of it
  cellaflow sessions context 334455 --json | jq .removed

Compactors make contexts (`cellaflow dev` runs one); §n names part n of the conversation. Costs are
in multiples of the input price: 0.1 cached, 1.25 written, 5 minutes. With --json: {\"session_id\",
\"seq\", \"version\", \"covers_messages\", \"tokens\", \"history_tokens\", \"removed\", \"blocks\",
\"messages_after\", \"uses\", \"money\"}, and with --diff \"parts\".";

#[derive(Args)]
pub(in crate::cli) struct Context {
    #[command(flatten)]
    target: Target,
    /// The context as of this event: no version that stands for later ones [default: the last event]
    #[arg(long, value_name = "SEQ")]
    at: Option<u64>,
    /// Shows each part beside what is left of it
    #[arg(long)]
    diff: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// What was read.
#[derive(Default)]
struct Found {
    session_id: String,
    seq: u64,
    version: Option<v1::ContextVersion>,
    blocks: Vec<v1::ContextBlock>,
    projection: Projection,
    uses: Vec<(u64, content::ContextUsed)>,
    prompts: bill::Prompts,
}

impl Context {
    pub(super) fn run(self) -> Result<String, Failure> {
        let found = client::block_on(self.read())?;
        if self.json {
            return Ok(output::json(&found.json(self.diff)));
        }
        Ok(found.page(self.diff, table::columns()))
    }

    async fn read(&self) -> Result<Found, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session = self.target.find(&engine).await?.session;
        let to = self.at.unwrap_or(session.seq);
        if to == 0 || to > session.seq {
            return Err(Failure::usage(format!(
                "the session has events 1 to {}: name one of those",
                session.seq
            )));
        }
        let mut found = Found { session_id: session.session_id.clone(), seq: to, ..Found::default() };
        history::each(&engine, &session.session_id, (1, to), |event| found.note(event)).await?;
        found.ask(&engine).await.map_err(|status| refusal::failure(&status))?;
        if found.version.is_none() {
            found.remember();
        }
        Ok(found)
    }
}

impl Found {
    fn note(&mut self, event: &v1::Event) {
        self.projection.note(event);
        let used = used(event);
        self.prompts.note(event, used.as_ref());
        self.uses.extend(used.map(|used| (event.seq, used)));
    }

    /// The newest version that stands for nothing after the event.
    async fn ask(&mut self, engine: &Engine) -> Result<(), tonic::Status> {
        let session_id = self.session_id.clone();
        let request = v1::ListContextsRequest { session_id: session_id.clone() };
        let listed = engine.contexts().list_contexts(request).await?.into_inner().versions;
        let Some(last) = listed.into_iter().rfind(|version| version.covers_seq <= self.seq) else {
            return Ok(());
        };
        let request =
            v1::GetContextRequest { session_id, version: last.version, ..v1::GetContextRequest::default() };
        let answer = engine.contexts().get_context(request).await?.into_inner();
        (self.version, self.blocks) = (answer.version, answer.blocks);
        if self.blocks.is_empty() {
            self.take_texts(last.version);
        }
        Ok(())
    }

    /// What an agent used is in the ledger, whatever became of the engine's rows.
    fn take_texts(&mut self, version: u32) {
        let kept = self.uses.iter().rev().find_map(|(_, used)| {
            used.artefact.as_ref().filter(|_| used.version == version).map(|artefact| &artefact.blocks)
        });
        let blocks = kept.into_iter().flatten().map(|block| v1::ContextBlock {
            kind: i32::try_from(block.kind).unwrap_or(0),
            text: block.text.clone(),
            tokens: block.tokens,
            breakpoint: block.breakpoint,
        });
        self.blocks = blocks.collect();
    }

    /// As `take_texts`, where the engine knows of no version: the session was archived and restored, or is a fork.
    fn remember(&mut self) {
        let Some((_, used)) = self.uses.iter().rfind(|(_, used)| used.version > 0).cloned() else { return };
        self.take_texts(used.version);
        self.version = Some(v1::ContextVersion {
            version: used.version,
            covers_seq: used.covers_seq,
            covers_messages: used.covers_messages,
            tokens: self.blocks.iter().map(|block| block.tokens).sum(),
            hash: used.hash,
            ..v1::ContextVersion::default()
        });
    }

    fn text(&self) -> String {
        self.blocks.iter().map(|block| block.text.as_str()).collect()
    }

    fn covered(&self) -> usize {
        let covers = self.version.as_ref().map_or(0, |version| version.covers_messages);
        usize::try_from(covers).unwrap_or(usize::MAX)
    }

    /// Every part that the context stands for, beside what is left of it.
    fn parts(&self) -> Vec<(u64, String, String, String)> {
        let text = self.text();
        let lines = lines_by_handle(&text);
        let parts = self.projection.parts(self.covered());
        let beside = parts.into_iter().zip(1u64..).map(|((role, raw), n)| {
            let left = match lines.get(&n) {
                _ if !raw.trim().is_empty() && text.contains(raw.trim()) => "as it is".to_owned(),
                Some(line) => line.clone(),
                None => "§ only".to_owned(),
            };
            (n, role, raw, left)
        });
        beside.collect()
    }

    fn json(&self, diff: bool) -> Value {
        let version = self.version.clone().unwrap_or_default();
        let removed: BTreeMap<&str, u64> =
            version.removed.iter().map(|removed| (removed.pass.as_str(), removed.tokens)).collect();
        let uses = self.uses.iter().map(|(seq, used)| {
            let used = content::ContextUsed { artefact: None, ..used.clone() };
            json!({ "seq": seq, "used": shown::of(&used) })
        });
        let mut all = json!({
            "session_id": self.session_id,
            "seq": self.seq,
            "version": version.version,
            "covers_seq": version.covers_seq,
            "covers_messages": version.covers_messages,
            "tokens": version.tokens,
            "history_tokens": version.history_tokens,
            "reason": reason(&version),
            "removed": removed,
            "blocks": self.blocks.iter().map(|block| json!({
                "kind": kind(block), "tokens": block.tokens, "text": block.text,
            })).collect::<Vec<_>>(),
            "messages_after": self.projection.len().saturating_sub(self.covered()),
            "uses": uses.collect::<Vec<_>>(),
            "money": self.prompts.bill().json(),
        });
        if diff && let Value::Object(fields) = &mut all {
            let parts = self.parts().into_iter();
            let parts = parts
                .map(|(n, role, raw, left)| json!({ "part": n, "role": role, "raw": raw, "context": left }));
            fields.insert("parts".to_owned(), parts.collect());
        }
        all
    }

    fn page(&self, diff: bool, columns: Option<u16>) -> String {
        let Some(version) = &self.version else {
            return format!(
                "session {} has no context as of event {}: none is needed yet, or no compactor runs \
                 (`cellaflow-compactor run`)\n",
                self.session_id, self.seq
            );
        };
        let after = self.projection.len().saturating_sub(self.covered());
        let mut facts = vec![
            ("session", self.session_id.clone()),
            ("as of", format!("event {}", self.seq)),
            ("version", format!("{} {}", version.version, reason(version))),
            (
                "stands for",
                format!("{} messages, up to event {}", version.covers_messages, version.covers_seq),
            ),
            ("tokens", tokens(version)),
            ("after it", format!("{after} messages as they are")),
        ];
        if version.time_ms > 0 {
            facts.push(("made", format!("{} UTC", format::time(version.time_ms))));
        }
        facts.extend(self.prompts.bill().lines());
        let sections = [
            table::details(&facts),
            passes(version, columns),
            if diff { self.beside(columns) } else { self.text() },
        ];
        let shown: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
        shown.join("\n")
    }

    fn beside(&self, columns: Option<u16>) -> String {
        const HEADER: [(&str, Column); 4] = [
            ("part", Column::Number),
            ("role", Column::Whole),
            ("conversation", Column::Text),
            ("context", Column::Text),
        ];
        let rows =
            self.parts().into_iter().map(|(n, role, raw, left)| vec![format!("§{n}"), role, raw, left]);
        table::table(&HEADER, rows.collect(), columns)
    }
}

/// What a prompt was made of, if the event says it.
fn used(event: &v1::Event) -> Option<content::ContextUsed> {
    let Some(Body::StepCompleted(step)) = &event.body else { return None };
    let output = step.output.as_ref().filter(|output| output.format() == v1::PayloadFormat::Context)?;
    match &output.body {
        Some(v1::payload::Body::Data(bytes)) => content::ContextUsed::decode(bytes.clone()).ok(),
        _ => None,
    }
}

fn tokens(version: &v1::ContextVersion) -> String {
    if version.history_tokens == 0 {
        return version.tokens.to_string();
    }
    let tenths = version.history_tokens * 10 / version.tokens.max(1);
    format!("{} of {}: {}.{} times fewer", version.tokens, version.history_tokens, tenths / 10, tenths % 10)
}

fn passes(version: &v1::ContextVersion, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 2] = [("pass", Column::Whole), ("tokens taken out", Column::Number)];
    let rows: Vec<_> = version
        .removed
        .iter()
        .map(|removed| vec![removed.pass.clone(), removed.tokens.to_string()])
        .collect();
    if rows.is_empty() { String::new() } else { table::table(&HEADER, rows, columns) }
}

fn reason(version: &v1::ContextVersion) -> &'static str {
    match version.reason() {
        v1::SealReason::Unspecified => "",
        v1::SealReason::Cold => "cold",
        v1::SealReason::HandOff => "hand-off",
        v1::SealReason::HighMark => "high mark",
        v1::SealReason::Limit => "limit",
        v1::SealReason::Explicit => "explicit",
    }
}

fn kind(block: &v1::ContextBlock) -> &'static str {
    match block.kind() {
        v1::BlockKind::Unspecified => "",
        v1::BlockKind::Instructions => "instructions",
        v1::BlockKind::Segments => "segments",
        v1::BlockKind::Facts => "facts",
    }
}

/// The first line that names each part.
fn lines_by_handle(text: &str) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        // The heading of a segment names where it begins, which says nothing of that part.
        if line.starts_with("Events §") {
            continue;
        }
        for rest in line.split('§').skip(1) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if let Ok(n) = digits.parse() {
                found.entry(n).or_insert_with(|| line.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_by_the_first_line_that_names_it() {
        let text = "Events §4–9: 2 of 3 shown\n§4 read a.rs\n§8 edit b.rs +1 -0\nb.rs: read §4, written §8\n";
        let lines = lines_by_handle(text);
        assert_eq!(lines.get(&4).map(String::as_str), Some("§4 read a.rs"));
        assert_eq!(lines.get(&8).map(String::as_str), Some("§8 edit b.rs +1 -0"));
        assert_eq!(lines.get(&9), None);
    }
}
