//! The stored form of heads and of every other row that is a message of the disk package.
//!
//! Owns their conversion; never decides what a row says (`graph::index` does) nor where it lies (`keys` does).
//!
//! H1. A row reads back as what was written; what this version does not know is an error that names the field.
//! H2. A head within the graph's limits has at most `HEAD_BYTES_MAX` bytes.

mod fork;
mod waits;

use bytes::Bytes;
use cellaflow_proto::disk;
use prost::Message;

use super::archives::{self, SegmentRow};
use super::budgets;
use super::contexts::{self, ContextVersionRow};
use super::fields::{
    Malformed, bytes_of, bytes_or_empty, digest_or_none, exact, exact_or_none, guard_policy_from,
    guard_policy_to, intent_state_from, intent_state_to, labels_from, labels_to, malformed, parent,
    parent_step_key, pause_reason_from, pause_reason_to, present, role_from, role_to, step_state_from,
    step_state_to, text_or_none, top, top_to, whole,
};
use super::guards::{self, GuardOutcomeRow, GuardOwnedRow};
use super::keys::Segment;
use crate::graph::archive::{ArchiveRow, CommitRow, StubRow};
use crate::graph::budget::BudgetRow;
use crate::graph::context::ContextRow;
use crate::graph::ids::{
    DedupeId, Digest, Epoch, Hash, Incarnation, InstanceId, LineageId, Namespace, NanoDollars, Seq,
    SessionId, TimeMs, TokenId,
};
use crate::graph::session::{
    Counters, GuardRow, Head, KeyRow, OpenIntent, OpenZone, SignalRow, Status, StepRow, TokenRow,
};

use crate::graph::version::WorkflowRow;

/// A row that is one message of the disk package.
pub trait Row: Sized {
    /// Encodes the row, without its envelope.
    fn to_bytes(&self) -> Bytes;

    /// Decodes a row out of its envelope.
    ///
    /// # Errors
    /// `Malformed` naming the field that is missing, unknown or does not fit (H1).
    fn from_bytes(bytes: &Bytes) -> Result<Self, Malformed>;
}

/// A head and where its lineage lies now, which is not part of the fold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredHead {
    pub head: Head,
    pub segment: Segment,
}

/// Row of a lineage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineageRow {
    /// `None`: erased, and every digest under it means nothing any more.
    pub salt: Option<[u8; 32]>,
    pub root: SessionId,
    pub namespace: Namespace,
}

/// Row of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceRow {
    pub name: Namespace,
    pub salt: [u8; 32],
    pub system: SessionId,
    pub created: TimeMs,
}

/// The ledger's own row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerRow {
    pub ledger_id: [u8; 16],
    pub incarnation: Incarnation,
    pub created: TimeMs,
}

/// Implements `Row` by a pair of functions.
macro_rules! row {
    ($row:ty, $message:ty, $name:literal, $to:path, $from:path) => {
        impl Row for $row {
            fn to_bytes(&self) -> Bytes {
                $to(self).encode_to_vec().into()
            }

            fn from_bytes(bytes: &Bytes) -> Result<Self, Malformed> {
                $from(whole::<$message>(bytes, $name)?)
            }
        }
    };
}

row!(StoredHead, disk::Head, "head", head_to, head_from);
row!(StepRow, disk::StepRow, "step_row", step_to, step_from);
row!(GuardRow, disk::GuardRow, "guard_row", guard_to, guard_from);
row!(GuardOwnedRow, disk::GuardOwnedRow, "guard_owned_row", guards::owned_to, guards::owned_from);
row!(GuardOutcomeRow, disk::GuardOutcomeRow, "guard_outcome_row", guards::outcome_to, guards::outcome_from);
row!(SignalRow, disk::SignalRow, "signal_row", waits::signal_to, waits::signal_from);
row!(KeyRow, disk::KeyRow, "key_row", key_to, key_from);
row!(LineageRow, disk::LineageRow, "lineage_row", lineage_to, lineage_from);
row!(NamespaceRow, disk::NamespaceRow, "namespace_row", namespace_to, namespace_from);
row!(BudgetRow, disk::BudgetRow, "budget_row", budgets::row_to, budgets::row_from);
row!(WorkflowRow, disk::WorkflowRow, "workflow_row", workflow_to, workflow_from);
row!(ArchiveRow, disk::ArchiveRow, "archive_row", archives::row_to, archives::row_from);
row!(StubRow, disk::StubRow, "stub_row", archives::stub_to, archives::stub_from);
row!(CommitRow, disk::CommitRow, "commit_row", archives::commit_to, archives::commit_from);
row!(SegmentRow, disk::SegmentRow, "segment_row", archives::segment_to, archives::segment_from);
row!(ContextRow, disk::ContextRow, "context_row", contexts::row_to, contexts::row_from);
row!(
    ContextVersionRow,
    disk::ContextVersionRow,
    "context_version_row",
    contexts::version_to,
    contexts::version_from
);
row!(TokenRow, disk::TokenRow, "token_row", token_to, token_from);
row!(LedgerRow, disk::LedgerRow, "ledger_row", ledger_to, ledger_from);

