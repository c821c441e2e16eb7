//! A ledger in memory: what the real one does with a decision, without storage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::story::{RETENTION_MS, step_key_hash};
use crate::graph::archive::{ArchiveRow, CommitRow, SegmentNo, StubRow};
use crate::graph::budget::BudgetRow;
use crate::graph::command::{Command, ForgetKeys, KeptRow, Rejection};
use crate::graph::context::ContextRow;
use crate::graph::decide::{Decision, View, decide};
use crate::graph::event::{Body, Event, PayloadRef, SessionStarted};
use crate::graph::evolve::evolve;
use crate::graph::guard_key::still_owns;
use crate::graph::ids::{ClaimId, Digest, Epoch, Hash, LineageId, Seq, SessionId, StepKey, TimeMs, TokenId};
use crate::graph::index::{Digests, DueEntry, DueKind, IndexChange, changes};
use crate::graph::session::{GuardOutcome, GuardRow, Head, KeyRow, SignalRow, StepRow, StepState, TokenRow};
use crate::graph::version::WorkflowRow;

/// Everything but heads and events.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Rows {
    pub steps: BTreeMap<(SessionId, String), StepRow>,
    pub guards: BTreeMap<Digest, GuardRow>,
    /// What is known of guarded steps, and the output that is kept.
    pub outcomes: BTreeMap<(SessionId, String), (GuardOutcome, Option<PayloadRef>)>,
    pub keys: BTreeMap<Digest, KeyRow>,
    pub live: BTreeSet<SessionId>,
    pub listed: BTreeSet<SessionId>,
    pub labels: BTreeSet<(String, String, SessionId)>,
    pub due: BTreeMap<(TimeMs, SessionId, Seq), DueEntry>,
    pub signals: BTreeMap<(SessionId, String), SignalRow>,
    pub evidence_deleted: BTreeSet<(SessionId, Seq, u32)>,
    pub budgets: BTreeMap<SessionId, BudgetRow>,
    pub tokens: BTreeMap<Digest, TokenRow>,
    pub to_start: BTreeSet<(SessionId, SessionId)>,
    pub workflows: BTreeMap<[String; 3], WorkflowRow>,
    pub archive: BTreeMap<LineageId, ArchiveRow>,
    pub commits: BTreeMap<ClaimId, CommitRow>,
    pub vanished: BTreeSet<SessionId>,
    pub stubs: BTreeMap<SessionId, StubRow>,
    pub left: BTreeSet<(SegmentNo, LineageId)>,
    pub dead: BTreeMap<SegmentNo, u64>,
    pub contexts: BTreeMap<SessionId, ContextRow>,
}

#[derive(Default)]
pub struct Model {
    pub heads: BTreeMap<SessionId, Arc<Head>>,
    pub events: BTreeMap<SessionId, Vec<(Event, Digests)>>,
    pub rows: Rows,
}

impl View for Model {
    fn head(&self, session: SessionId) -> Option<Arc<Head>> {
        self.heads.get(&session).cloned()
    }
    fn step(&self, session: SessionId, key: &str) -> Option<StepRow> {
        // As the ledger: a fork's own row, or the one it has from its parent at the cut.
        let (mut at, mut last) = (session, None::<Seq>);
        loop {
            if let Some(row) = self.rows.steps.get(&(at, key.to_owned())).cloned() {
                let Some(last) = last else { return Some(row) };
                return Some(StepRow { epoch: Epoch(0), ..row }).filter(|row| row.seq <= last);
            }
            let from = self.heads.get(&at)?.forked.as_ref()?.from;
            at = from.parent;
            last = Some(last.map_or(from.seq, |last| last.min(from.seq)));
        }
    }
    fn context(&self, session: SessionId) -> Option<ContextRow> {
        self.rows.contexts.get(&session).cloned()
    }
    fn guard(&self, digest: &Digest) -> Option<GuardRow> {
        self.rows.guards.get(digest).cloned()
    }
    fn signal(&self, session: SessionId, id: &str) -> Option<SignalRow> {
        self.rows.signals.get(&(session, id.to_owned())).cloned()
    }
    fn guard_outcome(&self, guard: &GuardRow) -> Option<GuardOutcome> {
        self.rows.outcome(guard).map(|(outcome, _)| outcome.clone())
    }
    fn session_key(&self, digest: &Digest) -> Option<KeyRow> {
        self.rows.keys.get(digest).cloned()
    }
    fn archive(&self, lineage: LineageId) -> Option<ArchiveRow> {
        self.rows.archive.get(&lineage).cloned()
    }
    fn budget(&self, owner: SessionId) -> Option<BudgetRow> {
        self.rows.budgets.get(&owner).copied()
    }
    fn workflow(&self, namespace: &str, workflow: &str, version: &str) -> Option<WorkflowRow> {
        self.rows.workflows.get(&[namespace, workflow, version].map(str::to_owned)).cloned()
    }
}

