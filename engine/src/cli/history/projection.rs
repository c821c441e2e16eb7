//! `ctx.state` and `ctx.messages` of a session, folded from the deltas that its events carry.
//!
//! 1. What an event carried is what the code had written before it.
//! 2. Texts of an event are counted as the SDK counts them (its `runtime/texts.ts`), so that a reference finds its text.

use std::collections::{BTreeMap, HashMap};

use cellaflow_proto::content::part::Kind;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::{content, v1};
use serde_json::{Value, json};

use crate::cli::{json, value};

/// Shorter texts are never referred to (the SDK's limit, in UTF-16 units; in bytes no text is shorter).
const REFERENCED_TEXT_BYTES_MIN: usize = 64;

/// What a session's code had kept.
#[derive(Debug, Default)]
pub(in crate::cli) struct Projection {
    /// `None`: the value cannot be shown.
    state: BTreeMap<String, Option<Value>>,
    messages: Vec<content::Message>,
    /// By seq and part.
    texts: HashMap<(u64, u32), String>,
}

impl Projection {
    /// Takes the next event.
    pub(in crate::cli) fn note(&mut self, event: &v1::Event) {
        let mut texts: Vec<Option<String>> = Vec::new();
        if let Some(delta) = document::<content::StateDelta>(event.state_delta.as_ref()) {
            self.write(delta);
        }
        if let Some(delta) = document::<content::ConversationDelta>(event.conversation_delta.as_ref()) {
            texts.extend(delta.appended.iter().flat_map(texts_of_message));
            self.messages.truncate(usize::try_from(delta.keep).unwrap_or(usize::MAX));
            let whole: Vec<_> = delta.appended.into_iter().map(|message| self.whole(message)).collect();
            self.messages.extend(whole);
        }
        self.texts_of(event, &mut texts);
        for (part, text) in (0u32..).zip(texts) {
            if let Some(text) = text.filter(|text| text.len() >= REFERENCED_TEXT_BYTES_MIN) {
                self.texts.insert((event.seq, part), text);
            }
        }
    }

    pub(in crate::cli) fn state(&self) -> Value {
        let shown =
            self.state.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or(Value::Null)));
        Value::Object(shown.collect())
    }

    pub(in crate::cli) fn messages(&self) -> Value {
        self.messages.iter().map(json::of).collect()
    }

    /// How many messages there are.
    pub(in crate::cli) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Role and text of every part of the first messages, in the order in which handles number them.
    pub(in crate::cli) fn parts(&self, messages: usize) -> Vec<(String, String)> {
        let parts = self
            .messages
            .iter()
            .take(messages)
            .flat_map(|message| message.parts.iter().map(|part| (message.role.clone(), part_line(part))));
        parts.collect()
    }

    /// Role and text of each message.
    pub(in crate::cli) fn lines(&self) -> Vec<(String, String)> {
        let line = |message: &content::Message| {
            let parts: Vec<String> = message.parts.iter().map(part_line).collect();
            (message.role.clone(), parts.join(" "))
        };
        self.messages.iter().map(line).collect()
    }

    fn write(&mut self, delta: content::StateDelta) {
        for write in delta.writes {
            match write.value {
                Some(bytes) => drop(self.state.insert(write.key, value::read(&bytes))),
                None => drop(self.state.remove(&write.key)),
            }
        }
    }

    fn texts_of(&mut self, event: &v1::Event, texts: &mut Vec<Option<String>>) {
        match &event.body {
            Some(Body::StepCompleted(step)) => match &step.llm {
                None => texts.extend(text_of_value(step.output.as_ref())),
                Some(call) => {
                    let answer = document::<content::LlmResponse>(step.output.as_ref());
                    texts.extend(answer.and_then(|answer| answer.message).iter().flat_map(texts_of_message));
                    texts.extend(texts_of_request(call));
                }
            },
            Some(Body::GuardResolved(resolved)) => texts.extend(text_of_value(resolved.output.as_ref())),
            Some(Body::ForkEdited(v1::ForkEdited {
                edit: Some(v1::fork_edited::Edit::Output(output)),
                ..
            })) => {
                let answer = (output.format() == v1::PayloadFormat::LlmResponse)
                    .then(|| document::<content::LlmResponse>(Some(output)))
                    .flatten();
                match answer {
                    Some(answer) => texts.extend(answer.message.iter().flat_map(texts_of_message)),
                    None => texts.extend(text_of_value(Some(output))),
                }
            }
            Some(Body::ZoneCommitted(zone)) => {
                texts.extend(text_of_value(zone.output.as_ref()));
                let record = document::<content::ZoneRecord>(zone.record.as_ref()).unwrap_or_default();
                texts.extend(record.outcomes.iter().flat_map(texts_of_outcome));
                texts.extend(zone.llm_calls.iter().flat_map(texts_of_request));
                if let Some(delta) = record.state {
                    self.write(delta);
                }
            }
            _ => {}
        }
    }

    fn whole(&self, mut message: content::Message) -> content::Message {
        for part in &mut message.parts {
            let Some(same) = part.same_as.take() else { continue };
            let text = self.texts.get(&(same.seq, same.part)).cloned();
            let text = text.unwrap_or_else(|| format!("[text {} of event {}]", same.part, same.seq));
            match &mut part.kind {
                Some(Kind::Text(at) | Kind::Reasoning(at)) => *at = text,
                Some(Kind::ToolResult(result)) => result.text = text,
                Some(Kind::ToolCall(_) | Kind::File(_) | Kind::Custom(_)) | None => {}
            }
        }
        message
    }
}

