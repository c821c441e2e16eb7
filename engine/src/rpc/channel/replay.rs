//! Lanes on their way out: replays and pushed events become messages, page by page.
//!
//! Owns: the cursor of each replay. Never: keeps more than one page of a session in memory.
//!
//! Invariants:
//! - R1 After `Assigned` come the events from the seq asked for up to the seq of the bind, without gap or repetition;
//!   what happened after the bind follows from the lane.
//! - R2 Pieces of a payload precede the event that names them.
//! - R3 What cannot be read ends the session's run here and says so; it is never a short replay.

use bytes::Bytes;
use cellaflow_proto::v1;
use prost::Message as _;
use std::collections::VecDeque;
use std::sync::Arc;
use v1::engine_message::Body;

use super::outbox::{Item, Outbox};
use super::refuse;
use super::stream::Batch;
use crate::dispatch::Bound;
use crate::graph::event::Body as EventBody;
use crate::graph::ids::{Seq, SessionId};
use crate::graph::session::{Head, Status as SessionStatus};
use crate::ledger::{ReadError, Reader, StoredEvent};
use crate::rpc::context::Context;
use crate::rpc::convert::{self, Detail, TransferIds};
use crate::telemetry::{Metrics, NamespaceLabel};

/// Bytes of events read from the ledger in one go.
const PAGE_BYTES: usize = 64 * 1024;
/// Bytes of content after which a lane lets the next one have its turn.
const TURN_BYTES: usize = 64 * 1024;

/// Where lanes read.
pub struct Source {
    pub context: Context,
    pub transfers: TransferIds,
    pub metrics: Metrics,
}

impl Source {
    fn reader(&self) -> &Reader {
        self.context.ledger.reader()
    }

    fn count_replayed(&self, session: SessionId, events: &[Arc<StoredEvent>]) -> Result<(), ReadError> {
        let steps =
            events.iter().filter(|stored| matches!(stored.event.body, EventBody::StepCompleted(_))).count();
        if steps > 0
            && let Some(place) = self.context.ledger.lineage(session)?
        {
            let label = NamespaceLabel { namespace: place.namespace.to_string() };
            self.metrics.steps_replayed.get_or_create(&label).inc_by(steps as u64);
        }
        Ok(())
    }
}

/// Whether a lane has more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    More,
    Done,
}

/// What a lane sends next.
enum Unit {
    Piece(v1::PayloadPiece),
    Event(v1::Event),
    /// Answers a request, or says what is to be run; sent even if the session was fenced meanwhile.
    Answer(Body),
}

/// Events still to be read.
#[derive(Clone, Copy)]
struct Replay {
    from: Seq,
    to: Seq,
    /// Who asked; named if they cannot be read.
    request_id: u64,
}

/// Why a lane cannot go on.
struct Failed {
    request_id: u64,
    error: ReadError,
}

/// One session's lane.
pub struct Lane {
    session: SessionId,
    units: VecDeque<Unit>,
    replay: Option<Replay>,
}

impl Lane {
    /// Begins with a lane of the outbox.
    pub fn new(session: SessionId) -> Self {
        Self { session, units: VecDeque::new(), replay: None }
    }

    /// Adds the lane's next messages to a response, up to a turn's worth.
    pub fn step(&mut self, outbox: &Outbox, source: &mut Source, batch: &mut Batch) -> Step {
        if outbox.is_cut(self.session) {
            self.units.retain(|unit| matches!(unit, Unit::Answer(_)));
            self.replay = None;
        }
        let until = batch.content_bytes + TURN_BYTES;
        while batch.content_bytes < until {
            if self.send(batch, until) {
                continue;
            }
            match self.refill(outbox, source, batch) {
                Ok(Step::More) => {}
                Ok(Step::Done) => return Step::Done,
                Err(failed) => self.fail(&failed, batch),
            }
        }
        Step::More
    }

    /// Sends one unit, or the events that follow each other in one message; false: there is none.
    fn send(&mut self, batch: &mut Batch, until: usize) -> bool {
        let sent = match self.units.pop_front() {
            None => return false,
            Some(Unit::Piece(piece)) => Body::Piece(piece),
            Some(Unit::Answer(body)) => body,
            Some(Unit::Event(event)) => {
                let room = until.saturating_sub(batch.content_bytes);
                Body::Events(v1::Events {
                    session_id: self.session.to_string(),
                    events: self.run_of(event, room),
                })
            }
        };
        batch.push_content(sent);
        true
    }

    fn run_of(&mut self, first: v1::Event, room: usize) -> Vec<v1::Event> {
        let mut bytes = first.encoded_len();
        let mut events = vec![first];
        while bytes < room {
            match self.units.pop_front() {
                Some(Unit::Event(next)) => {
                    bytes += next.encoded_len();
                    events.push(next);
                }
                Some(other) => {
                    self.units.push_front(other);
                    break;
                }
                None => break,
            }
        }
        events
    }