impl Model {
    /// Decides and appends; panics if `evolve` does not accept what `decide` emitted.
    pub fn submit(&mut self, command: &Command, now: TimeMs) -> Result<Decision, Rejection> {
        let decision = decide(self, command, now)?;
        if let Command::ForgetKeys(forget) = command {
            self.rows.forget(forget);
        }
        let digests = Digests::of(command);
        for event in &decision.events {
            let before = self.heads.get(&decision.session).cloned();
            let folded = before.clone().or_else(|| base_of(command));
            let after =
                evolve(folded.as_deref(), event, Hash::default()).expect("evolve accepts what decide emits");
            for change in changes(before.as_deref(), event, &after, &digests) {
                self.rows.apply(decision.session, change);
            }
            let log = self.events.entry(decision.session).or_default();
            log.push((event.clone(), digests.clone()));
            self.heads.insert(decision.session, Arc::new(after));
        }
        Ok(decision)
    }

    pub fn log(&self, session: SessionId) -> Vec<Event> {
        let events = self.events.get(&session).into_iter().flatten();
        events.map(|(event, _)| event.clone()).collect()
    }

    /// A session's events up to `cut`, inherited ones first.
    pub fn chain(&self, session: SessionId, cut: Seq) -> Vec<Event> {
        let own = self.log(session);
        let mut events = match own.first().map(|event| &event.body) {
            Some(Body::SessionStarted(SessionStarted { forked_from: Some(from), .. })) => {
                self.chain(from.parent, from.seq)
            }
            _ => Vec::new(),
        };
        events.extend(own);
        events.retain(|event| event.seq <= cut);
        events
    }

    /// The fold of a session's events up to `cut`, and the rows of its steps then.
    pub fn fold(&self, session: SessionId, cut: Seq) -> (Option<Head>, BTreeMap<StepKey, StepRow>) {
        let mut steps = BTreeMap::new();
        let mut head: Option<Head> = None;
        for event in self.chain(session, cut) {
            let after = evolve(head.as_ref(), &event, Hash::default()).unwrap();
            for change in changes(head.as_ref(), &event, &after, &Digests::default()) {
                if let IndexChange::Step { key, row } = change {
                    steps.insert(key, row);
                }
            }
            head = Some(after);
        }
        (head, steps)
    }

    /// Heads and rows as a rebuild makes them: every session's events, oldest session first.
    pub fn rebuilt(&self) -> (BTreeMap<SessionId, Arc<Head>>, Rows) {
        let mut rows = Rows::default();
        let mut heads = BTreeMap::new();
        for (session, events) in &self.events {
            let mut head: Option<Head> = None;
            let base = match events.first().map(|(event, _)| &event.body) {
                Some(Body::SessionStarted(SessionStarted { forked_from: Some(from), .. })) => {
                    self.fold(from.parent, from.seq).0
                }
                _ => None,
            };
            for (event, digests) in events {
                let after = evolve(head.as_ref().or(base.as_ref()), event, Hash::default()).unwrap();
                for change in changes(head.as_ref(), event, &after, digests) {
                    rows.apply(*session, change);
                }
                head = Some(after);
            }
            heads.extend(head.map(|head| (*session, Arc::new(head))));
        }
        rows.guards = self.owners(&rows);
        (heads, rows)
    }
}

