//! A raw worker: the channel of `WorkerService`, message by message, without any of an SDK's kindness.
//!
//! It does what it is told: it sends no heartbeat by itself, appends with whatever epoch it is given, and stops for no
//! revocation. So it can play the worker that was asleep.

mod inbox;
mod make;
mod waits;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::worker_message::Body;
use cellaflow_proto::v1::{
    self, Ack, Assigned, Attach, Event, Hello, Nack, Refusal, Release, ReleaseReason, Revoked,
    ServedWorkflow, Start, StartSessionRequest, WorkerMessage,
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::client::Client;
use crate::events::POOL;
use crate::payload::PIECE_BYTES_MAX;
use crate::wait;

use inbox::{Answer, Inbox, coalesced, read};
pub use make::{append, completed, session_completed, start};
pub use waits::{ARGS, approval, awaited, decision, timer, timer_at};

/// Bytes of engine messages this worker buffers.
const CREDIT_BYTES: u64 = 16 * 1024 * 1024;

/// Why a request has no ack.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The engine refused it; nothing was appended.
    Nack(Refusal),
    /// The stream ended first: the outcome is unknown.
    Lost,
}

impl Refused {
    /// The reason code.
    ///
    /// # Panics
    /// If the outcome is unknown.
    pub fn code(&self) -> &str {
        match self {
            Self::Nack(refusal) => &refusal.code,
            Self::Lost => panic!("the stream ended instead of an answer"),
        }
    }
}

/// What a request became.
pub type Answered<T> = Result<T, Refused>;

/// An append that was sent.
pub struct Pending(oneshot::Receiver<Answer>);

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn answer(self) -> Answered<Ack> {
        match wait::within("an answer", self.0).await {
            Ok(Answer::Ack(ack)) => Ok(ack),
            Ok(Answer::Nack(refusal)) => Err(Refused::Nack(refusal)),
            Ok(Answer::Assigned(assigned)) => panic!("an append was answered with {assigned:?}"),
            Err(_) => Err(Refused::Lost),
        }
    }
}

/// How to introduce a worker.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// Instance; empty: a new one.
    pub instance: String,
    /// Workflows and versions, for example `("audit", "1")`.
    pub serves: Vec<(&'static str, &'static str)>,
    /// Sessions it takes by dispatch.
    pub capacity: u32,
    /// Namespace; empty: the token's.
    pub namespace: String,
}

/// One open channel.
pub struct Worker {
    /// Its instance.
    pub instance: String,
    client: Client,
    out: mpsc::UnboundedSender<WorkerMessage>,
    inbox: Arc<Mutex<Inbox>>,
    changed: watch::Receiver<u64>,
    next: AtomicU64,
    reading: tokio::task::JoinHandle<()>,
}

/// A fresh instance id.
pub fn instance() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 24);
    format!("{:08x}-{:04x}-4000-8000-{:012x}", id >> 16, id & 0xffff, id)
}

impl Worker {
    /// Connects a worker that takes nothing by dispatch.
    pub async fn connect(client: &Client) -> Self {
        Self::introduce(client, Introduction::default()).await
    }

    /// Connects the same instance again, as after a lost connection.
    pub async fn reconnect(client: &Client, instance: &str) -> Self {
        Self::introduce(client, Introduction { instance: instance.to_owned(), ..Introduction::default() })
            .await
    }

    /// Connects a worker and waits for the welcome.
    pub async fn introduce(client: &Client, introduction: Introduction) -> Self {
        let worker = Self::try_introduce(client, introduction).await.expect("the engine takes workers");
        wait::until("the welcome", async || {
            worker.with(|inbox| {
                assert!(inbox.ended.is_none(), "the stream ended: {:?}", inbox.ended);
                inbox.welcome.clone()
            })
        })
        .await;
        worker
    }

