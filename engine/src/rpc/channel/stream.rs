//! The engine's side of a connection as a stream: each time the transport asks, one coalesced response.
//!
//! Owns: the responses' size and how answers and lanes share them. Never: decides order within a session (that is
//! `outbox`), or blocks on anything but the ledger's page reads.
//!
//! 1. Answers go first; lanes share what is left of the response round robin, while the worker has credit.
//! 2. A response is at most about `RESPONSE_BYTES_MAX` plus one event.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cellaflow_proto::v1;
use prost::Message as _;
use tonic::Status;
use v1::engine_message::Body;

use super::credit::Sending;
use super::outbox::{Next, Out, Outbox};
use super::replay::{Lane, Source, Step};

/// Content of one response in bytes; it bounds how long an answer waits behind a replay.
const CONTENT_BYTES_MAX: usize = 256 * 1024;
/// Messages of one response that are answers.
const READY_MAX: usize = 4_096;

/// See the module.
pub struct Responses {
    outbox: Arc<Outbox>,
    source: Source,
    /// Begun, in turn.
    lanes: VecDeque<Lane>,
    sending: Sending,
    /// Bytes to grant the worker again.
    due: u64,
    /// From how many bytes on a grant is worth a message of its own.
    due_min: u64,
    ended: bool,
}

/// What fills a response.
#[derive(Default)]
pub struct Batch {
    pub messages: Vec<v1::EngineMessage>,
    pub content_bytes: usize,
    /// Cost of the requests answered.
    pub answered: u64,
}

impl Batch {
    /// Adds a message without content.
    pub fn push(&mut self, body: Body) {
        self.messages.push(v1::EngineMessage { body: Some(body) });
    }

    /// Adds a message that costs credit; returns what it costs.
    pub fn push_content(&mut self, body: Body) -> usize {
        let message = v1::EngineMessage { body: Some(body) };
        let bytes = message.encoded_len();
        self.messages.push(message);
        self.content_bytes += bytes;
        bytes
    }

    /// Adds what waited in the outbox.
    pub fn push_out(&mut self, out: Out, cost: u64) {
        self.answered += cost;
        match out {
            Out::Ack { request_id, seq, time, duplicate } => self.push(Body::Ack(v1::Ack {
                request_id,
                seq: seq.0,
                time_ms: time.0,
                duplicate,
                recorded: None,
                before: Vec::new(),
            })),
            Out::Other(body) => self.push(*body),
        }
    }
}

impl Responses {
    /// Starts a stream; `worker_credit` is the Hello's, `window` what the Welcome granted the worker.
    pub fn new(outbox: Arc<Outbox>, source: Source, window: u64) -> Self {
        Self {
            outbox,
            source,
            lanes: VecDeque::new(),
            // Until the Hello says more, nothing is sent that costs credit.
            sending: Sending::new(0),
            due: 0,
            due_min: window / 8,
            ended: false,
        }
    }

    /// Fills one response; `None`: there is nothing to send.
    fn next_response(&mut self) -> Option<v1::ChannelResponse> {
        let taken = self.outbox.take(READY_MAX);
        if let Some(window) = taken.opened {
            self.sending = Sending::new(window);
        }
        self.sending.grant(taken.granted);
        self.lanes.extend(taken.fresh.into_iter().map(Lane::new));
        let mut batch = Batch::default();
        for (out, cost) in taken.ready {
            batch.push_out(out, cost);
        }
        self.fill_from_lanes(&mut batch);
        self.due += taken.released + batch.answered;
        if self.due > 0 && (!batch.messages.is_empty() || self.due >= self.due_min) {
            batch.push(Body::Credit(v1::Credit { bytes: std::mem::take(&mut self.due) }));
        }
        (!batch.messages.is_empty()).then_some(v1::ChannelResponse { messages: batch.messages })
    }

    fn fill_from_lanes(&mut self, batch: &mut Batch) {
        while batch.content_bytes < CONTENT_BYTES_MAX
            && self.sending.open()
            && let Some(mut lane) = self.lanes.pop_front()
        {
            let before = batch.content_bytes;
            let step = lane.step(&self.outbox, &mut self.source, batch);
            self.sending.spend(batch.content_bytes - before);
            if step == Step::More {
                self.lanes.push_back(lane);
            }
        }
    }
}

impl tokio_stream::Stream for Responses {
    type Item = Result<v1::ChannelResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            if let Some(response) = self.next_response() {
                return Poll::Ready(Some(Ok(response)));
            }
            let busy = !self.lanes.is_empty();
            match self.outbox.wait(cx.waker(), busy) {
                None => return Poll::Pending,
                Some(Next::Open) => {}
                Some(Next::Ended(status)) => {
                    self.ended = true;
                    return Poll::Ready(status.map(Err));
                }
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        // The worker is gone: the reader must not wait for more of it.
        self.outbox.abort(Status::cancelled("the worker closed the stream"));
    }
}
