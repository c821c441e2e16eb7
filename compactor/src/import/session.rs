//! A transcript as the request that imports it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cellaflow_proto::{content, v1};
use content::part::Kind;
use prost::Message as _;

use super::Prices;
use crate::ccs::tokens::Vocabulary;
use crate::transcripts::{Event, Format, Mode, Part, Resource, ToolCall, ToolResult, Transcript, Usage};

/// Version of the workflow that imported sessions have.
pub const VERSION: &str = "imported";
/// Bytes of a step's name.
const NAME_BYTES_MAX: usize = 200;
/// Resources of a step.
const RESOURCES_MAX: usize = 32;
/// Bytes of a resource's kind and id.
const RESOURCE_BYTES_MAX: (usize, usize) = (64, 4_096);

/// What a session is called by.
#[derive(Debug, Clone)]
pub struct Named {
    /// Namespace; empty: the token's.
    pub namespace: String,
    /// Workflow.
    pub workflow: String,
    /// Names this transcript among all of its workflow.
    pub key: String,
    /// Time of what has none, in ms since the Unix epoch.
    pub fallback_ms: u64,
}

/// Makes the request (M1).
#[must_use]
pub fn request(
    format: Format,
    transcript: &Transcript,
    named: Named,
    prices: &Prices,
) -> v1::ImportSessionRequest {
    let input = serde_json::json!({
        "format": format.name(), "transcript": transcript.id, "digest": digest(transcript),
    });
    let started = transcript.events.iter().find_map(|event| event.at_ms).and_then(|ms| ms.try_into().ok());
    let started_ms = started.unwrap_or(named.fallback_ms);
    let mut made = Making { now: started_ms, ..Making::new(transcript, prices) };
    for event in &transcript.events {
        made.event(event);
    }
    let labels = [("imported".to_owned(), format.name().to_owned())];
    let start = v1::StartSessionRequest {
        namespace: named.namespace,
        workflow: named.workflow,
        version: VERSION.to_owned(),
        key: named.key,
        input: Some(plain(&input.to_string())),
        labels: labels.into(),
        ..v1::StartSessionRequest::default()
    };
    v1::ImportSessionRequest {
        start: Some(start),
        started_ms,
        conversation_delta: made.delta(),
        ended_ms: made.now,
        output: Some(json(made.last_said)),
        steps: made.steps,
    }
}

/// A digest of all that a transcript says, in hexadecimal: never of how it is read.
#[must_use]
pub fn digest(transcript: &Transcript) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut feed = |kind: u8, text: &str| {
        hasher.update(&[kind]).update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    };
    for event in &transcript.events {
        feed(0, &event.at_ms.unwrap_or_default().to_string());
        match &event.part {
            Part::System(text) => feed(1, text),
            Part::User(text) => feed(2, text),
            Part::Notice(text) => feed(3, text),
            Part::Assistant(text) => feed(4, text),
            Part::Reasoning(text) => feed(5, text),
            Part::ToolCall(call) => {
                [&call.id, &call.name, &call.arguments].into_iter().for_each(|text| feed(6, text))
            }
            Part::ToolResult(result) => [&result.id, &result.text].into_iter().for_each(|text| feed(7, text)),
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// A session in the making.
struct Making<'a> {
    transcript: &'a Transcript,
    prices: &'a Prices,
    /// Parts of the answer that each call gave.
    answers: BTreeMap<usize, Vec<&'a Part>>,
    /// Calls of tools by their ids, and when they were asked for.
    tools: HashMap<&'a str, (&'a ToolCall, u64)>,
    steps: Vec<v1::ImportedStep>,
    /// What the conversation has and what it gets with the next step.
    said: u32,
    appended: Vec<content::Message>,
    /// How often a name was used.
    names: HashMap<String, u32>,
    now: u64,
    /// When what came last came.
    before: u64,
    /// Tokens of the conversation so far, counted here if the transcript leaves some out.
    counted: u64,
    counts: bool,
    /// What the model said last: the session's result.
    last_said: String,
}

impl<'a> Making<'a> {
    fn new(transcript: &'a Transcript, prices: &'a Prices) -> Self {
        let mut answers: BTreeMap<usize, Vec<&Part>> = BTreeMap::new();
        for event in &transcript.events {
            if let Some(call) = event.call {
                answers.entry(call).or_default().push(&event.part);
            }
        }
        Self {
            transcript,
            prices,
            answers,
            tools: HashMap::new(),
            steps: Vec::new(),
            said: 0,
            appended: Vec::new(),
            names: HashMap::new(),
            now: 0,
            before: 0,
            counted: 0,
            counts: transcript.calls.iter().any(|call| call.usage.is_none()),
            last_said: String::new(),
        }
    }

