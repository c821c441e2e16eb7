//! Shows payloads: whole for programs, as a short preview for people.

use cellaflow_proto::v1::payload::Body;
use cellaflow_proto::{content, v1};
use prost::Message as _;
use serde_json::{Value, json};

use super::{format, json, value};

/// Larger payloads are only measured for a preview: nobody sees their end, and a line should cost little.
const PREVIEW_BYTES_MAX: usize = 64 * 1024;

/// Uninterpreted bytes up to this size are shown as text, if they are text.
const TEXT_BYTES_MAX: usize = 4_096;

/// Shows a payload for programs (J4).
pub(super) fn json(payload: &v1::Payload) -> Value {
    let mut shown = json!({
        "format": format_name(payload.format()),
        "codec": payload.codec,
        "size_bytes": size(payload),
        "digest": hex::encode(&payload.digest),
    });
    let extra = match (&payload.body, read(payload)) {
        (_, Some(value)) => Some(("value", value)),
        (Some(Body::Absent(_)) | None, None) => Some(("absent", true.into())),
        _ => None,
    };
    if let (Some((name, value)), Some(fields)) = (extra, shown.as_object_mut()) {
        fields.insert(name.to_owned(), value);
    }
    shown
}

/// Shows the beginning of a payload for people; callers cut it to their line.
pub(super) fn preview(payload: &v1::Payload) -> String {
    let size = || format::bytes(size(payload));
    match (data(payload), payload.format()) {
        (None, _) if matches!(payload.body, Some(Body::Absent(_)) | None) => {
            format!("({}, not shown)", size())
        }
        (Some(bytes), v1::PayloadFormat::Failure) => {
            content::StepFailure::decode(bytes).map_or_else(|_| size(), |failure| self::failure(&failure))
        }
        (Some(bytes), v1::PayloadFormat::LlmResponse) => {
            content::LlmResponse::decode(bytes).map_or_else(|_| size(), |response| answer(&response))
        }
        (Some(bytes), _) if bytes.len() > PREVIEW_BYTES_MAX => size(),
        _ => match read(payload) {
            Some(Value::String(text)) => format!("{text:?}"),
            Some(value) => value.to_string(),
            None if payload.codec.is_empty() => size(),
            None => format!("{} in codec {}", size(), payload.codec),
        },
    }
}

/// Says in one sentence why something failed.
pub(super) fn failure(failure: &content::StepFailure) -> String {
    let code = if failure.code.is_empty() { String::new() } else { format!(" [{}]", failure.code) };
    format!("{}{code}: {}", failure.name, failure.message)
}

/// The text of a model's answer, or what it asks for.
fn answer(response: &content::LlmResponse) -> String {
    use content::part::Kind;
    let parts = response.message.iter().flat_map(|message| &message.parts);
    let shown: Vec<String> = parts
        .filter_map(|part| match part.kind.as_ref()? {
            Kind::Text(text) => Some(format!("{text:?}")),
            Kind::ToolCall(call) => Some(format!("calls {}({})", call.name, call.arguments)),
            Kind::Reasoning(_) | Kind::ToolResult(_) | Kind::File(_) | Kind::Custom(_) => None,
        })
        .collect();
    if shown.is_empty() { format!("ended with {}", response.finish_reason) } else { shown.join(" ") }
}

/// The bytes, if they are here.
fn data(payload: &v1::Payload) -> Option<&[u8]> {
    match &payload.body {
        Some(Body::Data(bytes)) => Some(bytes),
        Some(Body::TransferId(_) | Body::Absent(_)) | None => None,
    }
}

/// Size of the content in bytes, wherever it is.
fn size(payload: &v1::Payload) -> u64 {
    match data(payload) {
        Some(bytes) if payload.size_bytes == 0 => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        _ => payload.size_bytes,
    }
}

