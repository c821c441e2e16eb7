//! Keys, byte by byte: putting one together and taking it apart. Never knows what a kind byte means.

use bytes::Bytes;

use super::{NAMESPACE_BYTES_MAX, Segment};
use crate::graph::ids::{Digest, LineageId, SessionId};

/// A byte string that is no key of its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a key of this version{}; run the version of the engine that wrote it",
    hex::encode(.key),
    if *.reserved { " (its kind is reserved)" } else { "" }
)]
pub struct BadKey {
    /// The bytes.
    pub key: Vec<u8>,
    /// Its kind has a name already but no use in this version.
    pub reserved: bool,
}

impl BadKey {
    pub(super) fn new(key: &[u8], reserved: &[u8], kind_at: usize) -> Self {
        let reserved = key.get(kind_at).is_some_and(|kind| reserved.contains(kind));
        BadKey { key: key.to_vec(), reserved }
    }
}

/// Builds a key.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn row(kind: u8, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(kind);
        Writer(bytes)
    }

    pub(super) fn ledger(segment: Segment, lineage: LineageId, kind: Option<u8>, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&segment.0.to_be_bytes());
        bytes.extend_from_slice(&lineage.0);
        bytes.extend(kind);
        Writer(bytes)
    }

    pub(super) fn put(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(part);
        self
    }

    pub(super) fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// Takes a key apart.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*part)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn session(&mut self) -> Option<SessionId> {
        self.take().map(SessionId)
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        self.take().map(Digest)
    }

    pub(super) fn rest_as_name(&mut self) -> Option<&'a str> {
        let name = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        (!name.is_empty() && name.len() <= NAMESPACE_BYTES_MAX).then_some(name)
    }

    /// Hands out `key` if nothing is left over.
    pub(super) fn end<K>(&self, key: K) -> Option<K> {
        self.0.is_empty().then_some(key)
    }
}
