//! Payloads as thin clients write and read them.

use cellaflow_proto::v1;
use cellaflow_proto::v1::payload::Body;

/// Makes a JSON payload.
pub fn json(value: &serde_json::Value) -> v1::Payload {
    v1::Payload {
        format: v1::PayloadFormat::Json.into(),
        body: Some(Body::Data(value.to_string().into())),
        ..v1::Payload::default()
    }
}

/// Returns the bytes of a payload as text; panics if they are not here.
pub fn text(payload: &v1::Payload) -> &str {
    let Some(Body::Data(bytes)) = &payload.body else { panic!("a payload without bytes: {payload:?}") };
    std::str::from_utf8(bytes).unwrap()
}
