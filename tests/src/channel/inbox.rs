//! The two directions of a raw worker's stream: what it sends goes out together, what it is sent is sorted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cellaflow_proto::v1::worker_message::Body;
use cellaflow_proto::v1::{
    self, Ack, Assigned, ChannelRequest, Event, Nack, Refusal, Revoked, Welcome, WorkerMessage,
    engine_message,
};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::events::Pieces;

pub(super) enum Answer {
    Ack(Ack),
    Nack(Refusal),
    Assigned(Box<Assigned>),
}

/// What a worker has been sent.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) waiting: HashMap<u64, oneshot::Sender<Answer>>,
    pub(super) events: HashMap<String, Vec<Event>>,
    pub(super) assigned: Vec<Assigned>,
    pub(super) revoked: Vec<Revoked>,
    pub(super) nacks: Vec<Nack>,
    pub(super) welcome: Option<Welcome>,
    /// How the stream ended.
    pub(super) ended: Option<Option<Status>>,
}

/// Messages that are ready go out together, within the size of a request.
pub(super) fn coalesced(
    mut messages: mpsc::UnboundedReceiver<WorkerMessage>,
) -> impl tokio_stream::Stream<Item = ChannelRequest> + Send {
    const REQUEST_BYTES_MAX: usize = 1024 * 1024;
    let (out, requests) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(first) = messages.recv().await {
            let mut bytes = first.encoded_len();
            let mut together = vec![first];
            while bytes < REQUEST_BYTES_MAX
                && let Ok(next) = messages.try_recv()
            {
                bytes += next.encoded_len();
                together.push(next);
            }
            if out.send(ChannelRequest { messages: together }).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(requests)
}

pub(super) async fn read(
    mut stream: tonic::Streaming<v1::ChannelResponse>,
    inbox: Arc<Mutex<Inbox>>,
    out: mpsc::UnboundedSender<WorkerMessage>,
    notify: watch::Sender<u64>,
) {
    let mut pieces = Pieces::default();
    let ended = loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => break None,
            Err(status) => break Some(status),
        };
        let mut content_bytes = 0;
        for message in response.messages {
            content_bytes += message.encoded_len() as u64;
            let body = message.body.expect("an engine of our version");
            take(body, &mut pieces, &mut inbox.lock().expect("no test panics in here"));
        }
        let _ = out.send(WorkerMessage { body: Some(Body::Credit(v1::Credit { bytes: content_bytes })) });
        notify.send_modify(|version| *version += 1);
    };
    {
        let mut inbox = inbox.lock().expect("no test panics in here");
        inbox.waiting.clear();
        inbox.ended = Some(ended);
    }
    notify.send_modify(|version| *version += 1);
}

fn take(body: engine_message::Body, pieces: &mut Pieces, inbox: &mut Inbox) {
    use engine_message::Body as Sent;
    let answer = |inbox: &mut Inbox, id: u64, answer: Answer| {
        if let Some(waiting) = inbox.waiting.remove(&id) {
            // Who asked may have stopped waiting.
            let _ = waiting.send(answer);
        }
    };
    match body {
        Sent::Welcome(welcome) => inbox.welcome = Some(welcome),
        Sent::Assigned(assigned) if assigned.request_id == 0 => inbox.assigned.push(assigned),
        Sent::Assigned(assigned) => answer(inbox, assigned.request_id, Answer::Assigned(Box::new(assigned))),
        Sent::Events(sent) => {
            let whole: Vec<Event> = sent.events.into_iter().map(|event| pieces.complete(event)).collect();
            inbox.events.entry(sent.session_id).or_default().extend(whole);
        }
        Sent::Ack(ack) => {
            let ack = Ack { recorded: ack.recorded.map(|event| pieces.complete(event)), ..ack };
            answer(inbox, ack.request_id, Answer::Ack(ack));
        }
        Sent::Nack(nack) if nack.request_id == 0 => inbox.nacks.push(nack),
        Sent::Nack(nack) => {
            let refusal = nack.refusal.expect("a nack says why");
            answer(inbox, nack.request_id, Answer::Nack(refusal));
        }
        Sent::Revoked(revoked) => inbox.revoked.push(revoked),
        Sent::Piece(piece) => pieces.take(piece),
        Sent::Credit(_) | Sent::Draining(_) => {}
    }
}