fn head_to(stored: &StoredHead) -> disk::Head {
    let head = &stored.head;
    let (status, pause_reason, pause_step_key) = status_to(&head.status);
    disk::Head {
        session_id: bytes_of(&head.session.0),
        namespace: head.namespace.to_string(),
        workflow: head.workflow.to_string(),
        version: head.version.to_string(),
        generation: head.generation,
        lineage_id: bytes_of(&head.lineage.0),
        root_id: bytes_of(&head.root.0),
        system: head.system,
        status: status as i32,
        pause_reason,
        pause_step_key,
        seq: head.seq.0,
        hash: bytes_of(&head.hash.0),
        time_ms: head.time.0,
        started_ms: head.started.0,
        epoch: head.epoch.0,
        holder: bytes_or_empty(head.holder.map(|holder| holder.0)),
        intents: head.intents.iter().map(intent_to).collect(),
        zones: head.zones.iter().map(zone_to).collect(),
        counters: Some(counters_to(&head.counters)),
        dedupe: head.dedupe.iter().map(dedupe_to).collect(),
        waits: head.waits.iter().map(waits::wait_to).collect(),
        signals: head.signals.iter().map(waits::buffered_to).collect(),
        segment: stored.segment.0,
        spawned_by: bytes_or_empty(head.parent.as_ref().map(|parent| parent.session.0)),
        spawned_by_step_key: parent_step_key(head.parent.as_ref()),
        abandoned: head.parent.as_ref().is_some_and(|parent| parent.abandoned),
        top_id: top_to(head.top, head.session),
        cancel_requested: head.cancel_requested.map_or(0, |seq| seq.0),
        continued_to: bytes_or_empty(head.continued_to.map(|session| session.0)),
        continued_from: bytes_or_empty(head.continued_from.map(|session| session.0)),
        depth: head.depth,
        forked: head.forked.as_ref().map(fork::to),
        budget_owners: head.budget.owners.iter().map(budgets::owner_to).collect(),
        budget_limits: budgets::limits_to(&head.budget.limits),
        budget_spent: budgets::amounts_or_none(head.budget.spent),
        budget_reservations: budgets::reservations_to(head),
        budget_overdue: head.budget.overdue,
        incarnation: bytes_or_empty(head.incarnation.map(|incarnation| incarnation.0)),
        labels: labels_to(&head.labels),
        deadline_ms: head.deadline.map(|deadline| deadline.0),
        owns_keys: head.owns_keys,
    }
}