    fn refill(&mut self, outbox: &Outbox, source: &mut Source, batch: &mut Batch) -> Result<Step, Failed> {
        if let Some(replay) = self.replay {
            let failed = |error| Failed { request_id: replay.request_id, error };
            return self.page(replay, source).map(|()| Step::More).map_err(failed);
        }
        match outbox.next_of(self.session) {
            None => return Ok(Step::Done),
            Some(Item::Out { out, cost }) => batch.push_out(out, cost),
            Some(Item::Bound { bound, cost }) => {
                batch.answered += cost;
                let request_id = bound.request_id;
                self.bind(bound, source).map_err(|error| Failed { request_id, error })?;
            }
            Some(Item::Events(events)) => {
                for stored in events.iter() {
                    self.event(stored, source).map_err(|error| Failed { request_id: 0, error })?;
                }
            }
            Some(Item::Recorded { request_id, seq, cost }) => {
                batch.answered += cost;
                self.recorded(request_id, seq, source).map_err(|error| Failed { request_id, error })?;
            }
        }
        Ok(Step::More)
    }

    /// Reads the next page of a replay (R1).
    fn page(&mut self, replay: Replay, source: &mut Source) -> Result<(), ReadError> {
        let page = source.reader().events(self.session, replay.from, PAGE_BYTES)?;
        if page.events.is_empty() {
            let Replay { from, to, .. } = replay;
            return Err(ReadError::Corrupt(format!(
                "session {} ends before event {from} of {to}",
                self.session
            )));
        }
        for stored in page.events.iter().take_while(|stored| stored.event.seq <= replay.to) {
            self.event(stored, source)?;
        }
        source.count_replayed(self.session, &page.events)?;
        self.replay = (page.next <= replay.to).then_some(Replay { from: page.next, ..replay });
        Ok(())
    }

    fn event(&mut self, stored: &StoredEvent, source: &mut Source) -> Result<(), ReadError> {
        let event = self.converted(stored, source)?;
        self.units.push_back(Unit::Event(event));
        Ok(())
    }

    /// Converts an event and queues the pieces it needs (R2).
    fn converted(&mut self, stored: &StoredEvent, source: &mut Source) -> Result<v1::Event, ReadError> {
        let Source { context, transfers, .. } = source;
        let (pieces, event) =
            convert::event_to_wire(stored, context.ledger.reader(), transfers, Detail::Full)?;
        self.units.extend(pieces.into_iter().map(Unit::Piece));
        Ok(event)
    }

    fn recorded(&mut self, request_id: u64, seq: Seq, source: &mut Source) -> Result<(), ReadError> {
        let missing = || ReadError::Corrupt(format!("session {} lacks event {seq}", self.session));
        let stored = source.reader().event(self.session, seq)?.ok_or_else(missing)?;
        let event = self.converted(&stored, source)?;
        self.units.push_back(Unit::Answer(Body::Ack(v1::Ack {
            request_id,
            seq: seq.0,
            time_ms: stored.event.time.0,
            duplicate: true,
            recorded: Some(event),
            before: Vec::new(),
        })));
        Ok(())
    }

    fn bind(&mut self, bound: Bound, source: &mut Source) -> Result<(), ReadError> {
        let Bound { request_id, head, epoch, created, from } = bound;
        let place = source.context.ledger.lineage(self.session)?;
        let place =
            place.ok_or_else(|| ReadError::Corrupt(format!("session {} has no lineage", self.session)))?;
        let (output, failure) = self.result(&head, source)?;
        let assigned = v1::Assigned {
            request_id,
            session: Some(source.context.session(&head)?),
            epoch: epoch.map_or(0, |epoch| epoch.0),
            created,
            output,
            failure,
            replay_to_seq: if epoch.is_some() { head.seq.0 } else { 0 },
            digest_salt: Bytes::copy_from_slice(&place.salt),
        };
        self.units.push_back(Unit::Answer(Body::Assigned(assigned)));
        let from = from.max(Seq(1));
        self.replay =
            (epoch.is_some() && from <= head.seq).then_some(Replay { from, to: head.seq, request_id });
        Ok(())
    }

    /// Result of a session that has ended, and the pieces before it.
    fn result(
        &mut self,
        head: &Head,
        source: &mut Source,
    ) -> Result<(Option<v1::Payload>, Option<v1::Payload>), ReadError> {
        match head.status {
            SessionStatus::Completed | SessionStatus::Failed => {}
            SessionStatus::Pending
            | SessionStatus::Running
            | SessionStatus::Waiting
            | SessionStatus::Paused { .. }
            | SessionStatus::Cancelled => return Ok((None, None)),
        }
        let Some(end) = source.reader().event(self.session, head.seq)? else { return Ok((None, None)) };
        Ok(match self.converted(&end, source)?.body {
            Some(v1::event::Body::SessionCompleted(completed)) => (completed.output, None),
            Some(v1::event::Body::SessionFailed(failed)) => (None, failed.failure),
            _ => (None, None),
        })
    }

    /// R3.
    fn fail(&mut self, failed: &Failed, batch: &mut Batch) {
        let Failed { request_id, error } = failed;
        tracing::error!(session = %self.session, %error, "events cannot be sent to the worker");
        self.units.clear();
        self.replay = None;
        batch.push_out(refuse::unreadable(*request_id, Some(self.session), error), 0);
    }
}
