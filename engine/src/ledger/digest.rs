//! Keyed digests: what lets the ledger compare contents without keeping them comparable for ever.
//!
//! 1. Every digest is blake3 keyed with a salt that lies in an erasable row; without the salt it means nothing.
//! 2. Parts are length-prefixed, so that no two lists of parts share their bytes.

use crate::graph::ids::Digest;

/// A lineage's or namespace's salt.
pub type Salt = [u8; 32];

/// What a digest is over; first part of every keyed list, assigned once because digests are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session key: workflow, key.
    SessionKey,
    /// A guard: step name, idempotency key.
    Guard,
    /// An input, compared within a namespace.
    Input,
    /// A start without a key that may be retried: dedupe id.
    Start,
}

impl Purpose {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::SessionKey => b"session-key",
            Self::Guard => b"guard",
            Self::Input => b"input",
            Self::Start => b"start",
        }
    }
}

/// Digests a list of parts under `salt`: blake3 keyed, over each part's length (8 bytes, little-endian) and bytes.
pub fn keyed(salt: &Salt, purpose: Purpose, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(salt);
    for part in std::iter::once(purpose.name()).chain(parts.iter().copied()) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Digests a payload's content under its lineage's salt: plain keyed blake3, as stored headers name it.
pub fn content(salt: &Salt, bytes: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(salt, bytes).as_bytes())
}

/// Hashes a step key for index rows: plain blake3, because the key itself stands in the session's events.
pub fn step_key_hash(step_key: &str) -> [u8; 32] {
    *blake3::hash(step_key.as_bytes()).as_bytes()
}

/// Hashes a signal's id for its row: half of a plain blake3, because the id itself stands in the session's events.
pub fn signal_id_hash(id: &str) -> [u8; 16] {
    let hash = *blake3::hash(id.as_bytes()).as_bytes();
    *hash.first_chunk().expect("32 bytes have a first half")
}

/// Hashes a label for its row: half of a plain blake3, because the label itself stands in the session's head.
pub fn label(key: &str, value: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key.as_bytes()).update(value.as_bytes());
    let hash = *hasher.finalize().as_bytes();
    *hash.first_chunk().expect("32 bytes have a first half")
}

/// Names the row of a workflow's version in a namespace: a plain blake3, because the row itself says them.
pub fn workflow(namespace: &str, workflow: &str, version: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in [namespace, workflow, version] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let salt = [7; 32];
        let split = |parts: &[&[u8]]| keyed(&salt, Purpose::Guard, parts);
        assert_ne!(split(&[b"ab", b"c"]), split(&[b"a", b"bc"])); // 2
        assert_ne!(split(&[b"ab"]), keyed(&salt, Purpose::Input, &[b"ab"]));
        assert_ne!(split(&[b"ab"]), keyed(&[8; 32], Purpose::Guard, &[b"ab"])); // 1
    }

    #[test]
    fn stored_digests_keep_their_bytes() {
        let salt = [1; 32];
        let pinned = [
            (keyed(&salt, Purpose::SessionKey, &[b"audit", b"k"]).to_string(), GOLDEN_KEY),
            (content(&salt, b"payload").to_string(), GOLDEN_CONTENT),
        ];
        assert_eq!(hex::encode(label("customer", "42")), GOLDEN_LABEL);
        assert_eq!(workflow("default", "audit", "1").to_string(), GOLDEN_WORKFLOW);
        for (now, then) in pinned {
            assert_eq!(now, then, "a stored digest changed: sessions could no longer be found by key");
        }
    }

    const GOLDEN_KEY: &str = "f0ae0b838c8190173d6af8c08e5c00417768236bee2c73c5e3626499f04c95f0";
    const GOLDEN_WORKFLOW: &str = "d345568137f3f5343ac5d5fec645528dde95191b36b2c44358f18050910824b0";
    const GOLDEN_LABEL: &str = "173a15b722678b47b7bb0592c8936fb2";
    const GOLDEN_CONTENT: &str = "fcdf7e00f554565325fc0f67959d36515695e50ac2d883c2948c78da32c4ba8e";
}
