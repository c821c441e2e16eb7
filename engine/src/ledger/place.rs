//! Where a session's bytes lie and under which salt: what rpc tasks need before they can submit.

use std::sync::Arc;

use super::digest::Salt;
use crate::graph::ids::{LineageId, Namespace, Seq, SessionId};
use crate::storage::keys::Segment;

/// A lineage, as its sessions' payloads need it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Lineage.
    pub lineage: LineageId,
    /// Segment that holds it now.
    pub segment: Segment,
    /// Salt of its digests.
    pub salt: Salt,
    /// Namespace.
    pub namespace: Namespace,
    /// Root session.
    pub root: SessionId,
    /// Parent of a fork and the last event it has from there: those lie under the parent's name.
    pub forked_from: Option<(SessionId, Seq)>,
    /// A fork that performs no guarded effect.
    pub stubs_effects: bool,
}

/// A namespace.
#[derive(Clone, Debug)]
pub struct NamespaceInfo {
    /// Name.
    pub name: Namespace,
    /// Salt of the digests that are compared across its lineages.
    pub salt: Salt,
    /// Its system session: tokens, claims, archive commits.
    pub system: SessionId,
}

/// Ids and salt for a lineage that a start may create.
#[derive(Clone, Debug)]
pub struct NewLineage {
    /// Session.
    pub session: SessionId,
    /// Lineage.
    pub lineage: LineageId,
    /// Salt.
    pub salt: Salt,
    /// The namespace whose system session this is; it is registered in the same frame.
    pub system_of: Option<Arc<NamespaceInfo>>,
}
