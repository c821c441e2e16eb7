//! Where known tokens are looked up, by hash.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::Principal;
use crate::config::tokens::Entry;
use crate::graph::ids::TokenId;

/// A set of known tokens. Implementations may change over time: open streams ask again.
pub trait TokenLookup: Send + Sync + 'static {
    /// Returns who the token with this blake3 hash belongs to, expired or not; `None` when unknown or revoked.
    fn find(&self, hash: &[u8; 32]) -> Option<Principal>;
}

/// Tokens that are fixed for the life of the process: those of the configuration, or the one of `dev`.
#[derive(Debug, Clone, Default)]
pub struct StaticTokens {
    known: Vec<([u8; 32], Principal)>,
}

impl StaticTokens {
    /// Creates the set of the configuration's tokens.
    pub fn new(entries: &[Entry]) -> Self {
        let known = entries.iter().map(|entry| {
            let principal = Principal {
                token_id: configured_id(&entry.hash),
                name: entry.name.as_str().into(),
                role: entry.role,
                namespace: entry.namespace.as_str().into(),
                expires_ms: entry.expires_ms,
            };
            (entry.hash, principal)
        });
        Self { known: known.collect() }
    }

    /// Everyone in the set.
    pub fn principals(&self) -> impl Iterator<Item = Principal> {
        self.known.iter().map(|(_, principal)| principal.clone())
    }
}

/// Returns the public id of a token that was never minted by the ledger: the same in every process that knows it.
fn configured_id(hash: &[u8; 32]) -> TokenId {
    // Hashed once more: an id is shown around, and must not help to find an entry of a leaked configuration.
    let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *blake3::hash(hash).as_bytes();
    TokenId(uuid::Builder::from_custom_bytes(id).into_uuid().into_bytes())
}

impl TokenLookup for StaticTokens {
    fn find(&self, hash: &[u8; 32]) -> Option<Principal> {
        // All entries are compared, whatever the outcome: time tells neither how many there are nor which one fits.
        let mut found = None;
        for (known, principal) in &self.known {
            if bool::from(known.ct_eq(hash)) {
                found = Some(principal);
            }
        }
        found.cloned()
    }
}

/// Several sets, asked in order: the configuration's first, then those created at run time.
#[derive(Clone)]
pub struct AnyOf(pub Vec<Arc<dyn TokenLookup>>);

impl TokenLookup for AnyOf {
    fn find(&self, hash: &[u8; 32]) -> Option<Principal> {
        self.0.iter().find_map(|set| set.find(hash))
    }
}
