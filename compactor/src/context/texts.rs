//! Texts of a session by where they were recorded: a part that repeats one names it instead (T1, T2 of the SDK's
//! `runtime/texts.ts`, whose numbering this follows). Bounded; what is forgotten is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use cellaflow_proto::{content, v1};
use content::part::Kind;

/// Bytes of texts that are remembered.
const BYTES_MAX: usize = 24 << 20;

/// Event, and which of its texts.
pub type Place = (u64, u32);

/// Texts by place; the oldest places are forgotten first.
#[derive(Debug, Default)]
pub struct Texts {
    known: BTreeMap<Place, Arc<str>>,
    bytes: usize,
}

impl Texts {
    /// The text that stands there, if it is remembered.
    #[must_use]
    pub fn get(&self, place: Place) -> Option<Arc<str>> {
        self.known.get(&place).cloned()
    }

    /// Remembers the texts of an event whose payloads are all in it.
    pub fn note(&mut self, event: &v1::Event) {
        for (part, text) in (0u32..).zip(texts(event)) {
            let Some(text) = text else { continue };
            self.bytes += text.len();
            if let Some(before) = self.known.insert((event.seq, part), text.into()) {
                self.bytes -= before.len();
            }
        }
        while self.bytes > BYTES_MAX
            && let Some((_, oldest)) = self.known.pop_first()
        {
            self.bytes -= oldest.len();
        }
    }
}

/// The document in a payload; `None`: absent, or in a codec of the caller's own.
pub fn document<M: prost::Message + Default>(payload: Option<&v1::Payload>) -> Option<M> {
    M::decode(bytes(payload)?).ok()
}

/// The bytes of a payload that is here and readable.
fn bytes(payload: Option<&v1::Payload>) -> Option<bytes::Bytes> {
    let payload = payload.filter(|payload| payload.codec.is_empty())?;
    match payload.body.as_ref()? {
        v1::payload::Body::Data(bytes) => Some(bytes.clone()),
        v1::payload::Body::TransferId(_) | v1::payload::Body::Absent(_) => None,
    }
}

/// The texts of an event in the order in which they count; `None`: it repeats another one.
fn texts(event: &v1::Event) -> Vec<Option<String>> {
    let mut out = Vec::new();
    if let Some(delta) = document::<content::ConversationDelta>(event.conversation_delta.as_ref()) {
        delta.appended.iter().for_each(|message| of_message(message, &mut out));
    }
    match &event.body {
        Some(v1::event::Body::StepCompleted(step)) => {
            of_output(step.output.as_ref(), &mut out);
            step.llm.iter().for_each(|call| of_call(call, &mut out));
        }
        Some(v1::event::Body::ZoneCommitted(zone)) => {
            of_output(zone.output.as_ref(), &mut out);
            let record = document::<content::ZoneRecord>(zone.record.as_ref()).unwrap_or_default();
            for outcome in &record.outcomes {
                match &outcome.outcome {
                    Some(content::zone_outcome::Outcome::Output(value)) => {
                        out.extend(serde_json::from_slice::<String>(value).ok().map(Some));
                    }
                    Some(content::zone_outcome::Outcome::Llm(answer)) => {
                        answer.message.iter().for_each(|message| of_message(message, &mut out));
                    }
                    Some(content::zone_outcome::Outcome::Failure(_)) | None => {}
                }
            }
            zone.llm_calls.iter().for_each(|call| of_call(call, &mut out));
        }
        Some(v1::event::Body::GuardResolved(resolved)) => of_output(resolved.output.as_ref(), &mut out),
        Some(v1::event::Body::ForkEdited(v1::ForkEdited {
            edit: Some(v1::fork_edited::Edit::Output(output)),
            ..
        })) => of_output(Some(output), &mut out),
        _ => {}
    }
    out
}

fn of_output(payload: Option<&v1::Payload>, out: &mut Vec<Option<String>>) {
    let Some(found) = payload else { return };
    match found.format() {
        v1::PayloadFormat::LlmResponse => {
            let answer = document::<content::LlmResponse>(payload);
            answer.and_then(|answer| answer.message).iter().for_each(|message| of_message(message, out));
        }
        v1::PayloadFormat::Value | v1::PayloadFormat::Json => {
            let text = bytes(payload).and_then(|bytes| serde_json::from_slice::<String>(&bytes).ok());
            out.extend(text.map(Some));
        }
        _ => {}
    }
}

fn of_call(call: &v1::LlmCall, out: &mut Vec<Option<String>>) {
    if let Some(request) = document::<content::LlmRequest>(call.request.as_ref()) {
        request.appended.iter().for_each(|message| of_message(message, out));
    }
    if let Some(answer) = document::<content::LlmResponse>(call.response.as_ref()) {
        answer.message.iter().for_each(|message| of_message(message, out));
    }
}

fn of_message(message: &content::Message, out: &mut Vec<Option<String>>) {
    for part in &message.parts {
        let text = match &part.kind {
            Some(Kind::Text(text) | Kind::Reasoning(text)) => text,
            Some(Kind::ToolResult(result)) => &result.text,
            Some(Kind::ToolCall(_) | Kind::File(_) | Kind::Custom(_)) | None => continue,
        };
        out.push(part.same_as.is_none().then(|| text.clone()));
    }
}
