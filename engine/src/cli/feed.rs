//! A session's events as they arrive: payloads that came in pieces are put together before an event is shown.
//!
//! F1. Events come without gaps; a gap is an error, never a short feed.
//! F2. A stream that ends without its last message was cut off: whoever needs the rest subscribes again.

use std::collections::HashMap;

use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::payload::Body as Bytes;
use cellaflow_proto::v1::subscribe_session_response::Body as Message;
use cellaflow_proto::v1::{self, Event, LlmCall, Payload};
use tonic::{Status, Streaming};

use super::client::Engine;
use super::streamed::{Places, Tokens};

/// Payload bytes put together at one time; what does not fit is shown by size and digest alone.
const PIECES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is wanted of a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Its id.
    pub(super) session_id: String,
    /// First seq, from 1.
    pub(super) from_seq: u64,
    /// End at what is recorded now instead of going on live.
    pub(super) until_caught_up: bool,
    /// Leave payload bytes out.
    pub(super) headers_only: bool,
    /// What open zones stream, too, from where they were read to.
    pub(super) tokens: Option<Places>,
}

/// One thing a feed brings.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    /// An event with its payloads.
    Event(Box<Event>),
    /// What a zone streamed.
    Tokens(Tokens),
    /// What was shown of a zone is void; the attempt that may follow.
    Reset(v1::StreamReset),
    /// Everything recorded was sent; what follows is live.
    CaughtUp,
    /// The last item: the session's state.
    End(v1::SessionStatus),
    /// The stream ended without a last message (F2).
    Cut,
}

/// An open subscription.
pub(super) struct Feed {
    stream: Streaming<v1::SubscribeSessionResponse>,
    pieces: Pieces,
    next_seq: u64,
    tokens: Option<Places>,
    /// An event whose zone's text goes before it.
    held: Option<Box<Event>>,
}

impl Feed {
    /// Subscribes.
    ///
    /// # Errors
    /// The engine's refusal, or the transport's.
    pub(super) async fn open(engine: &Engine, wanted: Wanted) -> Result<Self, Status> {
        let next_seq = wanted.from_seq.max(1);
        let request = v1::SubscribeSessionRequest {
            session: Some(v1::SessionRef { by: Some(v1::session_ref::By::SessionId(wanted.session_id)) }),
            from_seq: next_seq,
            until_caught_up: wanted.until_caught_up,
            headers_only: wanted.headers_only,
            tokens: wanted.tokens.is_some(),
            from_tokens: wanted.tokens.as_ref().map(Places::offsets).unwrap_or_default(),
        };
        let stream = engine.sessions().subscribe_session(request).await?.into_inner();
        let (pieces, tokens) = (Pieces::default(), wanted.tokens);
        Ok(Self { stream, pieces, next_seq, tokens, held: None })
    }

    /// Waits for the next item.
    ///
    /// # Errors
    /// The stream's status; data loss on a gap (F1).
    pub(super) async fn next(&mut self) -> Result<Item, Status> {
        if let Some(event) = self.held.take() {
            return Ok(Item::Event(event));
        }
        loop {
            let Some(message) = self.stream.message().await? else { return Ok(Item::Cut) };
            match message.body {
                Some(Message::Event(event)) => return self.event(event),
                Some(Message::Piece(piece)) => self.pieces.add(piece),
                Some(Message::CaughtUp(_)) => return Ok(Item::CaughtUp),
                Some(Message::End(end)) => return Ok(Item::End(end.status())),
                Some(Message::TokenChunk(chunk)) => {
                    if let Some(tokens) = self.tokens.as_mut().and_then(|places| places.take(chunk)) {
                        return Ok(Item::Tokens(tokens));
                    }
                }
                Some(Message::StreamReset(reset)) => {
                    if let Some(places) = &mut self.tokens {
                        places.reset(&reset.zone_key);
                    }
                    return Ok(Item::Reset(reset));
                }
                // A later engine may send more; it means nothing to us.
                None => {}
            }
        }
    }

