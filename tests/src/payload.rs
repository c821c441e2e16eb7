//! Payloads to send and to compare.

use cellaflow_proto::content::StepFailure;
use cellaflow_proto::v1;
use cellaflow_proto::v1::payload::Body;
use cellaflow_proto::v1::{Payload, PayloadFormat};
use prost::Message as _;

/// Bytes of a payload in one message of a channel; larger ones go as pieces of this size.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// A payload with its bytes inside.
pub fn of(format: PayloadFormat, data: impl Into<Vec<u8>>) -> Payload {
    let data: Vec<u8> = data.into();
    Payload {
        format: format.into(),
        size_bytes: data.len() as u64,
        body: Some(Body::Data(data.into())),
        ..Payload::default()
    }
}

/// Plain JSON, as it is written.
pub fn literal(text: &str) -> Payload {
    of(PayloadFormat::Json, text)
}

/// Uninterpreted bytes.
pub fn bytes(data: impl Into<Vec<u8>>) -> Payload {
    of(PayloadFormat::Bytes, data)
}

/// A failure with a code.
pub fn failure(code: &str) -> Payload {
    let failure = StepFailure { code: code.to_owned(), message: code.to_owned(), ..StepFailure::default() };
    of(PayloadFormat::Failure, failure.encode_to_vec())
}

/// The bytes of a payload that carries them.
pub fn data(payload: &Payload) -> &[u8] {
    match &payload.body {
        Some(Body::Data(data)) => data,
        other => panic!("the payload carries no bytes: {other:?}"),
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64*
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(length);
    out
}

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

/// A JSON text of that many bytes that does not compress.
pub fn noise_literal(length: usize) -> Payload {
    let letters: String = noise(7, length).into_iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    literal(&format!("\"{letters}\""))
}
