//! The stored form of an event: header length, header, inline payloads.
//!
//! Owns the layout of a record, the hash chain and the conversion between events and their stored headers. Never
//! compresses, never checks a payload's digest (its salt is the lineage's).
//!
//! R1. The chain covers the header's bytes as stored: `hash(n) = blake3(hash(n-1) || header)`, `hash(0)` is 32 zeros.
//! R2. Inline payloads follow the header in the order of `Event::payloads`, each as long as its reference says.
//! R3. What this version does not know (an enum value, a field, a kind of event) or misses is an error that names it.
//! R4. The bytes of every kind of event are pinned by golden tests: what was written stays readable for ever.
//!
//! ```text
//! header length 4, big-endian | header: disk.v1.EventHeader | inline payload | inline payload ...
//! ```

mod from_disk;
mod to_disk;
mod tree;
mod waits;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use cellaflow_proto::disk;
use prost::Message;

use super::fields::{Malformed, malformed, whole};
use crate::graph::event::{Event, PayloadRef};
use crate::graph::ids::Hash;

const LENGTH_BYTES: usize = 4;

/// An event as it is stored, before its envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The whole record.
    pub bytes: Bytes,
    /// Where in it the header lies.
    pub header: Range<usize>,
}

impl Encoded {
    /// The bytes that the hash chain covers.
    #[must_use]
    pub fn header_bytes(&self) -> Bytes {
        self.bytes.slice(self.header.clone())
    }
}

/// An event taken out of its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    pub event: Event,
    /// The header as stored, for the chain (R1).
    pub header: Bytes,
    /// Bytes of the inline payloads, in the order of `Event::payloads` where `inline` is set.
    pub inline: Vec<Bytes>,
}

/// Returns the link of the hash chain after `previous` (R1).
#[must_use]
pub fn chain(previous: Hash, header: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(header);
    Hash(*hasher.finalize().as_bytes())
}

/// Encodes an event and the bytes of its inline payloads, given in the order of `Event::payloads`.
///
/// # Errors
/// `Malformed` if `inline` is not what the event's references say (R2).
pub fn encode(event: &Event, inline: &[Bytes]) -> Result<Encoded, Malformed> {
    check_inline(event, inline)?;
    let header = to_disk::header(event);
    let header_bytes = header.encoded_len();
    let length = u32::try_from(header_bytes).map_err(|_| malformed("header", "has more than 4 GiB"))?;
    let inline_bytes = inline.iter().map(Bytes::len).sum::<usize>();
    let mut record = BytesMut::with_capacity(LENGTH_BYTES + header_bytes + inline_bytes);
    record.put_u32(length);
    header.encode(&mut record).expect("a growing buffer takes every message");
    inline.iter().for_each(|bytes| record.put_slice(bytes));
    Ok(Encoded { bytes: record.freeze(), header: LENGTH_BYTES..LENGTH_BYTES + header_bytes })
}

/// Puts a record together again from what the archive keeps of it.
#[must_use]
pub fn record(header: &[u8], inline: &[u8]) -> Bytes {
    let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let mut record = BytesMut::with_capacity(LENGTH_BYTES + header.len() + inline.len());
    record.put_u32(length);
    record.put_slice(header);
    record.put_slice(inline);
    record.freeze()
}

/// Takes a record apart; the parts share its memory.
///
/// # Errors
/// `Malformed` naming the field that is missing, unknown or does not fit (R2, R3).
pub fn decode(record: &Bytes) -> Result<Decoded, Malformed> {
    let mut rest = record.clone();
    let length = take(&mut rest, LENGTH_BYTES, "header length")?;
    let length = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    let header = take(&mut rest, length, "header")?;
    let event = from_disk::event(whole::<disk::EventHeader>(&header, "header")?)?;
    let mut inline = Vec::new();
    for payload in inline_refs(&event) {
        inline.push(take(&mut rest, size(payload)?, "inline payload")?);
    }
    if !rest.is_empty() {
        let surplus = format!("is followed by {} bytes that no field names", rest.len());
        return Err(malformed("inline payload", surplus));
    }
    Ok(Decoded { event, header, inline })
}

fn inline_refs(event: &Event) -> impl Iterator<Item = &PayloadRef> {
    event.payloads().into_iter().filter(|payload| payload.inline)
}

fn check_inline(event: &Event, inline: &[Bytes]) -> Result<(), Malformed> {
    let sizes = inline_refs(event).map(size).collect::<Result<Vec<_>, _>>()?;
    if sizes.iter().eq(inline.iter().map(Bytes::len).collect::<Vec<_>>().iter()) {
        return Ok(());
    }
    Err(malformed("inline payload", "is not as long as its reference says"))
}

fn size(payload: &PayloadRef) -> Result<usize, Malformed> {
    usize::try_from(payload.size).map_err(|_| malformed("size_bytes", "is more than memory holds"))
}

fn take(rest: &mut Bytes, length: usize, field: &'static str) -> Result<Bytes, Malformed> {
    if length > rest.len() {
        let missing = format!("needs {length} bytes and {} are left", rest.len());
        return Err(malformed(field, missing));
    }
    Ok(rest.split_to(length))
}
