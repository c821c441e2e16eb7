//! Payload bytes on their way in: hashed, cut into chunks, compressed. Runs in rpc tasks; the write path behind the
//! queue only moves what was made here.
//!
//! 1. A payload of at most `inline_bytes_max` follows its event's header; a larger one lies beside it as chunks.
//! 2. Chunks are named by the payload's digest, so that equal payloads of a lineage are stored once.

use std::sync::Arc;

use bytes::Bytes;

use super::digest::{self, Salt};
use crate::graph::command::{Code, Rejection};
use crate::graph::event::{Format, PayloadRef};
use crate::graph::ids::Digest;
use crate::storage::codec;

/// Limits on payloads, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest payload stored inside its event.
    pub inline_bytes_max: usize,
    /// Size of the chunks of larger ones; at most `codec::CHUNK_BYTES_MAX`.
    pub chunk_bytes: usize,
    /// Largest payload accepted at all.
    pub payload_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inline_bytes_max: 8 * 1024,
            chunk_bytes: codec::CHUNK_BYTES_MAX,
            payload_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// A payload as a caller sent it.
#[derive(Clone, Debug)]
pub struct PayloadIn {
    /// How to read it.
    pub format: Format,
    /// Caller's own codec; empty: none.
    pub codec: Arc<str>,
    /// Content.
    pub bytes: Bytes,
}

/// A chunk ready to be put beside an event.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Digest of the whole payload.
    pub digest: Digest,
    /// Which chunk, from 0.
    pub n: u32,
    /// In its envelope.
    pub value: Bytes,
}

/// The payload bytes of one command.
#[derive(Clone, Debug)]
pub struct Blobs {
    salt: Salt,
    limits: Limits,
    inline: Vec<(Digest, Bytes)>,
    chunks: Vec<Chunk>,
    rows: Vec<(Bytes, Option<Bytes>)>,
}

impl Blobs {
    /// Starts collecting under a lineage's salt.
    #[must_use]
    pub fn new(salt: &Salt, limits: &Limits) -> Self {
        Self { salt: *salt, limits: *limits, inline: Vec::new(), chunks: Vec::new(), rows: Vec::new() }
    }

    /// Takes a payload in and returns what its event will say of it.
    ///
    /// # Errors
    /// `invalid_argument` for more than `payload_bytes_max` bytes.
    pub fn add(&mut self, payload: PayloadIn) -> Result<PayloadRef, Rejection> {
        let PayloadIn { format, codec, bytes } = payload;
        if bytes.len() > self.limits.payload_bytes_max {
            return Err(too_large(bytes.len(), self.limits.payload_bytes_max));
        }
        let digest = digest::content(&self.salt, &bytes);
        let inline = bytes.len() <= self.limits.inline_bytes_max;
        let size = bytes.len() as u64;
        if inline {
            self.inline.push((digest, bytes));
        } else {
            self.cut(digest, &bytes);
        }
        Ok(PayloadRef { format, codec, size, digest, inline })
    }

    fn cut(&mut self, digest: Digest, bytes: &Bytes) {
        for (n, part) in (0u32..).zip(bytes.chunks(self.limits.chunk_bytes)) {
            self.chunks.push(Chunk { digest, n, value: codec::seal_chunk(part) });
        }
    }

    /// The bytes of an inline payload; `None` if this command brought none with that digest.
    #[must_use]
    pub fn inline(&self, digest: &Digest) -> Option<&Bytes> {
        self.inline.iter().find(|(known, _)| known == digest).map(|(_, bytes)| bytes)
    }

    /// The chunks.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// The chunks, to be put beside the events.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Chunk> {
        self.chunks
    }

    /// Adds a row of a lineage that no event makes: key, and value in its envelope.
    pub fn add_row(&mut self, key: Bytes, value: Bytes) {
        self.rows.push((key, Some(value)));
    }

    /// Takes such a row away.
    pub fn drop_row(&mut self, key: Bytes) {
        self.rows.push((key, None));
    }

    /// Rows that no event makes: of a restore's page, or of a context. `None`: to be taken away.
    #[must_use]
    pub fn rows(&self) -> &[(Bytes, Option<Bytes>)] {
        &self.rows
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let inline: usize = self.inline.iter().map(|(_, bytes)| bytes.len()).sum();
        let rows: usize =
            self.rows.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum();
        rows + inline + self.chunks.iter().map(|chunk| chunk.value.len()).sum::<usize>()
    }
}

fn too_large(size: usize, max: usize) -> Rejection {
    Rejection {
        code: Code::InvalidArgument,
        message: format!(
            "a payload has {size} bytes and payload_bytes_max is {max}: store it elsewhere and pass its address"
        ),
        retry_after_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: usize) -> PayloadIn {
        PayloadIn { format: Format::Bytes, codec: "".into(), bytes: Bytes::from(vec![7; bytes]) }
    }

    #[test]
    fn small_payloads_are_inline_and_large_ones_become_chunks() {
        let mut blobs = Blobs::new(&[1; 32], &Limits::default());
        let small = blobs.add(payload(8 * 1024)).unwrap();
        let large = blobs.add(payload(600 * 1024)).unwrap();
        assert!(small.inline && !large.inline); // 1
        assert_eq!(blobs.inline(&small.digest).unwrap().len(), 8 * 1024);
        let chunks = blobs.into_chunks();
        assert_eq!(chunks.iter().map(|chunk| chunk.n).collect::<Vec<_>>(), [0, 1, 2]);
        let whole: usize =
            chunks.iter().map(|chunk| codec::open_chunk(b"k", &chunk.value).unwrap().len()).sum();
        assert_eq!(whole, 600 * 1024);
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_with_the_limits_name() {
        let limits = Limits { payload_bytes_max: 10, ..Limits::default() };
        let refused = Blobs::new(&[1; 32], &limits).add(payload(11)).unwrap_err();
        assert!(refused.message.contains("payload_bytes_max"), "{refused:?}");
    }
}