fn head_from(mut stored: disk::Head) -> Result<StoredHead, Malformed> {
    let budget = budgets::budget_from(&mut stored)?;
    let head = Head {
        session: SessionId(exact(&stored.session_id, "head.session_id")?),
        status: status_from(&stored)?,
        generation: stored.generation,
        lineage: LineageId(exact(&stored.lineage_id, "head.lineage_id")?),
        root: SessionId(exact(&stored.root_id, "head.root_id")?),
        system: stored.system,
        seq: Seq(stored.seq),
        hash: Hash(exact(&stored.hash, "head.hash")?),
        time: TimeMs(stored.time_ms),
        started: TimeMs(stored.started_ms),
        epoch: Epoch(stored.epoch),
        holder: exact_or_none(&stored.holder, "head.holder")?.map(InstanceId),
        intents: each(stored.intents, intent_from)?,
        zones: each(stored.zones, zone_from)?,
        counters: counters_from(&present(stored.counters, "head.counters")?),
        dedupe: each(stored.dedupe, dedupe_from)?,
        forked: stored.forked.map(fork::from).transpose()?,
        waits: each(stored.waits, waits::wait_from)?,
        signals: stored.signals.into_iter().map(waits::buffered_from).collect(),
        parent: parent(&stored.spawned_by, &stored.spawned_by_step_key, stored.abandoned, "head.spawned_by")?,
        top: top(&stored.top_id, &stored.session_id, "head.top_id")?,
        depth: stored.depth,
        incarnation: exact_or_none(&stored.incarnation, "head.incarnation")?.map(Incarnation),
        labels: labels_from(stored.labels),
        deadline: stored.deadline_ms.map(TimeMs),
        owns_keys: stored.owns_keys,
        cancel_requested: (stored.cancel_requested != 0).then_some(Seq(stored.cancel_requested)),
        continued_from: exact_or_none(&stored.continued_from, "head.continued_from")?.map(SessionId),
        continued_to: exact_or_none(&stored.continued_to, "head.continued_to")?.map(SessionId),
        budget,
        namespace: stored.namespace.into(),
        workflow: stored.workflow.into(),
        version: stored.version.into(),
    };
    Ok(StoredHead { head, segment: Segment(stored.segment) })
}

fn status_to(status: &Status) -> (disk::Status, i32, String) {
    let plain = |status| (status, 0, String::new());
    match status {
        Status::Pending => plain(disk::Status::Pending),
        Status::Running => plain(disk::Status::Running),
        Status::Waiting => plain(disk::Status::Waiting),
        Status::Paused { reason, step_key } => (
            disk::Status::Paused,
            pause_reason_to(*reason),
            step_key.as_deref().unwrap_or_default().to_owned(),
        ),
        Status::Completed => plain(disk::Status::Completed),
        Status::Failed => plain(disk::Status::Failed),
        Status::Cancelled => plain(disk::Status::Cancelled),
    }
}

fn status_from(stored: &disk::Head) -> Result<Status, Malformed> {
    let status = match disk::Status::try_from(stored.status) {
        Ok(disk::Status::Pending) => Status::Pending,
        Ok(disk::Status::Running) => Status::Running,
        Ok(disk::Status::Waiting) => Status::Waiting,
        Ok(disk::Status::Paused) => {
            return Ok(Status::Paused {
                reason: pause_reason_from(stored.pause_reason)?,
                step_key: text_or_none(&stored.pause_step_key),
            });
        }
        Ok(disk::Status::Completed) => Status::Completed,
        Ok(disk::Status::Failed) => Status::Failed,
        Ok(disk::Status::Cancelled) => Status::Cancelled,
        Ok(disk::Status::Unspecified) | Err(_) => {
            let problem = format!("has the unknown value {}", stored.status);
            return Err(malformed("head.status", problem));
        }
    };
    if stored.pause_reason != 0 || !stored.pause_step_key.is_empty() {
        return Err(malformed("head.pause_reason", "is set though the session is not paused"));
    }
    Ok(status)
}

fn intent_to(intent: &OpenIntent) -> disk::OpenIntent {
    disk::OpenIntent {
        step_key: intent.step_key.to_string(),
        attempt: intent.attempt,
        seq: intent.seq.0,
        due_ms: intent.due.0,
        policy: guard_policy_to(intent.policy),
        state: intent_state_to(intent.state),
    }
}

fn intent_from(intent: disk::OpenIntent) -> Result<OpenIntent, Malformed> {
    Ok(OpenIntent {
        policy: guard_policy_from(intent.policy)?,
        state: intent_state_from(intent.state)?,
        attempt: intent.attempt,
        seq: Seq(intent.seq),
        due: TimeMs(intent.due_ms),
        step_key: intent.step_key.into(),
    })
}

fn zone_to(zone: &OpenZone) -> disk::OpenZone {
    disk::OpenZone { zone_key: zone.zone_key.to_string(), attempt: zone.attempt, seq: zone.seq.0 }
}

