//! Tokens are journaled in the system session of a namespace; the secret never is, only its hash.
//!
//! T1. Only a system session takes token events.

use super::command::Rejection;
use super::decide::{Decision, check_length, invalid};
use super::draft::Draft;
use super::event::{Author, Body, TokenCreated};
use super::ids::{TimeMs, TokenId};
use super::session::{Head, NAME_BYTES_MAX};

/// A token comes to be.
pub(super) fn create(head: &Head, token: &TokenCreated, now: TimeMs) -> Result<Decision, Rejection> {
    check_length("token's name", &token.name, NAME_BYTES_MAX)?;
    check_length("token's namespace", &token.namespace, NAME_BYTES_MAX)?;
    append(head, Body::TokenCreated(token.clone()), now)
}

/// A token is revoked; whether it exists is known to who holds the token rows. Revoking again changes nothing but the
/// row's time.
pub(super) fn revoke(head: &Head, token: TokenId, now: TimeMs) -> Result<Decision, Rejection> {
    append(head, Body::TokenRevoked { token }, now)
}

fn append(head: &Head, body: Body, now: TimeMs) -> Result<Decision, Rejection> {
    if !head.system {
        return Err(invalid("tokens are kept in a namespace's system session; name that one")); // T1
    }
    let mut draft = Draft::after(head, now);
    let seq = draft.push(Author::Operator(None), body);
    Ok(draft.appended(seq))
}