    fn event(&mut self, event: &'a Event) {
        self.before = self.now;
        if let Some(at) = event.at_ms.and_then(|ms| u64::try_from(ms).ok()) {
            self.now = self.now.max(at);
        }
        if let Part::ToolCall(call) = &event.part {
            self.tools.insert(&call.id, (call, self.now));
        }
        match (&event.part, event.call) {
            (_, Some(call)) => {
                if let Some(parts) = self.answers.remove(&call) {
                    self.answer(call, &parts);
                }
            }
            (Part::System(text), None) => self.say("system", text),
            (Part::User(text) | Part::Notice(text), None) => self.say("user", text),
            (Part::Assistant(text) | Part::Reasoning(text), None) => self.say("assistant", text),
            (Part::ToolResult(result), None) => self.result(result),
            (Part::ToolCall(_), None) => {}
        }
    }

    /// Seq of the event that the next step becomes: the first is the start.
    fn next_seq(&self) -> u64 {
        self.steps.len() as u64 + 2
    }

    fn say(&mut self, role: &str, text: &str) {
        self.counted += self.count(text);
        self.append(role, vec![part(Kind::Text(text.to_owned()), None)]);
    }

    fn tokens(&self, of: &Part) -> u64 {
        match of {
            Part::Assistant(text) | Part::Reasoning(text) => self.count(text),
            Part::ToolCall(call) => self.count(&call.name) + self.count(&call.arguments),
            Part::System(_) | Part::User(_) | Part::Notice(_) | Part::ToolResult(_) => 0,
        }
    }

    fn count(&self, text: &str) -> u64 {
        if self.counts { Vocabulary::default().count(text) as u64 } else { 0 }
    }

    fn append(&mut self, role: &str, parts: Vec<content::Part>) {
        self.appended.push(content::Message { role: role.to_owned(), parts, ..content::Message::default() });
    }

    /// What the conversation gets, if it gets anything.
    fn delta(&mut self) -> Option<v1::Payload> {
        if self.appended.is_empty() {
            return None;
        }
        let appended = std::mem::take(&mut self.appended);
        let delta = content::ConversationDelta { keep: self.said, appended };
        self.said += u32::try_from(delta.appended.len()).unwrap_or(u32::MAX);
        Some(payload(v1::PayloadFormat::ConversationDelta, delta.encode_to_vec()))
    }

    /// A call of the model (M2).
    fn answer(&mut self, call: usize, parts: &[&Part]) {
        let texts = texts(&self.appended);
        let conversation_delta = self.delta();
        let message = content::Message {
            role: "assistant".to_owned(),
            parts: parts.iter().filter_map(|of| shown(of)).collect(),
            ..content::Message::default()
        };
        let output: u64 = parts.iter().map(|of| self.tokens(of)).sum();
        let made = self.transcript.calls.get(call).cloned().unwrap_or_default();
        let usage = self.usage(&made.model, made.usage, output);
        self.counted += output;
        let request = content::LlmRequest {
            base: Some(content::llm_request::Base::Conversation(true)),
            keep: self.said,
            messages: self.said,
            params: serde_json::json!({ "model": made.model }).to_string().into(),
            ..content::LlmRequest::default()
        };
        let asks = message.parts.iter().any(|part| matches!(part.kind, Some(Kind::ToolCall(_))));
        let response = content::LlmResponse {
            message: Some(message),
            finish_reason: if asks { "tool_calls" } else { "stop" }.to_owned(),
            model: made.model,
            ..content::LlmResponse::default()
        };
        let seq = self.next_seq();
        let repeated = repeated(response.message.as_ref(), seq, texts);
        let output = payload(v1::PayloadFormat::LlmResponse, response.encode_to_vec());
        let llm = v1::LlmCall {
            request: Some(payload(v1::PayloadFormat::LlmRequest, request.encode_to_vec())),
            response: None,
            usage: Some(usage),
        };
        let step =
            v1::StepCompleted { output: Some(output), llm: Some(llm), ..self.step("llm", self.before) };
        self.push(step, conversation_delta);
        self.append("assistant", repeated);
        let said = parts.iter().rev().find_map(|of| match of {
            Part::Assistant(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        });
        if let Some(said) = said {
            self.last_said.clone_from(said);
        }
    }

    /// What a tool returned (M2); one that nobody asked for is only said.
    fn result(&mut self, result: &ToolResult) {
        let texts = texts(&self.appended);
        self.counted += self.count(&result.text);
        let mut same_as = None;
        if let Some((call, asked)) = self.tools.remove(result.id.as_str()) {
            // The conversation's texts come first (`archive::texts`).
            same_as = Some(content::PartRef { seq: self.next_seq(), part: texts });
            let conversation_delta = self.delta();
            let resources = call.resources.iter().take(RESOURCES_MAX).filter_map(resource).collect();
            let arguments = serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments);
            let input = if arguments.is_ok() { plain(&call.arguments) } else { json(call.arguments.clone()) };
            let step = v1::StepCompleted {
                input: Some(input),
                output: Some(json(result.text.clone())),
                resources,
                ..self.step(&call.name, asked)
            };
            self.push(step, conversation_delta);
        }
        let text = if same_as.is_some() { String::new() } else { result.text.clone() };
        let failed = result.failed.unwrap_or(false);
        let kind = Kind::ToolResult(content::ToolResult { id: result.id.clone(), text, failed });
        self.append("tool", vec![part(kind, same_as)]);
    }