impl Model {
    /// Who owns each key, as a rebuild finds out: the one step that another may not follow; if there is none, it does
    /// not matter which.
    fn owners(&self, rebuilt: &Rows) -> BTreeMap<Digest, GuardRow> {
        let mut owners = self.rows.guards.clone();
        for (digest, row) in self.claims() {
            let free = rebuilt.outcome(&row).is_none_or(|(outcome, _)| match outcome.state {
                StepState::Retryable => true,
                StepState::Failed => outcome.not_applied,
                StepState::Open | StepState::Completed => false,
            });
            if !free {
                owners.insert(digest, row);
            }
        }
        owners
    }

    /// Every step that ever owned a key.
    fn claims(&self) -> Vec<(Digest, GuardRow)> {
        let mut claims = Vec::new();
        for (session, events) in &self.events {
            let stubs = self.heads.get(session).is_some_and(|head| head.stubs_effects());
            for (event, digests) in events {
                let (Body::GuardIntent(_), Some(guard), false) = (&event.body, &digests.guard, stubs) else {
                    continue;
                };
                let row = GuardRow {
                    session: *session,
                    step_key_hash: guard.step_key_hash,
                    input_digest: guard.input_digest,
                };
                claims.push((guard.digest, row));
            }
        }
        claims
    }

    /// The key that a step claimed last.
    pub fn claimed(&self, session: SessionId, step_key_hash: [u8; 32]) -> Option<Digest> {
        let claims = self.claims().into_iter().rev();
        let mut own = claims.filter(|(_, row)| (row.session, row.step_key_hash) == (session, step_key_hash));
        own.next().map(|(digest, _)| digest)
    }

    /// The rows that a driver finds of an ended session's keys.
    pub fn kept(&self, session: SessionId) -> ForgetKeys {
        let due = self.rows.due.values().zip(self.rows.due.keys());
        let mut due = due.filter(|(entry, key)| entry.kind == DueKind::Retention && key.1 == session);
        let (entry, _) = due.next().expect("the session's keys have a retention");
        let claims = self.claims().into_iter().filter(|(_, row)| row.session == session);
        let rows = claims.map(|(digest, row)| KeptRow {
            step_key_hash: row.step_key_hash,
            part: 0,
            key: Some(digest),
        });
        ForgetKeys { session, due: entry.due, seq: entry.seq, rows: rows.collect(), last: true }
    }
}

/// The head that a fork's first event is folded from.
fn base_of(command: &Command) -> Option<Arc<Head>> {
    match command {
        Command::Fork(fork) => Some(fork.base.clone()),
        _ => None,
    }
}

