//! Who may call: bearer tokens, roles, and the one table of which role may call what.
//!
//! Owns: the check of every request before any service sees it, and of every open stream while it lasts. Never: stores
//! a token (only blake3 hashes are known), decides about sessions, or logs a secret.
//!
//! Invariants:
//! - A1 A request without a valid token reaches no service but health.
//! - A2 A method that is not in [`access`]'s table is refused for everyone: a new RPC is closed until it is listed.
//! - A3 Both directions of an open stream end within [`RECHECK`] of its token's expiry or revocation.
//! - A4 A refusal says what to do and never quotes what was presented.
//! - A5 A principal sees one namespace (an admin's may be "*", all of them). Handlers ask [`Principal::namespace_for`]
//!   for the namespace they work in and [`Principal::sees`] before they show anything they found by id.

pub mod access;
mod body;
mod layer;
mod lookup;
mod message;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crate::graph::event::Role;
pub use layer::{Auth, AuthLayer, layer};
pub use lookup::{AnyOf, StaticTokens, TokenLookup};
pub use message::check_worker_message;

use crate::clock::{Clock, rfc3339};
use crate::config::tokens::is_namespace;
use crate::graph::ids::{Namespace, TokenId};

/// Namespace of an admin token that sees all of them.
pub const EVERY_NAMESPACE: &str = "*";

/// Namespace meant by such a token when a request names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How often the token of an open stream is looked up again (A3).
pub const RECHECK: Duration = Duration::from_millis(500);

impl Role {
    /// Every role, in the order of its declaration.
    pub const ALL: [Self; 5] = [Self::Worker, Self::Client, Self::Compactor, Self::Viewer, Self::Admin];

    /// Returns the role's name in configuration, CLI and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Compactor => "compactor",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }

    /// Returns the role called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who a request comes from; found in the extensions of every request but health's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Public id of the token; not a secret.
    pub token_id: TokenId,
    /// Name of the token in logs and events; not a secret.
    pub name: Arc<str>,
    /// What the bearer may do.
    pub role: Role,
    /// The only namespace the bearer sees, or [`EVERY_NAMESPACE`] (A5).
    pub namespace: Namespace,
    /// Wall time in milliseconds from which the token is refused; `None`: never.
    pub expires_ms: Option<u64>,
}

impl Principal {
    /// Says whether the bearer may see what belongs to `namespace`. If not, answer as if it did not exist.
    pub fn sees(&self, namespace: &str) -> bool {
        *self.namespace == *namespace || (self.role == Role::Admin && &*self.namespace == EVERY_NAMESPACE)
    }

    /// Returns the namespace a request works in; `requested` is the request's own field, empty for the token's.
    ///
    /// # Errors
    /// [`Refusal::Namespace`] when the bearer does not see it or it cannot be a namespace.
    pub fn namespace_for(&self, requested: &str) -> Result<Namespace, Refusal> {
        match requested {
            "" if &*self.namespace == EVERY_NAMESPACE => Ok(DEFAULT_NAMESPACE.into()),
            "" => Ok(Arc::clone(&self.namespace)),
            asked if self.sees(asked) && is_namespace(asked) => Ok(asked.into()),
            _ => Err(Refusal::Namespace { own: Arc::clone(&self.namespace) }),
        }
    }
}

/// Why a request or a stream was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no usable `authorization` header.
    Missing,
    /// The token is not known, or no longer.
    Unknown,
    /// The token's time is over.
    Expired {
        /// Its name.
        name: Arc<str>,
        /// When it ended, in wall milliseconds.
        at_ms: u64,
    },
    /// The token's role may not call this method or send this message.
    Role {
        /// Its role.
        role: Role,
        /// Roles that may.
        needed: &'static [Role],
        /// Method path, or message and arm.
        what: String,
    },
    /// The token belongs to another namespace than the request's.
    Namespace {
        /// The token's.
        own: Namespace,
    },
    /// No such method is listed (A2).
    Unlisted {
        /// Method path.
        what: String,
    },
}

impl Refusal {
    /// Returns a stable word for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Expired { .. } => "expired",
            Self::Role { .. } => "role",
            Self::Namespace { .. } => "namespace",
            Self::Unlisted { .. } => "unlisted",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "no token: send the header `authorization: Bearer cf_…`; `cellaflow connect --env` prints the token of a dev engine",
            ),
            Self::Unknown => f.write_str(
                "this token is not known to the engine or was revoked: check that url and token belong together, \
                 or ask an admin for `cellaflow tokens create`",
            ),
            Self::Expired { name, at_ms } => write!(
                f,
                "token {name} expired at {}: ask an admin for `cellaflow tokens create`",
                rfc3339(*at_ms)
            ),
            Self::Role { role, needed, what } => {
                let names: Vec<&str> = needed.iter().map(|role| role.name()).collect();
                write!(f, "a {role} token may not use {what}: use a token with role {}", names.join(" or "))
            }
            Self::Namespace { own } => write!(
                f,
                "this token belongs to namespace {own}: leave the request's namespace empty, or use another token"
            ),
            Self::Unlisted { what } => {
                write!(f, "this engine serves no {what}: check that the versions of client and engine fit")
            }
        }
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Missing | Refusal::Unknown | Refusal::Expired { .. } => Self::unauthenticated(message),
            Refusal::Role { .. } | Refusal::Namespace { .. } => Self::permission_denied(message),
            Refusal::Unlisted { .. } => Self::unimplemented(message),
        }
    }
}

/// What the layer needs to judge a request, and a stream to judge itself again.
#[derive(Clone)]
pub struct Gate {
    tokens: Arc<dyn TokenLookup>,
    clock: Arc<dyn Clock>,
    recheck: Duration,
}

impl Gate {
    /// Creates a gate over the known tokens.
    pub fn new(tokens: Arc<dyn TokenLookup>, clock: Arc<dyn Clock>) -> Self {
        Self { tokens, clock, recheck: RECHECK }
    }

    /// Returns who holds the token with this hash, now.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] or [`Refusal::Expired`].
    pub fn find(&self, hash: &[u8; 32]) -> Result<Principal, Refusal> {
        let principal = self.tokens.find(hash).ok_or(Refusal::Unknown)?;
        match principal.expires_ms {
            Some(at_ms) if at_ms <= self.clock.wall_ms() => {
                Err(Refusal::Expired { name: principal.name, at_ms })
            }
            _ => Ok(principal),
        }
    }
}

#[cfg(test)]
mod tests;
