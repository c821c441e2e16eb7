//! Payloads on their way in: which formats fit which field, where the bytes are, and into the command's blobs.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::enums;
use super::fields::{self, Field};
use super::limits;
use crate::graph::command::Rejection;
use crate::graph::event::{Format, PayloadRef};
use crate::ledger::digest::Salt;
use crate::ledger::{Blobs, PayloadIn};

/// Which formats a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// A value of the caller.
    Value,
    /// A value of the caller, a model's answer, or what a prompt was made of.
    Outcome,
    /// A `StepFailure`.
    Failure,
    /// What a pause shows: a value or a `StepFailure`.
    Details,
    /// Uninterpreted bytes.
    Bytes,
    /// An `LlmRequest`.
    LlmRequest,
    /// An `LlmResponse`.
    LlmResponse,
    /// A `StateDelta`.
    StateDelta,
    /// A `ConversationDelta`.
    ConversationDelta,
    /// A `ZoneRecord`.
    ZoneRecord,
}

impl Fits {
    /// The formats that fit.
    #[must_use]
    pub const fn formats(self) -> &'static [Format] {
        match self {
            Self::Value => &[Format::Value, Format::Json, Format::Bytes],
            Self::Outcome => {
                &[Format::Value, Format::Json, Format::Bytes, Format::LlmResponse, Format::Context]
            }
            Self::Failure => &[Format::Failure],
            Self::Details => &[Format::Value, Format::Json, Format::Bytes, Format::Failure],
            Self::Bytes => &[Format::Bytes],
            Self::LlmRequest => &[Format::LlmRequest],
            Self::LlmResponse => &[Format::LlmResponse],
            Self::StateDelta => &[Format::StateDelta],
            Self::ConversationDelta => &[Format::ConversationDelta],
            Self::ZoneRecord => &[Format::ZoneRecord],
        }
    }

    fn refuse(self, field: Field) -> Rejection {
        let names: Vec<&str> =
            self.formats().iter().map(|f| enums::format_to_wire(*f).as_str_name()).collect();
        Field(field.0, field.1).must(format_args!("have the format {}", names.join(" or ")))
    }
}

/// Where a command's payloads come from and go to.
pub struct Intake<'a> {
    /// Takes the bytes; under the salt of the session's lineage.
    pub blobs: &'a mut Blobs,
    /// Salt of the session's namespace, for digests that are compared across lineages.
    pub namespace_salt: &'a Salt,
    /// Bytes that came before as pieces, by transfer id; unary calls have none.
    pub transfers: &'a mut (dyn FnMut(u64) -> Option<Bytes> + Send),
}

impl Intake<'_> {
    /// Takes in a payload that may not be absent.
    pub(super) fn required(
        &mut self,
        field: Field,
        payload: Option<v1::Payload>,
        fits: Fits,
    ) -> Result<PayloadRef, Rejection> {
        let payload = field.set(payload)?;
        self.take(field, payload, fits)
    }

    /// Takes in a payload if there is one.
    pub(super) fn optional(
        &mut self,
        field: Field,
        payload: Option<v1::Payload>,
        fits: Fits,
    ) -> Result<Option<PayloadRef>, Rejection> {
        payload.map(|payload| self.take(field, payload, fits)).transpose()
    }

    /// Takes in a payload.
    pub(super) fn take(
        &mut self,
        field: Field,
        payload: v1::Payload,
        fits: Fits,
    ) -> Result<PayloadRef, Rejection> {
        let parsed = parse(field, payload, fits, self.transfers)?;
        self.blobs.add(parsed)
    }
}

/// True for a payload that says that there is nothing: all fields unset, or `absent`.
pub(super) fn is_nothing(payload: &v1::Payload) -> bool {
    match &payload.body {
        None => payload.format == 0,
        Some(v1::payload::Body::Absent(absent)) => *absent,
        Some(v1::payload::Body::Data(_) | v1::payload::Body::TransferId(_)) => false,
    }
}

/// Reads a payload: format, codec and bytes.
pub(super) fn parse(
    field: Field,
    payload: v1::Payload,
    fits: Fits,
    transfers: &mut (dyn FnMut(u64) -> Option<Bytes> + Send),
) -> Result<PayloadIn, Rejection> {
    let format = enums::format_from_wire(payload.format).filter(|format| fits.formats().contains(format));
    let format = format.ok_or_else(|| fits.refuse(field))?;
    let codec: Arc<str> = fields::name(field, payload.codec, limits::CODEC)
        .map_err(|_| field.must("name a codec of at most 64 bytes without control characters, or none"))?;
    let bytes = match field.set(payload.body)? {
        v1::payload::Body::Data(bytes) => bytes,
        v1::payload::Body::TransferId(id) => transferred(field, id, payload.size_bytes, transfers)?,
        v1::payload::Body::Absent(_) => {
            return Err(field.must("carry its bytes: absent is only for what the engine sends"));
        }
    };
    Ok(PayloadIn { format, codec, bytes })
}

fn transferred(
    field: Field,
    id: u64,
    size: u64,
    transfers: &mut (dyn FnMut(u64) -> Option<Bytes> + Send),
) -> Result<Bytes, Rejection> {
    let bytes = transfers(id).ok_or_else(|| {
        field.must(format_args!(
            "refer to a transfer whose last piece was sent before on the same stream; {id} is none (unary calls send data)"
        ))
    })?;
    if size != bytes.len() as u64 {
        let sent = bytes.len();
        return Err(
            field.must(format_args!("say its size: size_bytes is {size} and {sent} bytes came as pieces"))
        );
    }
    Ok(bytes)
}