fn document<M: prost::Message + Default>(payload: Option<&v1::Payload>) -> Option<M> {
    let payload = payload.filter(|payload| payload.codec.is_empty())?;
    match &payload.body {
        Some(v1::payload::Body::Data(bytes)) => M::decode(bytes.clone()).ok(),
        _ => None,
    }
}

fn text_of_value(payload: Option<&v1::Payload>) -> Option<Option<String>> {
    let payload = payload.filter(|payload| payload.codec.is_empty())?;
    let Some(v1::payload::Body::Data(bytes)) = &payload.body else { return None };
    match (payload.format(), value::read(bytes)) {
        (v1::PayloadFormat::Bytes, _) => None,
        (_, Some(Value::String(text))) => Some(Some(text)),
        _ => None,
    }
}

fn texts_of_request(call: &v1::LlmCall) -> Vec<Option<String>> {
    let request = document::<content::LlmRequest>(call.request.as_ref()).unwrap_or_default();
    request.appended.iter().flat_map(texts_of_message).collect()
}

fn texts_of_outcome(outcome: &content::ZoneOutcome) -> Vec<Option<String>> {
    match &outcome.outcome {
        Some(content::zone_outcome::Outcome::Llm(answer)) => {
            answer.message.iter().flat_map(texts_of_message).collect()
        }
        Some(content::zone_outcome::Outcome::Output(bytes)) => match value::read(bytes) {
            Some(Value::String(text)) => vec![Some(text)],
            _ => Vec::new(),
        },
        Some(content::zone_outcome::Outcome::Failure(_)) | None => Vec::new(),
    }
}

/// The texts of a message in order; `None`: one that is a reference itself.
fn texts_of_message(message: &content::Message) -> Vec<Option<String>> {
    let text = |part: &content::Part| match &part.kind {
        Some(Kind::Text(text) | Kind::Reasoning(text)) => Some(text.clone()),
        Some(Kind::ToolResult(result)) => Some(result.text.clone()),
        Some(Kind::ToolCall(_) | Kind::File(_) | Kind::Custom(_)) | None => None,
    };
    let known = |part: &content::Part| text(part).map(|text| part.same_as.is_none().then_some(text));
    message.parts.iter().filter_map(known).collect()
}

fn part_line(part: &content::Part) -> String {
    match &part.kind {
        Some(Kind::Text(text)) => text.clone(),
        Some(Kind::Reasoning(text)) => format!("(thinks: {text})"),
        Some(Kind::ToolCall(call)) => format!("calls {}({})", call.name, call.arguments),
        Some(Kind::ToolResult(result)) => result.text.clone(),
        Some(Kind::File(file)) => format!("[{}]", file.media_type),
        Some(Kind::Custom(_)) | None => json!("…").to_string(),
    }
}