    fn event(&mut self, mut event: Event) -> Result<Item, Status> {
        if event.seq != self.next_seq {
            let (wanted, came) = (self.next_seq, event.seq);
            return Err(Status::data_loss(format!(
                "event {wanted} is missing, {came} came instead: run `cellaflow ledger verify`"
            )));
        }
        self.next_seq += 1;
        self.pieces.fill(&mut event);
        if let (Some(places), Some(Body::ZoneCommitted(zone))) = (&mut self.tokens, &event.body)
            && let Some(tokens) = places.commit(zone)
        {
            self.held = Some(Box::new(event));
            return Ok(Item::Tokens(tokens));
        }
        Ok(Item::Event(Box::new(event)))
    }

    /// How far open zones were read; an event that was not handed out yet is not passed.
    pub(super) fn places(&self) -> Option<Places> {
        self.tokens.clone()
    }
}

/// Payloads that arrive in pieces.
#[derive(Default)]
struct Pieces {
    open: HashMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Pieces {
    fn add(&mut self, piece: v1::PayloadPiece) {
        let sum = self.bytes.saturating_add(piece.data.len());
        if sum > PIECES_BYTES_MAX {
            self.drop_transfer(piece.transfer_id);
            return;
        }
        self.bytes = sum;
        self.open.entry(piece.transfer_id).or_default().extend_from_slice(&piece.data);
    }

    /// Puts the bytes where an event refers to them; an incomplete transfer leaves the reference.
    fn fill(&mut self, event: &mut Event) {
        for payload in payloads(event) {
            let Some(Bytes::TransferId(id)) = payload.body else { continue };
            let is_whole = |bytes: &Vec<u8>| u64::try_from(bytes.len()) == Ok(payload.size_bytes);
            let bytes = self.drop_transfer(id).filter(is_whole);
            payload.body = bytes.map(|bytes| Bytes::Data(bytes.into())).or(Some(Bytes::TransferId(id)));
        }
    }

    fn drop_transfer(&mut self, id: u64) -> Option<Vec<u8>> {
        let bytes = self.open.remove(&id)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

/// Every payload of an event.
fn payloads(event: &mut Event) -> Vec<&mut Payload> {
    let mut all: Vec<Option<&mut Payload>> =
        vec![event.state_delta.as_mut(), event.conversation_delta.as_mut()];
    match &mut event.body {
        Some(Body::SessionStarted(e)) => all.extend([e.input.as_mut(), e.key.as_mut()]),
        Some(Body::SessionPaused(e)) => all.push(e.details.as_mut()),
        Some(Body::SessionCompleted(e)) => all.push(e.output.as_mut()),
        Some(Body::SessionFailed(e)) => all.push(e.failure.as_mut()),
        Some(Body::SessionContinued(e)) => {
            all.extend([e.input.as_mut(), e.state.as_mut(), e.conversation.as_mut()]);
        }
        Some(Body::StepCompleted(e)) => {
            all.extend([e.input.as_mut(), e.output.as_mut()]);
            all.extend(e.llm.iter_mut().flat_map(call));
        }
        Some(Body::StepFailed(e)) => all.push(e.failure.as_mut()),
        Some(Body::StepHeartbeat(e)) => all.push(e.details.as_mut()),
        Some(Body::ForkEdited(v1::ForkEdited { edit: Some(edit), .. })) => match edit {
            v1::fork_edited::Edit::Input(payload)
            | v1::fork_edited::Edit::Output(payload)
            | v1::fork_edited::Edit::Failure(payload) => all.push(Some(payload)),
        },
        Some(Body::ForkEdited(_)) => {}
        Some(Body::GuardIntent(e)) => all.push(e.idempotency_key.as_mut()),
        Some(Body::GuardUnknown(e)) => all.push(e.failure.as_mut()),
        Some(Body::GuardResolved(e)) => all.extend([e.output.as_mut(), e.failure.as_mut()]),
        Some(Body::ZoneCommitted(e)) => {
            all.extend([e.output.as_mut(), e.record.as_mut()]);
            all.extend(e.llm_calls.iter_mut().flat_map(call));
        }
        Some(Body::ZoneFailed(e)) => all.push(e.failure.as_mut()),
        Some(Body::SignalReceived(e)) => all.push(e.value.as_mut()),
        Some(Body::ChildSpawned(e)) => all.push(e.input.as_mut()),
        Some(Body::ChildEnded(e)) => all.extend([e.output.as_mut(), e.failure.as_mut()]),
        Some(Body::ApprovalRequested(e)) => all.push(e.call.as_mut()),
        Some(Body::ApprovalDecided(e)) => all.push(e.comment.as_mut()),
        Some(
            Body::LeaseGranted(_)
            | Body::DivergenceAccepted(_)
            | Body::LeaseReleased(_)
            | Body::LabelsSet(_)
            | Body::SessionReleased(_)
            | Body::SessionResumed(_)
            | Body::SessionCancelled(_)
            | Body::CancelRequested(_)
            | Body::ZoneEntered(_)
            | Body::ZoneRolledBack(_)
            | Body::TimerStarted(_)
            | Body::TimerFired(_)
            | Body::SignalAwaited(_)
            | Body::SignalDelivered(_)
            | Body::WaitDropped(_)
            | Body::ChildCancelRequested(_)
            | Body::BudgetReserved(_)
            | Body::BudgetRaised(_)
            | Body::BudgetReleased(_)
            | Body::TokenCreated(_)
            | Body::TokenRevoked(_)
            | Body::ArchiveChanged(_)
            | Body::WorkflowRegistered(_)
            | Body::WorkflowDrained(_),
        )
        | None => {}
    }
    all.into_iter().flatten().collect()
}

fn call(call: &mut LlmCall) -> [Option<&mut Payload>; 2] {
    [call.request.as_mut(), call.response.as_mut()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(transfer_id: u64, size_bytes: u64) -> Option<Payload> {
        Some(Payload { size_bytes, body: Some(Bytes::TransferId(transfer_id)), ..Payload::default() })
    }

    fn completed(output: Option<Payload>, request: Option<Payload>) -> Event {
        let llm = Some(LlmCall { request, ..LlmCall::default() });
        let body = Body::StepCompleted(v1::StepCompleted { output, llm, ..v1::StepCompleted::default() });
        Event { body: Some(body), ..Event::default() }
    }

    fn piece(transfer_id: u64, data: &'static str) -> v1::PayloadPiece {
        v1::PayloadPiece { transfer_id, data: data.into(), last: false }
    }

    fn bodies(event: &mut Event) -> Vec<Option<Bytes>> {
        payloads(event).into_iter().map(|payload| payload.body.clone()).collect()
    }

    #[test]
    fn interleaved_pieces_find_their_payloads() {
        let mut pieces = Pieces::default();
        for (id, text) in [(1, "ab"), (2, "xy"), (1, "cd")] {
            pieces.add(piece(id, text));
        }
        let mut event = completed(reference(1, 4), reference(2, 2));
        pieces.fill(&mut event);
        assert_eq!(bodies(&mut event), [Some(Bytes::Data("abcd".into())), Some(Bytes::Data("xy".into()))]);
        assert_eq!((pieces.open.len(), pieces.bytes), (0, 0), "nothing is kept");
    }

    #[test]
    fn a_transfer_that_is_not_whole_is_not_shown_as_if_it_were() {
        let mut pieces = Pieces::default();
        pieces.add(piece(1, "ab"));
        let mut event = completed(reference(1, 4), None);
        pieces.fill(&mut event);
        assert_eq!(bodies(&mut event), [Some(Bytes::TransferId(1))]);
    }
}