    /// Opens the stream and sends a hello.
    ///
    /// # Errors
    /// If the stream is refused as a whole.
    pub async fn try_introduce(client: &Client, introduction: Introduction) -> Result<Self, Status> {
        let instance = if introduction.instance.is_empty() { instance() } else { introduction.instance };
        let hello = Hello {
            instance: instance.clone(),
            workflows: introduction
                .serves
                .iter()
                .map(|(workflow, version)| served(workflow, version))
                .collect(),
            capacity: introduction.capacity,
            credit_bytes: CREDIT_BYTES,
            client: "test".to_owned(),
            incarnation: String::new(),
            namespace: introduction.namespace,
        };
        Self::open(client, instance, Some(Body::Hello(hello))).await
    }

    /// Opens the stream with any first message.
    ///
    /// # Errors
    /// If the stream is refused as a whole.
    pub async fn open(client: &Client, instance: String, first: Option<Body>) -> Result<Self, Status> {
        let (out, sending) = mpsc::unbounded_channel();
        if let Some(body) = first {
            out.send(WorkerMessage { body: Some(body) }).expect("the receiver is here");
        }
        let stream = client.workers().channel(coalesced(sending)).await?.into_inner();
        let (notify, changed) = watch::channel(0);
        let inbox = Arc::<Mutex<Inbox>>::default();
        let reading = tokio::spawn(read(stream, Arc::clone(&inbox), out.clone(), notify));
        Ok(Self { instance, client: client.clone(), out, inbox, changed, next: AtomicU64::new(1), reading })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Inbox) -> T) -> T {
        look(&mut self.inbox.lock().expect("no test panics in here"))
    }

    /// Sends a message as it is.
    pub fn send(&self, body: Body) {
        // A stream that has ended is seen by who waits for an answer.
        let _ = self.out.send(WorkerMessage { body: Some(body) });
    }

    /// Sends a request with id 1 as it is, as the first one of this worker, and waits for its refusal; returns the code.
    ///
    /// # Panics
    /// If it is not refused.
    pub async fn told(&self, request: Body) -> String {
        let (id, answered) = self.ask();
        assert_eq!(id, 1, "the request carries the id of the first one");
        self.send(request);
        match wait::within("a refusal", answered).await {
            Ok(Answer::Nack(refusal)) => refusal.code,
            Ok(Answer::Ack(_) | Answer::Assigned(_)) => panic!("it was carried out"),
            Err(_) => panic!("the stream ended instead: {:?}", self.has_ended()),
        }
    }

    fn ask(&self) -> (u64, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.with(|inbox| {
            if inbox.ended.is_none() {
                inbox.waiting.insert(id, answer);
            }
        });
        (id, answered)
    }

    async fn assigned(&self, answered: oneshot::Receiver<Answer>) -> Answered<Assigned> {
        match wait::within("an assignment", answered).await {
            Ok(Answer::Assigned(assigned)) => Ok(*assigned),
            Ok(Answer::Nack(refusal)) => Err(Refused::Nack(refusal)),
            Ok(Answer::Ack(ack)) => panic!("a request to be bound was answered with {ack:?}"),
            Err(_) => Err(Refused::Lost),
        }
    }

    /// Starts a session and takes its lease.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn start(&self, request: StartSessionRequest) -> Answered<Assigned> {
        let (request_id, answered) = self.ask();
        self.send(Body::Start(Start { request_id, request: Some(request) }));
        self.assigned(answered).await
    }

    /// Starts a session of workflow `test`, version 1, under a key, and returns its id; its epoch is 1.
    pub async fn begin(&self, key: &str) -> String {
        let assigned = self.start(start(key)).await.expect("a new key starts a session");
        assert!(assigned.created, "the key was new");
        assert_eq!(assigned.epoch, 1, "the start took the lease");
        assigned.session.expect("an assignment has it").session_id
    }

    /// Binds to a session; `epoch` 0 asks for a new lease.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn attach(&self, session_id: &str, epoch: u64) -> Answered<Assigned> {
        self.attach_with(Attach {
            session_id: session_id.to_owned(),
            epoch,
            version: "1".to_owned(),
            ..Attach::default()
        })
        .await
    }

    /// Binds to a session as `attach` says; its request id is filled in.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn attach_with(&self, attach: Attach) -> Answered<Assigned> {
        let (request_id, answered) = self.ask();
        self.send(Body::Attach(Attach { request_id, ..attach }));
        self.assigned(answered).await
    }

    /// Takes a session over as soon as its holder counts as dead; returns the new epoch.
    pub async fn take_over(&self, session_id: &str) -> u64 {
        let assigned = wait::until("the lease to expire", async || match self.attach(session_id, 0).await {
            Ok(assigned) => Some(assigned),
            Err(refused) => {
                assert_eq!(
                    refused.code(),
                    "lease_held",
                    "nothing else keeps a lease from being taken: {refused:?}"
                );
                None
            }
        })
        .await;
        assert!(assigned.epoch > 1, "a lease was granted: {assigned:?}");
        assigned.epoch
    }

    /// Appends; large payloads go as pieces before.
    pub fn send_append(&self, append: v1::Append) -> Pending {
        let (request_id, answered) = self.ask();
        let append = self.in_pieces(v1::Append { request_id, ..append });
        self.send(Body::Append(append));
        Pending(answered)
    }

    /// Appends one operation under an epoch and waits for the answer.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn append(&self, session_id: &str, epoch: u64, op: Op) -> Answered<Ack> {
        self.send_append(append(session_id, epoch, op)).answer().await
    }

    /// Appends one operation to a session as it was assigned.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn commit(&self, to: &Assigned, op: Op) -> Answered<Ack> {
        let session = to.session.as_ref().expect("an assignment has it");
        self.append(&session.session_id, to.epoch, op).await
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn release(&self, session_id: &str, epoch: u64) -> Answered<Ack> {
        let (request_id, answered) = self.ask();
        let reason = ReleaseReason::Suspended.into();
        let session_id = session_id.to_owned();
        self.send(Body::Release(Release { request_id, session_id, epoch, reason, seen_seq: 0 }));
        Pending(answered).answer().await
    }

    /// Sends one heartbeat; returns whether the engine knows this instance.
    pub async fn heartbeat(&self) -> bool {
        let request = v1::HeartbeatRequest { instance: self.instance.clone() };
        self.client.workers().heartbeat(request).await.expect("a heartbeat is answered").into_inner().known
    }

    /// Keeps the leases of this instance alive until the guard is dropped.
    pub fn stay_alive(&self) -> Alive {
        let (client, instance) = (self.client.clone(), self.instance.clone());
        Alive(tokio::spawn(async move {
            loop {
                // An engine that is being killed does not answer.
                let _ = client.workers().heartbeat(v1::HeartbeatRequest { instance: instance.clone() }).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }))
    }

    /// Events of a session that came so far, payloads inside.
    pub fn events(&self, session_id: &str) -> Vec<Event> {
        self.with(|inbox| inbox.events.get(session_id).cloned().unwrap_or_default())
    }

    /// Waits until the events of a session reach `seq`, and returns them.
    pub async fn events_to(&self, session_id: &str, seq: u64) -> Vec<Event> {
        self.when("events", |inbox| {
            let events = inbox.events.get(session_id)?;
            (events.last()?.seq >= seq).then(|| events.clone())
        })
        .await
    }

    /// Waits for a session given by dispatch.
    pub async fn dispatched(&self) -> Assigned {
        self.when("a dispatched session", |inbox| {
            let position = inbox.assigned.iter().position(|assigned| assigned.request_id == 0)?;
            Some(inbox.assigned.remove(position))
        })
        .await
    }

    /// Waits for a session given by dispatch, for as long as it takes; `None`: the stream has ended.
    pub async fn dispatched_later(&self) -> Option<Assigned> {
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            let position = |inbox: &mut Inbox| inbox.assigned.iter().position(|to| to.request_id == 0);
            if let Some(found) = self.with(|inbox| position(inbox).map(|at| inbox.assigned.remove(at))) {
                return Some(found);
            }
            changed.changed().await.ok()?;
        }
    }

    /// Sessions given by dispatch that nobody waited for yet.
    pub fn undelivered(&self) -> usize {
        self.with(|inbox| inbox.assigned.len())
    }

    /// Waits until a session is revoked.
    pub async fn revoked(&self, session_id: &str) -> Revoked {
        self.when("a revocation", |inbox| {
            let found = inbox.revoked.iter().find(|revoked| revoked.session_id == session_id)?;
            Some(found.clone())
        })
        .await
    }

    /// Refusals that answered no request.
    pub fn nacks(&self) -> Vec<Nack> {
        self.with(|inbox| inbox.nacks.clone())
    }

    /// Waits until the stream has ended and returns how; `None`: without a status.
    pub async fn ended(&self) -> Option<Status> {
        self.when("the stream's end", |inbox| inbox.ended.clone()).await
    }

    /// How the stream has ended, if it has.
    pub fn has_ended(&self) -> Option<Option<Status>> {
        self.with(|inbox| inbox.ended.clone())
    }

    async fn when<T>(&self, what: &str, mut look: impl FnMut(&mut Inbox) -> Option<T>) -> T {
        let mut changed = self.changed.clone();
        let found = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = self.with(&mut look) {
                    return found;
                }
                if changed.changed().await.is_err() {
                    return self
                        .with(&mut look)
                        .unwrap_or_else(|| panic!("the stream ended before {what} came"));
                }
            }
        };
        wait::within(what, found).await
    }

    /// Sends payloads of more than a piece ahead and puts their transfer's id in their place.
    fn in_pieces(&self, append: v1::Append) -> v1::Append {
        if append.encoded_len() <= PIECE_BYTES_MAX {
            return append;
        }
        let descriptor = POOL.get_message_by_name("cellaflow.v1.Append").expect("it is in the contract");
        let mut dynamic =
            DynamicMessage::decode(descriptor, &*append.encode_to_vec()).expect("the same message");
        self.split(&mut dynamic);
        v1::Append::decode(&*dynamic.encode_to_vec()).expect("the same message")
    }

    fn split(&self, message: &mut DynamicMessage) {
        if message.descriptor().full_name() == "cellaflow.v1.Payload" {
            let data = message
                .get_field_by_name("data")
                .and_then(|value| value.as_bytes().cloned())
                .unwrap_or_default();
            if data.len() > PIECE_BYTES_MAX {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                let pieces = data.len().div_ceil(PIECE_BYTES_MAX);
                for (n, piece) in data.chunks(PIECE_BYTES_MAX).enumerate() {
                    let data = piece.to_vec().into();
                    self.send(Body::Piece(v1::PayloadPiece { transfer_id: id, data, last: n + 1 == pieces }));
                }
                message.set_field_by_name("transfer_id", Value::U64(id));
            }
            return;
        }
        for (_, value) in message.fields_mut() {
            match value {
                Value::Message(inner) => self.split(inner),
                Value::List(items) => {
                    items
                        .iter_mut()
                        .filter_map(|item| item.as_message_mut())
                        .for_each(|inner| self.split(inner));
                }
                _ => {}
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The connection breaks off without a word, as a killed worker's does.
        self.reading.abort();
    }
}

/// Sends heartbeats while it lives.
pub struct Alive(tokio::task::JoinHandle<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn served(workflow: &str, version: &str) -> ServedWorkflow {
    let versions = vec![version.to_owned()];
    ServedWorkflow { workflow: workflow.to_owned(), versions, definitions: Vec::new() }
}
