//! Randomness and identifiers enter the engine here.
//!
//! Owns: minting ids, salts and secrets. Never: reads them back, compares them or gives them meaning beyond their bits.
//!
//! Invariants:
//! - I1 A session id is a UUIDv7: 48 bits of wall milliseconds, 12 *tree bits* (the UUID's `rand_a`), 62 random bits.
//! - I2 The tree bits are random for the top session of a tree and copied to children and forks, so that a tree can
//!   later be routed to one shard by them.
//! - I3 Salts and secrets are 256 bits from the operating system.

use std::sync::Arc;

use crate::clock::Clock;
use crate::graph::ids::{ClaimId, DedupeId, Incarnation, LineageId, SessionId, TokenId};

/// Prefix of every bearer token, so that secret scanners and people recognise one.
pub const TOKEN_PREFIX: &str = "cf_";

/// Where random bytes come from.
#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<parking_lot::Mutex<blake3::OutputReader>>),
}

/// Mints identifiers, salts and secrets.
#[derive(Clone)]
pub struct Mint {
    clock: Arc<dyn Clock>,
    source: Source,
}

impl Mint {
    /// Creates a mint over the operating system's randomness.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, source: Source::System }
    }

    /// Creates a mint whose randomness repeats for the same seed; for tests and simulations only.
    pub fn seeded(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("cellaflow test randomness");
        hasher.update(&seed.to_be_bytes());
        Self { clock, source: Source::Seeded(Arc::new(parking_lot::Mutex::new(hasher.finalize_xof()))) }
    }

    /// Mints the id of a session at the top of a new tree, with fresh tree bits (I2).
    pub fn top(&self) -> SessionId {
        SessionId(self.unrelated())
    }

    /// Mints the id of a child or fork in the tree of `relative` (I2).
    pub fn related(&self, relative: SessionId) -> SessionId {
        SessionId(self.uuid_v7(tree_bits(relative)))
    }

    /// Mints the id of a lineage that begins with `root`, in its tree, so that both lead to the same shard (I2).
    pub fn lineage(&self, root: SessionId) -> LineageId {
        LineageId(self.uuid_v7(tree_bits(root)))
    }

    /// Mints the public name of a token.
    pub fn token_id(&self) -> TokenId {
        TokenId(self.unrelated())
    }

    /// Mints a name for one append by a client, driver or operator that brought none.
    pub fn dedupe(&self) -> DedupeId {
        DedupeId(self.unrelated())
    }

    /// Mints the name of a claim on lineages.
    pub fn claim(&self) -> ClaimId {
        ClaimId(self.unrelated())
    }

    /// Mints the name of one life of the ledger; also serves as the ledger's own id.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.unrelated())
    }

    /// Mints a 256-bit salt of a lineage or a namespace (I3).
    pub fn salt(&self) -> [u8; 32] {
        self.random()
    }

    /// Mints a bearer token: `cf_` and 64 hexadecimal digits (I3).
    pub fn token(&self) -> String {
        format!("{TOKEN_PREFIX}{}", hex::encode(self.random::<32>()))
    }

    /// Returns `N` random bytes.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's randomness")]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.source {
            Source::System => getrandom::fill(&mut bytes).expect(
                "the operating system has a random number generator; nothing safe can be done without",
            ),
            Source::Seeded(stream) => stream.lock().fill(&mut bytes),
        }
        bytes
    }

    fn unrelated(&self) -> [u8; 16] {
        let [high, low] = self.random();
        self.uuid_v7(u16::from_be_bytes([high, low]))
    }

    fn uuid_v7(&self, tree_bits: u16) -> [u8; 16] {
        let [_, _, t0, t1, t2, t3, t4, t5] = self.clock.wall_ms().to_be_bytes();
        let [high, low] = (0x7000 | (tree_bits & 0x0fff)).to_be_bytes();
        let [variant, rest @ ..] = self.random::<8>();
        let [r0, r1, r2, r3, r4, r5, r6] = rest;
        let variant = 0x80 | (variant & 0x3f);
        [t0, t1, t2, t3, t4, t5, high, low, variant, r0, r1, r2, r3, r4, r5, r6]
    }
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint").finish_non_exhaustive()
    }
}

/// Returns the 12 tree bits of a session's id (I2).
pub fn tree_bits(session: SessionId) -> u16 {
    let [_, _, _, _, _, _, high, low, ..] = session.0;
    u16::from_be_bytes([high, low]) & 0x0fff
}

/// Returns the digest under which a bearer token is stored and looked up; the token itself is never stored.
pub fn token_hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;

    fn mint() -> Mint {
        Mint::new(Arc::new(Manual::at(0x0123_4567_89ab)))
    }

    #[test]
    fn i1_an_id_is_a_uuid_v7_of_the_clock() {
        let id = uuid::Uuid::from_bytes(mint().top().0);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(&id.as_bytes()[..6], &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab]);
    }

    #[test]
    fn i2_relatives_share_the_tree_bits_and_nothing_else_random() {
        let mint = mint();
        let top = mint.top();
        let child = mint.related(top);
        assert_eq!(tree_bits(child), tree_bits(top));
        assert_ne!(child, top);
        assert_eq!(tree_bits(SessionId(mint.lineage(top).0)), tree_bits(top));
        let distinct: std::collections::BTreeSet<u16> = (0..64).map(|_| tree_bits(mint.top())).collect();
        assert!(distinct.len() > 32, "tops spread over the tree bits, got {}", distinct.len());
    }

    #[test]
    fn i3_tokens_carry_256_bits_and_differ() {
        let (one, two) = (mint().token(), mint().token());
        assert_eq!(one.len(), TOKEN_PREFIX.len() + 64);
        assert_ne!(one, two);
        assert_ne!(token_hash(&one), token_hash(&two));
    }

    #[test]
    fn a_seed_repeats_itself() {
        let clock = Arc::new(Manual::at(7));
        let (one, two) = (Mint::seeded(clock.clone(), 1), Mint::seeded(clock.clone(), 1));
        assert_eq!((one.top(), one.salt()), (two.top(), two.salt()));
        assert_ne!(one.salt(), Mint::seeded(clock, 2).salt());
    }
}
