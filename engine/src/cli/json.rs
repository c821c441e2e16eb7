//! `--json`: messages of the wire contract as JSON, for programs.
//!
//! The field names are those of `cellaflow.v1`, which the .proto files document and which never change meaning; so a
//! program written against the contract reads this output, too. Rules:
//! - J1 Every field is there, with its default if it was not set; an absent message is `null`. Of a oneof only the arm
//!   that is set is there. An event says in `type` which one.
//! - J2 Numbers are numbers, times are ms since the Unix epoch, costs are nano-dollars, bytes are hexadecimal.
//! - J3 The words of enums are in small letters without their prefix: `SESSION_STATUS_PAUSED` is `"paused"`.
//! - J4 A payload is `format`, `codec`, `size_bytes`, `digest`, and `value` if its bytes are here and can be read
//!   (see `payload`); `"absent": true` if they were erased or left out.

use std::sync::LazyLock;

use cellaflow_proto::{content, v1};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage as _,
};
use serde_json::{Map, Value, json};

use super::{payload, value};

/// A message that can be shown as JSON.
pub(super) trait Shown: prost::Message {
    /// Full name.
    const NAME: &'static str;
}

macro_rules! shown {
    ($($message:ty = $name:literal;)+) => {
        $( impl Shown for $message { const NAME: &'static str = $name; } )+
        #[cfg(test)]
        const NAMES: &[&str] = &[$( $name ),+];
    };
}

shown! {
    v1::BackupLedgerResponse = "cellaflow.v1.BackupLedgerResponse";
    v1::BudgetState = "cellaflow.v1.BudgetState";
    v1::EraseLineageResponse = "cellaflow.v1.EraseLineageResponse";
    v1::Event = "cellaflow.v1.Event";
    v1::GetSessionResponse = "cellaflow.v1.GetSessionResponse";
    v1::GetStatusResponse = "cellaflow.v1.GetStatusResponse";
    v1::HoldLineageResponse = "cellaflow.v1.HoldLineageResponse";
    v1::Payload = "cellaflow.v1.Payload";
    v1::Session = "cellaflow.v1.Session";
    v1::SignalSessionResponse = "cellaflow.v1.SignalSessionResponse";
    v1::Token = "cellaflow.v1.Token";
    v1::VerifyFault = "cellaflow.v1.VerifyFault";
    v1::VerifySummary = "cellaflow.v1.VerifySummary";
    v1::Wait = "cellaflow.v1.Wait";
    v1::WorkflowVersion = "cellaflow.v1.WorkflowVersion";
    content::StepFailure = "cellaflow.content.v1.StepFailure";
    content::Message = "cellaflow.content.v1.Message";
    content::LlmRequest = "cellaflow.content.v1.LlmRequest";
    content::LlmResponse = "cellaflow.content.v1.LlmResponse";
    content::StateDelta = "cellaflow.content.v1.StateDelta";
    content::ConversationDelta = "cellaflow.content.v1.ConversationDelta";
    content::ZoneRecord = "cellaflow.content.v1.ZoneRecord";
    content::ContextUsed = "cellaflow.content.v1.ContextUsed";
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(cellaflow_proto::DESCRIPTORS).expect("the compiler wrote these descriptors")
});

/// Shows a message.
pub(super) fn of<M: Shown>(message: &M) -> Value {
    read::<M>(&message.encode_to_vec()).unwrap_or(Value::Null)
}

/// Shows an encoded message; `None` if the bytes are not one.
pub(super) fn read<M: Shown>(bytes: &[u8]) -> Option<Value> {
    let descriptor = POOL.get_message_by_name(M::NAME)?;
    DynamicMessage::decode(descriptor, bytes).ok().map(|message| object(&message))
}

fn object(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        v1::Payload::NAME => {
            let payload = message.transcode_to::<v1::Payload>();
            payload.map_or(Value::Null, |payload| payload::json(&payload))
        }
        v1::Event::NAME => event(message, &descriptor),
        _ => Value::Object(fields(message, &descriptor)),
    }
}

/// The type stands before what it explains (J1).
fn event(message: &DynamicMessage, descriptor: &MessageDescriptor) -> Value {
    let mut shown = fields(message, descriptor);
    let arm = descriptor
        .fields()
        .find(|field| field.containing_oneof().is_some() && message.has_field(field))
        .map_or_else(|| "unknown".to_owned(), |field| field.name().to_owned());
    shown.insert("type".to_owned(), arm.into());
    Value::Object(shown)
}

fn fields(message: &DynamicMessage, descriptor: &MessageDescriptor) -> Map<String, Value> {
    let mut shown = Map::new();
    for field in descriptor.fields() {
        let is_set = message.has_field(&field);
        if !is_set && field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            continue;
        }
        let value = if !is_set && field.supports_presence() {
            Value::Null
        } else {
            self::field(&message.get_field(&field), &field)
        };
        shown.insert(field.name().to_owned(), value);
    }
    shown
}

