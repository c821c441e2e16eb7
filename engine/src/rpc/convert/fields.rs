//! Parsers of single fields. Each names the field it could not read and says what belongs there (V2).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use super::limits::{self, Length};
use crate::graph::command::{Code, Rejection};
use crate::graph::event::Labels;
use crate::graph::ids::{
    DedupeId, Digest, Epoch, InstanceId, NanoDollars, Seq, SessionId, StepKey, TimeMs, TokenId,
};

/// A field as the proto spells it: the message or arm it lies in, and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(pub(super) &'static str, pub(super) &'static str);

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at, name) = self;
        if at.is_empty() { f.write_str(name) } else { write!(f, "{at}.{name}") }
    }
}

impl Field {
    /// Refuses the field: `must` says what belongs there.
    pub(super) fn must(self, must: impl fmt::Display) -> Rejection {
        invalid(format!("{self} must {must}"))
    }

    /// The field's value, which may not be absent.
    pub(super) fn set<T>(self, value: Option<T>) -> Result<T, Rejection> {
        value.ok_or_else(|| self.must("be set"))
    }
}

/// Refuses a request because of what it says.
pub(super) fn invalid(message: String) -> Rejection {
    Rejection { code: Code::InvalidArgument, message, retry_after_ms: None }
}

fn sized(field: Field, length: usize, limit: Length) -> Result<(), Rejection> {
    if (limit.min..=limit.max).contains(&length) {
        return Ok(());
    }
    let Length { min, max } = limit;
    Err(field.must(format_args!("have {min} to {max} bytes; this one has {length}")))
}

/// Text of a bounded length.
pub(super) fn text(field: Field, value: String, limit: Length) -> Result<Arc<str>, Rejection> {
    sized(field, value.len(), limit)?;
    Ok(value.into())
}

/// Text of a bounded length that people read in tables: no control characters.
pub(super) fn name(field: Field, value: String, limit: Length) -> Result<Arc<str>, Rejection> {
    if value.contains(char::is_control) {
        return Err(field.must("hold no control characters"));
    }
    text(field, value, limit)
}

/// Bytes of a bounded length.
pub(super) fn bounded(field: Field, value: &Bytes, limit: Length) -> Result<(), Rejection> {
    sized(field, value.len(), limit)
}

/// A digest, which may not be absent.
pub(super) fn digest(field: Field, value: &Bytes) -> Result<Digest, Rejection> {
    let bytes = <[u8; 32]>::try_from(value.as_ref());
    bytes.map(Digest).map_err(|_| field.must(format_args!("have 32 bytes; this one has {}", value.len())))
}

/// A digest; empty: none.
pub(super) fn optional_digest(field: Field, value: &Bytes) -> Result<Option<Digest>, Rejection> {
    if value.is_empty() { Ok(None) } else { digest(field, value).map(Some) }
}

/// A UUID in its text form.
pub(super) fn uuid<T: FromStr>(field: Field, value: &str) -> Result<T, Rejection> {
    value.parse().map_err(|_| field.must("be a UUID, written as 8-4-4-4-12 hexadecimal digits"))
}

/// An attempt's number.
pub(super) fn attempt(field: Field, value: u32) -> Result<u32, Rejection> {
    let max = limits::ATTEMPTS_MAX;
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(field.must(format_args!("be the attempt's number, 1 to {max}; this one is {value}")))
}

/// A number with an upper bound.
pub(super) fn at_most(field: Field, value: u64, max: u64) -> Result<u64, Rejection> {
    if value <= max {
        Ok(value)
    } else {
        Err(field.must(format_args!("be at most {max}; this one is {value}")))
    }
}

/// A lease's epoch.
pub(super) fn epoch(field: Field, value: u64) -> Result<Epoch, Rejection> {
    if value == 0 { Err(field.must("be the epoch of your lease; it starts at 1")) } else { Ok(Epoch(value)) }
}

