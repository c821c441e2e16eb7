//! What a session was at an earlier event: the fold of its events up to there, inherited ones included.
//!
//! 1. Only events are read, which do not change: the answer is the same whatever is appended meanwhile.
//! 2. It costs one pass over the events up to the cut, and another one for each zone that was open there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::{ReadError, Reader};
use super::{Blobs, PayloadIn, StoredEvent};
use crate::graph::command::Rejection;
use crate::graph::event::{Body, ChildEnded, Edit, PayloadRef, Resolution};
use crate::graph::evolve::evolve;
use crate::graph::ids::{Epoch, Seq, SessionId, StepKey};
use crate::graph::index::{self, Digests, IndexChange};
use crate::graph::session::{Head, StepRow, StepState};

/// Bytes of events read in one go.
const PAGE_BYTES: usize = 256 * 1024;

/// A session at one of its events.
#[derive(Debug)]
pub struct Prefix {
    /// Its head there; the session is the one that appended that event.
    pub head: Head,
    /// The event that started it.
    pub started: Arc<StoredEvent>,
    /// Rows of its steps there.
    steps: BTreeMap<StepKey, StepRow>,
}

impl Prefix {
    /// Folds the events of `session` up to `cut`, or up to before the entry of the zones that were open there.
    ///
    /// # Errors
    /// `Corrupt` if the events end before, and as every read.
    pub fn outside_zones(reader: &Reader, session: SessionId, cut: Seq) -> Result<Self, ReadError> {
        let mut cut = cut;
        loop {
            let prefix = Self::read(reader, session, cut)?;
            let Some(entry) = prefix.head.zones.iter().map(|zone| zone.seq).min() else { return Ok(prefix) };
            cut = Seq(entry.0.saturating_sub(1));
        }
    }

    /// Folds the events of `session` up to `cut`.
    ///
    /// # Errors
    /// As `outside_zones`.
    pub fn read(reader: &Reader, session: SessionId, cut: Seq) -> Result<Self, ReadError> {
        let mut folded: Option<(Head, Arc<StoredEvent>)> = None;
        let mut steps = BTreeMap::new();
        let mut next = Seq(1);
        while next <= cut {
            let page = reader.events(session, next, PAGE_BYTES)?;
            if page.events.is_empty() {
                return Err(ReadError::Corrupt(format!("session {session} ends before event {next}")));
            }
            for stored in page.events.iter().take_while(|stored| stored.event.seq <= cut) {
                let before = folded.as_ref().map(|(head, _)| head);
                let after = evolve(before, &stored.event, stored.hash)
                    .map_err(|corrupt| ReadError::Corrupt(corrupt.to_string()))?;
                for change in index::changes(before, &stored.event, &after, &Digests::default()) {
                    if let IndexChange::Step { key, row } = change {
                        steps.insert(key, row);
                    }
                }
                let started = match (&stored.event.body, folded) {
                    (Body::SessionStarted(_), _) | (_, None) => Arc::clone(stored),
                    (_, Some((_, started))) => started,
                };
                folded = Some((after, started));
            }
            next = page.next;
        }
        let (head, started) =
            folded.ok_or_else(|| ReadError::Corrupt(format!("session {session} has no event {cut}")))?;
        Ok(Self { head, started, steps })
    }

    /// Rows of the steps that had no outcome, as a fork takes them over: nobody's commit, and open to another input.
    pub fn unsettled(&self) -> impl Iterator<Item = (StepKey, StepRow)> {
        unsettled(&self.steps)
    }
}

/// Rows of steps that had no outcome, as a fork takes them over.
pub fn unsettled(steps: &BTreeMap<StepKey, StepRow>) -> impl Iterator<Item = (StepKey, StepRow)> {
    let open = steps.iter().filter(|(_, row)| match row.state {
        StepState::Open | StepState::Retryable => true,
        StepState::Completed | StepState::Failed => false,
    });
    open.map(|(key, row)| {
        (key.clone(), StepRow { epoch: Epoch(0), input_digest: None, outcome_digest: None, ..row.clone() })
    })
}

/// The outcome that a session has of a step.
#[derive(Debug)]
pub struct StepOutcome {
    stored: Arc<StoredEvent>,
    /// How the step ended.
    pub resolution: Resolution,
}

impl StepOutcome {
    /// Reads what `session` recorded as the outcome of a step; `None`: nothing yet.
    ///
    /// # Errors
    /// As every read.
    pub fn read(reader: &Reader, session: SessionId, step_key: &str) -> Result<Option<Self>, ReadError> {
        let row = reader.step(session, step_key)?.filter(|row| match row.state {
            StepState::Completed | StepState::Failed => true,
            StepState::Open | StepState::Retryable => false,
        });
        let Some(row) = row else { return Ok(None) };
        let missing = || ReadError::Corrupt(format!("session {session} lacks event {}", row.seq));
        let stored = reader.event(session, row.seq)?.ok_or_else(missing)?;
        Ok(outcome(&stored.event.body).map(|resolution| Self { stored, resolution }))
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> (SessionId, Seq) {
        (self.stored.session, self.stored.event.seq)
    }

    /// Puts the bytes of its payload among those of a command of the same lineage.
    ///
    /// # Errors
    /// As `copy`.
    pub fn copy(&self, reader: &Reader, blobs: &mut Blobs) -> Result<Result<(), Rejection>, ReadError> {
        match self.resolution.payload() {
            Some(payload) => copy(&self.stored, payload, reader, blobs).map(|copied| copied.map(drop)),
            None => Ok(Ok(())),
        }
    }
}

/// Puts the bytes of an event's payload among those of a command of the same lineage; chunks are there already.
///
/// # Errors
/// As every read.
pub fn copy(
    stored: &StoredEvent,
    payload: &PayloadRef,
    reader: &Reader,
    blobs: &mut Blobs,
) -> Result<Result<PayloadRef, Rejection>, ReadError> {
    if !payload.inline {
        return Ok(Ok(payload.clone()));
    }
    let bytes = reader.bytes_of(stored, payload)?;
    Ok(blobs.add(PayloadIn { format: payload.format, codec: payload.codec.clone(), bytes }))
}

/// What `session` was told later of a child; `None`: nothing yet.
///
/// # Errors
/// As every read.
pub fn child_end(
    reader: &Reader,
    session: SessionId,
    step_key: &str,
) -> Result<Option<(Arc<StoredEvent>, ChildEnded)>, ReadError> {
    let Some(row) = reader.step(session, step_key)? else { return Ok(None) };
    let Some(stored) = reader.event(session, row.seq)? else { return Ok(None) };
    let ended = match &stored.event.body {
        Body::ChildEnded(ended) => ended.clone(),
        _ => return Ok(None),
    };
    Ok(Some((stored, ended)))
}

fn outcome(body: &Body) -> Option<Resolution> {
    match body {
        Body::StepCompleted(step) => Some(Resolution::Output(step.output.clone())),
        Body::StepFailed(step) if step.is_final => Some(Resolution::Failure(Some(step.failure.clone()))),
        Body::GuardResolved(resolved) => match &resolved.resolution {
            Resolution::Output(_) | Resolution::Failure(_) => Some(resolved.resolution.clone()),
            Resolution::NotApplied(_) | Resolution::Retry => None,
        },
        Body::ForkEdited(edited) => match &edited.edit {
            Edit::Input(_) => None,
            Edit::Output { output, .. } => Some(Resolution::Output(output.clone())),
            Edit::Failure { failure, .. } => Some(Resolution::Failure(Some(failure.clone()))),
        },
        _ => None,
    }
}