fn zone_from(zone: disk::OpenZone) -> Result<OpenZone, Malformed> {
    Ok(OpenZone { attempt: zone.attempt, seq: Seq(zone.seq), zone_key: zone.zone_key.into() })
}

fn counters_to(counters: &Counters) -> disk::Counters {
    disk::Counters {
        steps: counters.steps,
        llm_calls: counters.llm_calls,
        input_tokens: counters.input_tokens,
        cached_read_tokens: counters.cached_read_tokens,
        cache_write_tokens: counters.cache_write_tokens,
        output_tokens: counters.output_tokens,
        cost_nanos: counters.cost.0,
        wasted_tokens: counters.wasted_tokens,
        wasted_cost_nanos: counters.wasted_cost.0,
        unpriced_calls: counters.unpriced_calls,
        takeovers: counters.takeovers,
    }
}

fn counters_from(counters: &disk::Counters) -> Counters {
    Counters {
        steps: counters.steps,
        llm_calls: counters.llm_calls,
        input_tokens: counters.input_tokens,
        cached_read_tokens: counters.cached_read_tokens,
        cache_write_tokens: counters.cache_write_tokens,
        output_tokens: counters.output_tokens,
        cost: NanoDollars(counters.cost_nanos),
        wasted_tokens: counters.wasted_tokens,
        wasted_cost: NanoDollars(counters.wasted_cost_nanos),
        unpriced_calls: counters.unpriced_calls,
        takeovers: counters.takeovers,
    }
}

fn dedupe_to((id, seq): &(DedupeId, Seq)) -> disk::Dedupe {
    disk::Dedupe { id: bytes_of(&id.0), seq: seq.0 }
}

fn dedupe_from(dedupe: disk::Dedupe) -> Result<(DedupeId, Seq), Malformed> {
    Ok((DedupeId(exact(&dedupe.id, "dedupe.id")?), Seq(dedupe.seq)))
}

fn step_to(row: &StepRow) -> disk::StepRow {
    disk::StepRow {
        seq: row.seq.0,
        attempt: row.attempt,
        epoch: row.epoch.0,
        state: step_state_to(row.state),
        input_digest: bytes_or_empty(row.input_digest.map(|digest| digest.0)),
        outcome_digest: bytes_or_empty(row.outcome_digest.map(|digest| digest.0)),
    }
}

fn step_from(row: disk::StepRow) -> Result<StepRow, Malformed> {
    Ok(StepRow {
        seq: Seq(row.seq),
        attempt: row.attempt,
        epoch: Epoch(row.epoch),
        state: step_state_from(row.state)?,
        input_digest: digest_or_none(&row.input_digest, "step_row.input_digest")?,
        outcome_digest: digest_or_none(&row.outcome_digest, "step_row.outcome_digest")?,
    })
}

fn guard_to(row: &GuardRow) -> disk::GuardRow {
    disk::GuardRow {
        session_id: bytes_of(&row.session.0),
        step_key_hash: bytes_of(&row.step_key_hash),
        input_digest: bytes_of(&row.input_digest.0),
    }
}

fn guard_from(row: disk::GuardRow) -> Result<GuardRow, Malformed> {
    Ok(GuardRow {
        session: SessionId(exact(&row.session_id, "guard_row.session_id")?),
        step_key_hash: exact(&row.step_key_hash, "guard_row.step_key_hash")?,
        input_digest: Digest(exact(&row.input_digest, "guard_row.input_digest")?),
    })
}

fn key_to(row: &KeyRow) -> disk::KeyRow {
    disk::KeyRow {
        session_id: bytes_of(&row.session.0),
        generation: row.generation,
        input_digest: bytes_of(&row.input_digest.0),
    }
}

fn key_from(row: disk::KeyRow) -> Result<KeyRow, Malformed> {
    Ok(KeyRow {
        session: SessionId(exact(&row.session_id, "key_row.session_id")?),
        generation: row.generation,
        input_digest: Digest(exact(&row.input_digest, "key_row.input_digest")?),
    })
}