/// Money that was spent.
pub(super) fn cost(field: Field, value: i64) -> Result<NanoDollars, Rejection> {
    let max = limits::COST_NANOS_MAX;
    if (0..=max).contains(&value) {
        return Ok(NanoDollars(value));
    }
    Err(field.must(format_args!("be 0 to {max} nano-dollars; this one is {value}")))
}

/// A time; 0: none.
pub(super) fn optional_time(value: u64) -> Option<TimeMs> {
    (value != 0).then_some(TimeMs(value))
}

/// The earliest start of the next attempt, which a final failure has not.
pub(super) fn retry_at(field: Field, value: u64, is_final: bool) -> Result<Option<TimeMs>, Rejection> {
    match optional_time(value) {
        Some(_) if is_final => Err(field.must("be 0 when the failure is final: no attempt follows")),
        at => Ok(at),
    }
}

/// A step or zone key.
pub(super) fn step_key(field: Field, value: String) -> Result<StepKey, Rejection> {
    text(field, value, limits::STEP_KEY)
}

/// Reads a session id.
///
/// # Errors
/// `invalid_argument` if it is not a UUID.
pub fn session_id(value: &str) -> Result<SessionId, Rejection> {
    uuid(Field("", "session_id"), value)
}

/// Reads a worker instance.
///
/// # Errors
/// `invalid_argument` if it is not a UUID.
pub fn instance(value: &str) -> Result<InstanceId, Rejection> {
    uuid(Field("", "instance"), value)
}

/// Reads the id of a token.
///
/// # Errors
/// `invalid_argument` if it is not a UUID.
pub fn token_id(value: &str) -> Result<TokenId, Rejection> {
    uuid(Field("", "token_id"), value)
}

/// Reads a dedupe id; empty: none.
///
/// # Errors
/// `invalid_argument` if it has other than 16 bytes.
pub fn dedupe_id(value: &Bytes) -> Result<Option<DedupeId>, Rejection> {
    if value.is_empty() {
        return Ok(None);
    }
    let field = Field("", "dedupe_id");
    let bytes = <[u8; 16]>::try_from(value.as_ref());
    bytes.map(|id| Some(DedupeId(id))).map_err(|_| field.must("have 16 random bytes, or none"))
}

/// Reads a workflow's name.
///
/// # Errors
/// `invalid_argument` if it is empty, too long or holds control characters.
pub fn workflow(value: String) -> Result<Arc<str>, Rejection> {
    name(Field("", "workflow"), value, limits::WORKFLOW)
}

/// Reads a workflow's version.
///
/// # Errors
/// `invalid_argument` if it is empty, too long or holds control characters.
pub fn version(value: String) -> Result<Arc<str>, Rejection> {
    name(Field("", "version"), value, limits::VERSION)
}

/// Reads the caller's key of a session; empty: none.
///
/// # Errors
/// `invalid_argument` if it is too long.
pub fn session_key(value: String) -> Result<Option<Arc<str>>, Rejection> {
    let key = text(Field("", "key"), value, limits::SESSION_KEY)?;
    Ok((!key.is_empty()).then_some(key))
}

/// Reads the name of a token.
///
/// # Errors
/// `invalid_argument` if it is empty, too long or holds control characters.
pub fn token_name(value: String) -> Result<Arc<str>, Rejection> {
    name(Field("", "name"), value, limits::TOKEN_NAME)
}

/// Reads why somebody does something to a session; empty: not said.
///
/// # Errors
/// `invalid_argument` if it is too long.
pub fn reason(value: String) -> Result<Arc<str>, Rejection> {
    text(Field("", "reason"), value, limits::REASON)
}

/// Reads the first seq wanted: 0 and 1 both mean the start.
pub fn from_seq(value: u64) -> Seq {
    Seq(value.max(1))
}

/// Labels, sorted by key; their limits are the graph's.
pub fn labels(labels: std::collections::HashMap<String, String>) -> Labels {
    let mut sorted: Labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    sorted.sort();
    sorted
}