impl Rows {
    fn apply(&mut self, session: SessionId, change: IndexChange) {
        match change {
            IndexChange::Step { key, row } => {
                self.steps.insert((session, key.to_string()), row);
            }
            IndexChange::Guard { digest, row } => {
                self.guards.insert(digest, row);
            }
            IndexChange::GuardOutcome { step_key, outcome, output } => {
                self.outcomes.insert((session, step_key.to_string()), (outcome, output));
            }
            IndexChange::KeysEnded { at, seq } => {
                let due = at.plus(RETENTION_MS);
                let entry = DueEntry { due, kind: DueKind::Retention, seq };
                assert_eq!(self.due.insert((due, session, seq), entry), None);
            }
            IndexChange::Signal { id, row } => {
                assert_eq!(self.signals.insert((session, id.to_string()), row), None);
            }
            IndexChange::Key { digest, row } => {
                self.keys.insert(digest, row);
            }
            IndexChange::LivePut => assert!(self.live.insert(session)),
            IndexChange::LiveDelete => assert!(self.live.remove(&session)),
            IndexChange::ListPut => assert!(self.listed.insert(session)),
            IndexChange::StartPut { session: to_start } => {
                assert!(self.to_start.insert((session, to_start)));
            }
            IndexChange::StartDelete { by, session } => {
                assert!(self.to_start.remove(&(by, session)), "it was named before it began");
            }
            IndexChange::DuePut(due) => {
                let key = (due.due, session, due.seq);
                assert_eq!(self.due.insert(key, due), None);
            }
            IndexChange::DueDelete(due) => {
                assert!(self.due.remove(&(due.due, session, due.seq)).is_some());
            }
            IndexChange::Budget { owner, change } => {
                let before = self.budgets.get(&owner).copied();
                self.budgets.insert(owner, BudgetRow::changed(before, change));
            }
            IndexChange::EvidenceDelete { entry, attempt } => {
                self.evidence_deleted.insert((session, entry, attempt));
            }
            IndexChange::LabelPut { key, value } => {
                assert!(self.labels.insert((key.to_string(), value.to_string(), session)));
            }
            IndexChange::LabelDelete { key, value } => {
                assert!(self.labels.remove(&(key.to_string(), value.to_string(), session)));
            }
            IndexChange::Archive { lineage, change } => {
                let row = ArchiveRow::changed(self.archive.get(&lineage), &change);
                self.archive.extend(row.map(|row| (lineage, row)));
            }
            IndexChange::Commit { claim, row: Some(row) } => {
                self.commits.insert(claim, row);
            }
            IndexChange::Commit { claim, row: None } => {
                self.commits.remove(&claim);
            }
            IndexChange::Stub { session, row } => {
                self.stubs.insert(session, row);
            }
            IndexChange::Forget(gone) => {
                if gone
                    .key
                    .is_some_and(|key| self.keys.get(&key).is_some_and(|row| row.session == gone.session()))
                {
                    self.keys.remove(&gone.key.unwrap());
                }
                self.forget(&gone.guards);
                if gone.whole {
                    self.stubs.remove(&gone.session());
                    self.vanished.insert(gone.session());
                }
            }
            IndexChange::Vanish { lineage } => {
                self.archive.remove(&lineage);
            }
            IndexChange::Leave { lineage, segment } => {
                assert!(self.left.insert((segment, lineage)), "AR6: nothing is written there again");
            }
            IndexChange::Return(restore) => {
                assert!(!self.left.contains(&(restore.segment, restore.lineage)), "AR6");
            }
            IndexChange::Dead { segment, bytes, back } => {
                let dead = self.dead.entry(segment).or_default();
                *dead = if back { dead.saturating_sub(bytes) } else { *dead + bytes };
            }
            IndexChange::TokenPut { secret_hash, row } => {
                self.tokens.insert(secret_hash, row);
            }
            IndexChange::TokenRevoked { token, at } => self.revoke(token, at),
            IndexChange::Workflow { namespace, workflow, version, change } => {
                let key = [&namespace, &workflow, &version].map(|text| text.to_string());
                let before = self.workflows.remove(&key);
                let before = before.unwrap_or_else(|| WorkflowRow::unknown(namespace, workflow, version));
                self.workflows.insert(key, before.changed(change));
            }
        }
    }

    fn outcome(&self, guard: &GuardRow) -> Option<&(GuardOutcome, Option<PayloadRef>)> {
        let mut known = self.outcomes.iter().filter(|((session, _), _)| *session == guard.session);
        known.find(|((_, key), _)| step_key_hash(key) == guard.step_key_hash).map(|(_, outcome)| outcome)
    }

    fn forget(&mut self, forget: &ForgetKeys) {
        self.outcomes.retain(|(session, _), _| *session != forget.session);
        for row in &forget.rows {
            let place = (forget.session, row.step_key_hash);
            let key = row.key.filter(|key| still_owns(self.guards.get(key), &place));
            key.map(|key| self.guards.remove(&key));
        }
        self.due
            .retain(|(_, session, _), entry| *session != forget.session || entry.kind != DueKind::Retention);
    }

    fn revoke(&mut self, token: TokenId, at: TimeMs) {
        for row in self.tokens.values_mut().filter(|row| row.token == token) {
            row.revoked = Some(at);
        }
    }
}
