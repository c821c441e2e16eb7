//! A worker in a few lines: one channel, one request at a time. Not an SDK: it runs no workflow and replays nothing.

use cellaflow_proto::v1;
use cellaflow_proto::v1::engine_message::Body as Heard;
use cellaflow_proto::v1::worker_message::Body as Said;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::connection::{Authenticated, Connection};

/// Bytes the worker lets the engine send unasked; enough for any test.
const CREDIT_BYTES: u64 = 256 << 20;

/// A connected worker.
pub struct Worker {
    /// Its instance, a UUID.
    pub instance: String,
    say: mpsc::Sender<v1::ChannelRequest>,
    hear: Streaming<v1::ChannelResponse>,
    /// Messages of the last response that were not looked at yet, the next one last.
    unread: Vec<Heard>,
    requests: u64,
}

impl Worker {
    /// Opens a channel and introduces itself; takes no session by dispatch.
    pub async fn connect(connection: &Connection, instance: &str) -> Self {
        let (say, said) = mpsc::channel(64);
        let hello = v1::Hello {
            instance: instance.to_owned(),
            credit_bytes: CREDIT_BYTES,
            client: "cellaflow-tests".to_owned(),
            ..v1::Hello::default()
        };
        say.send(message(Said::Hello(hello))).await.unwrap();
        let channel: Authenticated = connection.authenticated().await;
        let mut client = v1::worker_service_client::WorkerServiceClient::new(channel);
        let hear = client.channel(ReceiverStream::new(said)).await.unwrap().into_inner();
        let mut worker = Self { instance: instance.to_owned(), say, hear, unread: Vec::new(), requests: 0 };
        let first = worker.heard().await;
        assert!(matches!(first, Heard::Welcome(_)), "{first:?}");
        worker
    }

    /// Starts a session and takes its lease.
    pub async fn start(&mut self, request: v1::StartSessionRequest) -> v1::Assigned {
        let request_id = self.request_id();
        self.say(Said::Start(v1::Start { request_id, request: Some(request) })).await;
        self.assigned(request_id).await
    }

    /// Binds to a session with a new lease.
    pub async fn attach(&mut self, session_id: &str, version: &str) -> v1::Assigned {
        let request_id = self.request_id();
        let (session_id, version) = (session_id.to_owned(), version.to_owned());
        let attach = v1::Attach { request_id, session_id, version, ..v1::Attach::default() };
        self.say(Said::Attach(attach)).await;
        self.assigned(request_id).await
    }

    /// Appends to an assigned session.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn append(&mut self, to: &v1::Assigned, op: v1::append::Op) -> Result<v1::Ack, v1::Refusal> {
        let request_id = self.request_id();
        let append = v1::Append {
            request_id,
            session_id: to.session.clone().unwrap_or_default().session_id,
            epoch: to.epoch,
            after: Some(v1::After::default()),
            op: Some(op),
            ..v1::Append::default()
        };
        self.say(Said::Append(append)).await;
        loop {
            match self.heard().await {
                Heard::Ack(ack) if ack.request_id == request_id => return Ok(ack),
                Heard::Nack(nack) if nack.request_id == request_id => {
                    return Err(nack.refusal.unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Waits for the engine's next message of any kind.
    pub async fn heard(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.unread.pop() {
                return heard;
            }
            let response = self.hear.message().await.unwrap();
            let response = response.unwrap_or_else(|| panic!("the engine closed the channel"));
            self.unread.extend(response.messages.into_iter().rev().filter_map(|message| message.body));
        }
    }

    /// Sends one message.
    pub async fn say(&mut self, body: Said) {
        self.say.send(message(body)).await.unwrap();
    }

    fn request_id(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    async fn assigned(&mut self, request_id: u64) -> v1::Assigned {
        loop {
            match self.heard().await {
                Heard::Assigned(assigned) if assigned.request_id == request_id => return assigned,
                Heard::Nack(nack) if nack.request_id == request_id => panic!("refused: {nack:?}"),
                _ => {}
            }
        }
    }
}

fn message(body: Said) -> v1::ChannelRequest {
    v1::ChannelRequest { messages: vec![v1::WorkerMessage { body: Some(body) }] }
}