fn field(value: &prost_reflect::Value, field: &FieldDescriptor) -> Value {
    use prost_reflect::Value as V;
    match value {
        V::Bool(value) => (*value).into(),
        V::I32(value) => (*value).into(),
        V::I64(value) => (*value).into(),
        V::U32(value) => (*value).into(),
        V::U64(value) => (*value).into(),
        V::F32(value) => (*value).into(),
        V::F64(value) => (*value).into(),
        V::String(value) => value.as_str().into(),
        V::Bytes(bytes) => self::bytes(bytes, field),
        V::EnumNumber(number) => match field.kind() {
            Kind::Enum(descriptor) => word(&descriptor, *number),
            _ => (*number).into(),
        },
        V::Message(message) => object(message),
        V::List(items) => items.iter().map(|item| self::field(item, field)).collect(),
        // The contract has no maps.
        V::Map(_) => Value::Null,
    }
}

/// Documents hold values and JSON in bytes; only what is a hash is one.
fn bytes(bytes: &[u8], field: &FieldDescriptor) -> Value {
    let is_document = field.parent_message().package_name() == "cellaflow.content.v1";
    let is_hash = field.name().ends_with("hash") || field.name().ends_with("digest");
    if is_document && !is_hash {
        return value::read(bytes).unwrap_or_else(|| json!({ "bytes": bytes.len() }));
    }
    hex::encode(bytes).into()
}

/// The small word of an enum's value (J3); a number that this version does not know stays one.
fn word(descriptor: &EnumDescriptor, number: i32) -> Value {
    let Some(value) = descriptor.get_value(number) else { return number.into() };
    let prefix = descriptor.name().chars().fold(String::new(), |mut prefix, letter| {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
        prefix
    });
    let name = value.name();
    let short = name.strip_prefix(&prefix).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name);
    short.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_shown_is_in_the_contract() {
        for name in NAMES {
            assert!(POOL.get_message_by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_stable_names_of_a_session() {
        let session = v1::Session {
            session_id: "s".into(),
            status: v1::SessionStatus::Paused.into(),
            pause_reason: v1::PauseReason::EffectUnknown.into(),
            hash: vec![0xab, 0x01].into(),
            started_ms: 1_732_338_000_123,
            open_intents: vec![v1::OpenIntent {
                step_key: "mail#1".into(),
                policy: v1::GuardPolicy::Pause.into(),
                ..v1::OpenIntent::default()
            }],
            ..v1::Session::default()
        };
        let shown = of(&session);
        assert_eq!(shown["status"], "paused", "J3");
        assert_eq!(shown["pause_reason"], "effect_unknown", "J3");
        assert_eq!(shown["hash"], "ab01", "J2");
        assert_eq!(shown["started_ms"], 1_732_338_000_123_u64, "J2");
        assert_eq!(shown["totals"], Value::Null, "J1");
        assert_eq!(shown["key"], "", "J1");
        assert_eq!(shown["open_intents"][0]["policy"], "pause");
        let fields = POOL.get_message_by_name(v1::Session::NAME).unwrap().fields().len();
        assert_eq!(shown.as_object().unwrap().len(), fields, "J1");
    }

    #[test]
    fn an_event_says_its_type_and_shows_its_payloads() {
        let payload = v1::Payload {
            format: v1::PayloadFormat::Value.into(),
            body: Some(v1::payload::Body::Data(r#"{"files":3}"#.into())),
            ..v1::Payload::default()
        };
        let completed = v1::StepCompleted {
            step_key: "scan#1".into(),
            output: Some(payload),
            resources: vec![v1::Resource { mode: v1::ResourceMode::Read.into(), ..v1::Resource::default() }],
            ..v1::StepCompleted::default()
        };
        let event = v1::Event {
            seq: 3,
            author: v1::Author::Worker.into(),
            body: Some(v1::event::Body::StepCompleted(completed)),
            ..v1::Event::default()
        };
        let shown = of(&event);
        assert_eq!(
            (&shown["type"], &shown["seq"], &shown["author"]),
            (&json!("step_completed"), &json!(3), &json!("worker"))
        );
        assert_eq!(shown["step_completed"]["output"]["value"], json!({ "files": 3 }));
        assert_eq!(shown["step_completed"]["resources"][0]["mode"], "read");
        assert!(shown.get("session_started").is_none(), "J1: other arms are not there");
    }

    #[test]
    fn a_document_shows_its_values_and_its_hashes() {
        let delta = content::StateDelta {
            writes: vec![content::StateWrite { key: "n".into(), value: Some(b"[1,2]".as_slice().into()) }],
        };
        assert_eq!(of(&delta)["writes"][0]["value"], json!([1, 2]));
        let request =
            content::LlmRequest { running_hash: vec![1, 2].into(), ..content::LlmRequest::default() };
        assert_eq!(of(&request)["running_hash"], "0102");
        assert!(read::<content::StepFailure>(&[0xff]).is_none());
    }
}