fn lineage_to(row: &LineageRow) -> disk::LineageRow {
    disk::LineageRow {
        salt: bytes_or_empty(row.salt),
        root_id: bytes_of(&row.root.0),
        namespace: row.namespace.to_string(),
    }
}

fn lineage_from(row: disk::LineageRow) -> Result<LineageRow, Malformed> {
    Ok(LineageRow {
        salt: exact_or_none(&row.salt, "lineage_row.salt")?,
        root: SessionId(exact(&row.root_id, "lineage_row.root_id")?),
        namespace: row.namespace.into(),
    })
}

fn namespace_to(row: &NamespaceRow) -> disk::NamespaceRow {
    disk::NamespaceRow {
        name: row.name.to_string(),
        salt: bytes_of(&row.salt),
        system_session_id: bytes_of(&row.system.0),
        created_ms: row.created.0,
    }
}

fn namespace_from(row: disk::NamespaceRow) -> Result<NamespaceRow, Malformed> {
    Ok(NamespaceRow {
        salt: exact(&row.salt, "namespace_row.salt")?,
        system: SessionId(exact(&row.system_session_id, "namespace_row.system_session_id")?),
        created: TimeMs(row.created_ms),
        name: row.name.into(),
    })
}

fn token_to(row: &TokenRow) -> disk::TokenRow {
    disk::TokenRow {
        token_id: bytes_of(&row.token.0),
        name: row.name.to_string(),
        role: role_to(row.role),
        namespace: row.namespace.to_string(),
        created_ms: row.created.0,
        expires_ms: row.expires.map(|at| at.0),
        revoked_ms: row.revoked.map(|at| at.0),
    }
}

fn token_from(row: disk::TokenRow) -> Result<TokenRow, Malformed> {
    Ok(TokenRow {
        token: TokenId(exact(&row.token_id, "token_row.token_id")?),
        role: role_from(row.role)?,
        created: TimeMs(row.created_ms),
        expires: row.expires_ms.map(TimeMs),
        revoked: row.revoked_ms.map(TimeMs),
        name: row.name.into(),
        namespace: row.namespace.into(),
    })
}

fn workflow_to(row: &WorkflowRow) -> disk::WorkflowRow {
    disk::WorkflowRow {
        namespace: row.namespace.to_string(),
        workflow: row.workflow.to_string(),
        version: row.version.to_string(),
        compatible: row.compatible.iter().map(ToString::to_string).collect(),
        first_seen_ms: row.first_seen.map(|at| at.0),
        last_seen_ms: row.last_seen.map(|at| at.0),
        draining_since_ms: row.draining.as_ref().map(|(since, _)| since.0),
        draining_by: row.draining.as_ref().map(|(_, by)| by.to_string()).unwrap_or_default(),
    }
}

fn workflow_from(row: disk::WorkflowRow) -> Result<WorkflowRow, Malformed> {
    if row.draining_since_ms.is_none() && !row.draining_by.is_empty() {
        return Err(malformed("workflow_row.draining_since_ms", "is missing"));
    }
    Ok(WorkflowRow {
        compatible: row.compatible.into_iter().map(Into::into).collect(),
        first_seen: row.first_seen_ms.map(TimeMs),
        last_seen: row.last_seen_ms.map(TimeMs),
        draining: row.draining_since_ms.map(|since| (TimeMs(since), row.draining_by.into())),
        namespace: row.namespace.into(),
        workflow: row.workflow.into(),
        version: row.version.into(),
    })
}

fn ledger_to(row: &LedgerRow) -> disk::LedgerRow {
    disk::LedgerRow {
        ledger_id: bytes_of(&row.ledger_id),
        incarnation: bytes_of(&row.incarnation.0),
        created_ms: row.created.0,
    }
}

fn ledger_from(row: disk::LedgerRow) -> Result<LedgerRow, Malformed> {
    Ok(LedgerRow {
        ledger_id: exact(&row.ledger_id, "ledger_row.ledger_id")?,
        incarnation: Incarnation(exact(&row.incarnation, "ledger_row.incarnation")?),
        created: TimeMs(row.created_ms),
    })
}

fn each<S, T>(stored: Vec<S>, convert: impl Fn(S) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    stored.into_iter().map(convert).collect()
}