    fn step(&mut self, name: &str, began: u64) -> v1::StepCompleted {
        let name: String = clipped(name, NAME_BYTES_MAX).replace(char::is_control, " ");
        let name = if name.is_empty() { "tool".to_owned() } else { name };
        let nth = self.names.entry(name.clone()).or_default();
        *nth += 1;
        v1::StepCompleted {
            step_key: format!("{name}#{nth}"),
            name,
            attempt: 1,
            duration_us: self.now.saturating_sub(began).saturating_mul(1_000),
            ..v1::StepCompleted::default()
        }
    }

    fn push(&mut self, step: v1::StepCompleted, conversation_delta: Option<v1::Payload>) {
        self.steps.push(v1::ImportedStep { time_ms: self.now, step: Some(step), conversation_delta });
    }

    /// What the provider counted, or else what is counted here (M3).
    fn usage(&self, model: &str, said: Option<Usage>, output: u64) -> v1::Usage {
        let ours = Usage { input_tokens: self.counted, output_tokens: output, ..Usage::default() };
        let tokens = said.unwrap_or(ours);
        let provider = provider(model);
        let cost = self.prices.cost(provider, model, tokens);
        v1::Usage {
            provider: provider.to_owned(),
            model: clipped(model, NAME_BYTES_MAX).to_owned(),
            input_tokens: tokens.input_tokens,
            cached_read_tokens: tokens.cached_tokens,
            cache_write_tokens: tokens.cache_write_tokens,
            output_tokens: tokens.output_tokens,
            estimated: said.is_none(),
            cost_nanos: cost,
            price_date: cost.map(|_| self.prices.date.clone()).unwrap_or_default(),
        }
    }
}

/// Who offers a model, by its name; empty: nobody knows.
fn provider(model: &str) -> &'static str {
    let known = [("claude", "anthropic"), ("gpt-", "openai"), ("gemini", "google")];
    known.iter().find(|(prefix, _)| model.starts_with(prefix)).map_or("", |(_, provider)| provider)
}

/// Texts of messages that references count.
fn texts(messages: &[content::Message]) -> u32 {
    let counts = |part: &&content::Part| {
        matches!(part.kind, Some(Kind::Text(_) | Kind::Reasoning(_) | Kind::ToolResult(_)))
    };
    let found = messages.iter().flat_map(|message| &message.parts).filter(counts).count();
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// An answer's parts as a later message names them.
fn repeated(answer: Option<&content::Message>, seq: u64, first: u32) -> Vec<content::Part> {
    let mut next = first;
    let mut name = |kind| {
        let same_as = content::PartRef { seq, part: next };
        next += 1;
        part(kind, Some(same_as))
    };
    let parts = answer.map(|message| message.parts.as_slice()).unwrap_or_default();
    let named = parts.iter().map(|of| match &of.kind {
        Some(Kind::Text(_)) => name(Kind::Text(String::new())),
        Some(Kind::Reasoning(_)) => name(Kind::Reasoning(String::new())),
        _ => of.clone(),
    });
    named.collect()
}

fn shown(of: &Part) -> Option<content::Part> {
    let kind = match of {
        Part::Assistant(text) => Kind::Text(text.clone()),
        Part::Reasoning(text) => Kind::Reasoning(text.clone()),
        Part::ToolCall(call) => Kind::ToolCall(content::ToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        }),
        Part::System(_) | Part::User(_) | Part::Notice(_) | Part::ToolResult(_) => return None,
    };
    Some(part(kind, None))
}

fn part(kind: Kind, same_as: Option<content::PartRef>) -> content::Part {
    content::Part { kind: Some(kind), same_as, ..content::Part::default() }
}

fn resource(resource: &Resource) -> Option<v1::Resource> {
    let (kind_max, id_max) = RESOURCE_BYTES_MAX;
    let kind = clipped(&resource.kind, kind_max).replace(char::is_control, " ");
    let id = clipped(&resource.id, id_max).to_owned();
    if kind.is_empty() || id.is_empty() {
        return None;
    }
    let mode = match resource.mode {
        Mode::Read => v1::ResourceMode::Read,
        Mode::Write => v1::ResourceMode::Write,
        Mode::Delete => v1::ResourceMode::Delete,
        Mode::Run => v1::ResourceMode::Run,
    };
    let range = resource.range.map(|range| format!("{}-{}", range.first, range.last)).unwrap_or_default();
    Some(v1::Resource { kind, id, mode: mode.into(), range })
}

/// The start of a text that has at most so many bytes.
fn clipped(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A text as a value.
fn json(text: String) -> v1::Payload {
    plain(&serde_json::Value::String(text).to_string())
}

/// A value that is written in JSON already.
fn plain(json: &str) -> v1::Payload {
    payload(v1::PayloadFormat::Json, json.as_bytes().to_vec())
}

fn payload(format: v1::PayloadFormat, data: Vec<u8>) -> v1::Payload {
    let size_bytes = data.len() as u64;
    let body = Some(v1::payload::Body::Data(Bytes::from(data)));
    v1::Payload { format: format.into(), size_bytes, body, ..v1::Payload::default() }
}
