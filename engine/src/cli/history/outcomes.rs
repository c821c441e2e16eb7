//! Outcomes of steps and zones, and what they cost.

use std::collections::BTreeMap;

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::{content, v1};
use prost::Message as _;
use serde_json::{Value, json};

use crate::cli::payload;

/// What a step or zone came to.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Outcome {
    /// Its event.
    pub(in crate::cli) seq: u64,
    /// Content of the output or failure, as JSON shows it, without what differs between equal contents.
    pub(in crate::cli) value: Value,
    /// For people.
    pub(in crate::cli) preview: String,
    /// The step failed.
    pub(in crate::cli) failed: bool,
    /// An edit of a fork gave it.
    pub(in crate::cli) edited: bool,
}

impl Outcome {
    /// True if both stand for the same: the same content, whatever it cost.
    pub(in crate::cli) fn same(&self, other: &Self) -> bool {
        self.failed == other.failed && self.value == other.value
    }

    pub(in crate::cli) fn json(&self, step_key: &str) -> Value {
        let content = if self.failed { "failure" } else { "output" };
        json!({ "step_key": step_key, "seq": self.seq, content: self.value, "edited": self.edited })
    }
}

/// The outcomes of a session, as its events come.
#[derive(Debug, Default)]
pub(in crate::cli) struct Outcomes {
    by_key: BTreeMap<String, Outcome>,
    /// Seq, tokens, nano-dollars.
    spent: Vec<(u64, u64, i64)>,
}

impl Outcomes {
    /// Takes the next event.
    pub(in crate::cli) fn note(&mut self, event: &v1::Event) {
        let (tokens, nanos) = spent(event);
        if tokens > 0 || nanos != 0 {
            self.spent.push((event.seq, tokens, nanos));
        }
        if let Some((key, outcome)) = outcome(event) {
            self.by_key.insert(key, outcome);
        }
    }

    pub(in crate::cli) fn get(&self, step_key: &str) -> Option<&Outcome> {
        self.by_key.get(step_key)
    }

    /// Steps with an outcome, in ledger order.
    pub(in crate::cli) fn list(&self) -> Vec<(&String, &Outcome)> {
        let mut listed: Vec<_> = self.by_key.iter().collect();
        listed.sort_by_key(|(_, outcome)| outcome.seq);
        listed
    }

    /// Steps, tokens and nano-dollars of the events after `seq`.
    pub(in crate::cli) fn after(&self, seq: u64) -> (u64, u64, i64) {
        let steps = self.by_key.values().filter(|one| one.seq > seq && !one.edited).count() as u64;
        let own = self.spent.iter().filter(|(at, ..)| *at > seq);
        own.fold((steps, 0, 0), |(steps, tokens, nanos), (_, more, cost)| {
            (steps, tokens + more, nanos + cost)
        })
    }
}

/// The recorded answer of a model call, if that is what the event's output is.
pub(in crate::cli) fn answered_with(event: &v1::Event, step_key: &str) -> Option<content::LlmResponse> {
    let output = match event.body.as_ref()? {
        Body::StepCompleted(step) if step.step_key == step_key => step.output.as_ref()?,
        Body::ForkEdited(v1::ForkEdited {
            step_key: key,
            edit: Some(v1::fork_edited::Edit::Output(output)),
            ..
        }) if key == step_key => output,
        _ => return None,
    };
    if output.format() != v1::PayloadFormat::LlmResponse {
        return None;
    }
    match &output.body {
        Some(v1::payload::Body::Data(bytes)) => content::LlmResponse::decode(bytes.clone()).ok(),
        _ => None,
    }
}

fn outcome(event: &v1::Event) -> Option<(String, Outcome)> {
    let made = |key: &str, content: Option<&v1::Payload>, failed, edited| {
        let value = content.map_or(Value::Null, shown);
        let preview = content.map_or_else(String::new, payload::preview);
        Some((key.to_owned(), Outcome { seq: event.seq, value, preview, failed, edited }))
    };
    match event.body.as_ref()? {
        Body::StepCompleted(step) => made(&step.step_key, step.output.as_ref(), false, false),
        Body::StepFailed(step) if step.r#final => made(&step.step_key, step.failure.as_ref(), true, false),
        Body::GuardResolved(resolved) => match resolved.resolution() {
            v1::Resolution::Output => made(&resolved.step_key, resolved.output.as_ref(), false, false),
            v1::Resolution::Failure => made(&resolved.step_key, resolved.failure.as_ref(), true, false),
            v1::Resolution::NotApplied | v1::Resolution::Retry | v1::Resolution::Unspecified => None,
        },
        // A zone's value that is an answer of its own stands in its record.
        Body::ZoneCommitted(zone) => {
            made(&zone.zone_key, zone.output.as_ref().or(zone.record.as_ref()), false, false)
        }
        Body::ZoneFailed(zone) if zone.r#final => made(&zone.zone_key, zone.failure.as_ref(), true, false),
        Body::ForkEdited(edited) if !edited.step_key.is_empty() => match edited.edit.as_ref()? {
            v1::fork_edited::Edit::Output(output) => made(&edited.step_key, Some(output), false, true),
            v1::fork_edited::Edit::Failure(failure) => made(&edited.step_key, Some(failure), true, true),
            v1::fork_edited::Edit::Input(_) => None,
        },
        _ => None,
    }
}

/// The content alone; where it cannot be read, what names it.
fn shown(content: &v1::Payload) -> Value {
    let mut shown = payload::json(content);
    match shown.as_object_mut().and_then(|fields| fields.remove("value")) {
        Some(value) => value,
        None => shown,
    }
}

fn spent(event: &v1::Event) -> (u64, i64) {
    let (usages, own): (Vec<&v1::Usage>, i64) = match &event.body {
        Some(Body::StepCompleted(step)) => {
            (step.llm.iter().filter_map(|call| call.usage.as_ref()).collect(), step.cost_nanos)
        }
        Some(Body::StepFailed(step)) => (step.usage.iter().collect(), 0),
        Some(Body::ZoneCommitted(zone)) => {
            (zone.llm_calls.iter().filter_map(|call| call.usage.as_ref()).collect(), zone.cost_nanos)
        }
        Some(Body::ZoneFailed(zone)) => (zone.usage.iter().collect(), 0),
        _ => (Vec::new(), 0),
    };
    usages.iter().fold((0, own), |(tokens, nanos), usage| {
        let used =
            usage.input_tokens + usage.cached_read_tokens + usage.cache_write_tokens + usage.output_tokens;
        (tokens + used, nanos + usage.cost_nanos.unwrap_or(0))
    })
}