/// Decodes what can be read without the caller's own codec.
fn read(payload: &v1::Payload) -> Option<Value> {
    use v1::PayloadFormat as Format;
    let bytes = data(payload).filter(|_| payload.codec.is_empty())?;
    match payload.format() {
        Format::Value => value::read(bytes),
        Format::Json => serde_json::from_slice(bytes).ok(),
        Format::Bytes => text(bytes).map(Value::from),
        Format::Failure => json::read::<content::StepFailure>(bytes),
        Format::LlmRequest => json::read::<content::LlmRequest>(bytes),
        Format::LlmResponse => json::read::<content::LlmResponse>(bytes),
        Format::StateDelta => json::read::<content::StateDelta>(bytes),
        Format::ConversationDelta => json::read::<content::ConversationDelta>(bytes),
        Format::ZoneRecord => json::read::<content::ZoneRecord>(bytes),
        Format::Context => json::read::<content::ContextUsed>(bytes),
        Format::Unspecified => None,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= TEXT_BYTES_MAX)?;
    text.chars().all(|letter| !letter.is_control() || letter == '\n').then_some(text)
}

const fn format_name(format: v1::PayloadFormat) -> &'static str {
    use v1::PayloadFormat as Format;
    match format {
        Format::Unspecified => "unspecified",
        Format::Value => "value",
        Format::Json => "json",
        Format::Bytes => "bytes",
        Format::Failure => "failure",
        Format::LlmRequest => "llm_request",
        Format::LlmResponse => "llm_response",
        Format::StateDelta => "state_delta",
        Format::ConversationDelta => "conversation_delta",
        Format::ZoneRecord => "zone_record",
        Format::Context => "context",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(format: v1::PayloadFormat, bytes: &[u8]) -> v1::Payload {
        v1::Payload {
            format: format.into(),
            body: Some(Body::Data(bytes.to_vec().into())),
            digest: vec![0xd1].into(),
            ..v1::Payload::default()
        }
    }

    #[test]
    fn readable_bytes_are_values_and_others_only_size_and_digest() {
        let shown = json(&payload(v1::PayloadFormat::Value, b"[1]"));
        assert_eq!(
            shown,
            json!({ "format": "value", "codec": "", "size_bytes": 3, "digest": "d1", "value": [1] })
        );
        let shown = json(&payload(v1::PayloadFormat::Bytes, &[0, 159]));
        assert_eq!(shown, json!({ "format": "bytes", "codec": "", "size_bytes": 2, "digest": "d1" }));
        let mut encrypted = payload(v1::PayloadFormat::Json, b"[1]");
        encrypted.codec = "aes".into();
        assert!(json(&encrypted).get("value").is_none(), "bytes under a caller's codec are not guessed at");
        assert_eq!(preview(&encrypted), "3 B in codec aes");
    }

    #[test]
    fn erased_bytes_are_said_to_be_absent() {
        let erased = v1::Payload {
            body: Some(Body::Absent(true)),
            size_bytes: 9,
            ..payload(v1::PayloadFormat::Json, b"")
        };
        assert_eq!((&json(&erased)["absent"], &json(&erased)["size_bytes"]), (&json!(true), &json!(9)));
        assert_eq!(preview(&erased), "(9 B, not shown)");
    }

    #[test]
    fn failures_and_answers_read_as_sentences() {
        let failure = content::StepFailure {
            name: "HttpError".into(),
            code: "timeout".into(),
            message: "no answer".into(),
            ..content::StepFailure::default()
        };
        let shown = payload(v1::PayloadFormat::Failure, &failure.encode_to_vec());
        assert_eq!(preview(&shown), "HttpError [timeout]: no answer");
        assert_eq!(json(&shown)["value"]["code"], "timeout");

        let text = content::Part {
            kind: Some(content::part::Kind::Text("Two findings".into())),
            ..content::Part::default()
        };
        let message = content::Message { parts: vec![text], ..content::Message::default() };
        let response = content::LlmResponse { message: Some(message), ..content::LlmResponse::default() };
        let shown = payload(v1::PayloadFormat::LlmResponse, &response.encode_to_vec());
        assert_eq!(preview(&shown), "\"Two findings\"");
    }
}
