//! A whole engine on a memory store behind a real gRPC port, and workers that speak the channel by hand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status, Streaming};
use v1::engine_message::Body as Said;
use v1::worker_message::Body as Say;
use v1::worker_service_client::WorkerServiceClient;

use crate::clock::{Clock, Manual};
use crate::config::Limits;
use crate::dispatch::Dispatch;
use crate::graph::ids::{InstanceId, TokenId};
use crate::ids::Mint;
use crate::ledger::{self, Handle, Origin};
use crate::rpc::auth::{Principal, Role};
use crate::rpc::channel::{Parts, Service};
use crate::rpc::context::Context;
use crate::rpc::vitals::Vitals;
use crate::rpc::{binding, convert};
use crate::storage::faulty::Gate;
use crate::storage::{LedgerId, Memory, Store};
use crate::telemetry::Metrics;
use crate::{drivers, graph};

pub const TTL_MS: u64 = 1_000;
pub const WALL_MS: u64 = 1_700_000_000_000;
/// How long a test waits for a message that must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Engine {
    pub clock: Arc<Manual>,
    pub gate: Arc<Gate>,
    pub ledger: Handle,
    pub dispatch: Arc<Dispatch>,
    pub context: Context,
    port: u16,
    _folder: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

pub fn principal(role: Role, namespace: &str) -> Principal {
    Principal {
        token_id: TokenId::default(),
        name: "test".into(),
        role,
        namespace: namespace.into(),
        expires_ms: Some(WALL_MS + 3_600_000),
    }
}

/// Stands for the auth layer: the header names role and namespace.
fn authenticate(mut request: Request<()>) -> Result<Request<()>, Status> {
    let named = request.metadata().get("x-test").and_then(|named| named.to_str().ok()).unwrap_or_default();
    let (role, namespace) = named.split_once(' ').ok_or_else(|| Status::unauthenticated("no x-test"))?;
    let role = Role::parse(role).ok_or_else(|| Status::unauthenticated("no such role"))?;
    let principal = principal(role, namespace);
    request.extensions_mut().insert(principal);
    Ok(request)
}

pub async fn engine() -> Engine {
    let clock = Arc::new(Manual::at(WALL_MS));
    let gate = Gate::new();
    let (ledger, _threads) = ledger::start(ledger::Parts {
        store: Arc::new(Memory::with_gate(LedgerId([1; 16]), Arc::clone(&gate))) as Arc<dyn Store>,
        settings: ledger::Settings::default(),
        clock: clock.clone(),
        mint: Mint::seeded(clock.clone(), 7),
        on_poison: Box::new(|_| {}),
    })
    .unwrap();
    let dispatch = Dispatch::start(ledger.clone(), clock.clone(), TTL_MS).unwrap();
    tokio::spawn(drivers::start(ledger.clone(), Arc::clone(&dispatch), clock.clone()));
    let folder = tempfile::tempdir().unwrap();
    let (stop, stopping) = watch::channel(false);
    let context = Context {
        ledger: ledger.clone(),
        fleet: dispatch.clone(),
        clock: clock.clone(),
        mint: Mint::seeded(clock.clone(), 8),
        vitals: Arc::new(Vitals::new(folder.path().to_owned(), 0, clock.clone() as Arc<dyn Clock>)),
        backup_dir: folder.path().join("backups").into(),
        configured: Arc::from([]),
        stopping,
    };
    let parts = Parts {
        context: context.clone(),
        dispatch: Arc::clone(&dispatch),
        limits: Limits::default(),
        step_exhausted_pauses: false,
        metrics: Metrics::new(),
    };
    let server = Service::new(parts).into_server();
    let server = tonic::service::interceptor::InterceptedService::new(server, authenticate);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(server).serve_with_incoming(incoming));
    Engine { clock, gate, ledger, dispatch, context, port, _folder: folder, _stop: stop }
}

pub fn instance(n: u8) -> InstanceId {
    InstanceId([n; 16])
}

pub fn value(text: &[u8]) -> v1::Payload {
    v1::Payload {
        format: v1::PayloadFormat::Json.into(),
        body: Some(v1::payload::Body::Data(text.to_vec().into())),
        ..v1::Payload::default()
    }
}

pub fn start_request(key: &str) -> v1::StartSessionRequest {
    v1::StartSessionRequest {
        workflow: "audit".into(),
        version: "1".into(),
        key: key.into(),
        input: Some(value(b"{}")),
        ..v1::StartSessionRequest::default()
    }
}

impl Engine {
    /// Starts a session without a lease, as `client.start` does.
    pub async fn start_unleased(&self, key: &str) -> String {
        let start = convert::start(start_request(key), &mut |_| None).unwrap();
        let caller = principal(Role::Client, "team");
        let submission = binding::start(&self.context, &caller, start, Origin(None)).await.unwrap();
        self.ledger.submit(submission).await.unwrap().head.unwrap().session.to_string()
    }

    /// Submits a command as a driver or operator does.
    pub fn submit(
        &self,
        command: graph::command::Command,
    ) -> impl Future<Output = Result<ledger::Committed, ledger::Refused>> + use<> {
        let ledger = self.ledger.clone();
        let blobs = ledger.blobs(&[0; 32]);
        let submission =
            ledger::Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin(None) };
        async move { ledger.submit(submission).await }
    }

    /// A stream that has said nothing yet.
    pub async fn connect(&self, token: &str) -> Worker {
        let mut client =
            WorkerServiceClient::connect(format!("http://127.0.0.1:{}", self.port)).await.unwrap();
        let (outbound, messages) = mpsc::channel(64);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
        request.metadata_mut().insert("x-test", token.parse().unwrap());
        let inbound = client.channel(request).await.unwrap().into_inner();
        Worker { outbound: Some(outbound), inbound, pending: VecDeque::new(), next_request: 0 }
    }

    /// A worker of namespace "team" that serves audit 1 and takes `capacity` sessions.
    pub async fn worker(&self, n: u8, capacity: u32) -> Worker {
        let mut worker = self.connect("worker team").await;
        worker.say(Say::Hello(hello(n, capacity))).await;
        let Said::Welcome(welcome) = worker.heard().await else { panic!("no Welcome") };
        assert_eq!(welcome.lease_ttl_ms, TTL_MS);
        worker
    }

    /// Time passes for everybody, in steps that no driver misses.
    pub async fn pass(&self, ms: u64) {
        self.clock.advance(ms);
        tokio::time::sleep(Duration::from_millis(2 * drivers::TICK_MS)).await;
    }
}

pub fn hello(n: u8, capacity: u32) -> v1::Hello {
    v1::Hello {
        instance: instance(n).to_string(),
        workflows: vec![v1::ServedWorkflow {
            workflow: "audit".into(),
            versions: vec!["1".into()],
            definitions: Vec::new(),
        }],
        capacity,
        credit_bytes: 1024 * 1024,
        client: "test".into(),
        incarnation: String::new(),
        namespace: String::new(),
    }
}

/// One end of a channel.
pub struct Worker {
    outbound: Option<mpsc::Sender<v1::ChannelRequest>>,
    inbound: Streaming<v1::ChannelResponse>,
    pending: VecDeque<Said>,
    next_request: u64,
}

impl Worker {
    pub async fn say(&self, body: Say) {
        self.say_all(vec![body]).await;
    }

    pub async fn say_all(&self, bodies: Vec<Say>) {
        let messages = bodies.into_iter().map(|body| v1::WorkerMessage { body: Some(body) }).collect();
        self.outbound.as_ref().unwrap().send(v1::ChannelRequest { messages }).await.unwrap();
    }

    pub fn id(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// The next message that is no credit.
    pub async fn heard(&mut self) -> Said {
        self.heard_or_end().await.expect("the stream goes on")
    }

    pub async fn heard_or_end(&mut self) -> Result<Said, Option<Status>> {
        loop {
            while let Some(said) = self.pending.pop_front() {
                if !matches!(said, Said::Credit(_)) {
                    return Ok(said);
                }
            }
            let next = tokio::time::timeout(PATIENCE, self.inbound.message());
            match next.await.expect("the engine says something in time") {
                Ok(Some(response)) => {
                    self.pending.extend(response.messages.into_iter().filter_map(|message| message.body));
                }
                Ok(None) => return Err(None),
                Err(status) => return Err(Some(status)),
            }
        }
    }

    /// Nothing comes for a moment.
    pub async fn hears_nothing(&mut self) {
        let quiet = tokio::time::timeout(Duration::from_millis(150), self.heard()).await;
        assert!(quiet.is_err(), "unexpected: {quiet:?}");
    }

    pub async fn assigned(&mut self) -> v1::Assigned {
        match self.heard().await {
            Said::Assigned(assigned) => assigned,
            other => panic!("expected Assigned, got {other:?}"),
        }
    }

    pub async fn ack(&mut self) -> v1::Ack {
        match self.heard().await {
            Said::Ack(ack) => ack,
            other => panic!("expected Ack, got {other:?}"),
        }
    }

    pub async fn nack(&mut self) -> v1::Refusal {
        match self.heard().await {
            Said::Nack(nack) => nack.refusal.unwrap(),
            other => panic!("expected Nack, got {other:?}"),
        }
    }

    pub async fn events(&mut self) -> v1::Events {
        match self.heard().await {
            Said::Events(events) => events,
            other => panic!("expected Events, got {other:?}"),
        }
    }

    pub async fn revoked(&mut self) -> (u64, v1::RevokeReason) {
        match self.heard().await {
            Said::Revoked(revoked) => (revoked.epoch, revoked.reason()),
            other => panic!("expected Revoked, got {other:?}"),
        }
    }

    /// The seqs of a replay up to `to`, and the messages that came with it; checks R1 as far as it goes.
    pub async fn replayed(&mut self, to: u64) -> Vec<v1::Event> {
        let mut events: Vec<v1::Event> = Vec::new();
        while events.last().is_none_or(|last| last.seq < to) {
            events.extend(self.events().await.events);
        }
        events
    }

    /// Starts a session here and takes in its replay.
    pub async fn start(&mut self, key: &str) -> v1::Assigned {
        let request_id = self.id();
        self.say(Say::Start(v1::Start { request_id, request: Some(start_request(key)) })).await;
        let assigned = self.assigned().await;
        assert_eq!(assigned.request_id, request_id);
        if assigned.epoch != 0 {
            self.replayed(assigned.replay_to_seq).await;
        }
        assigned
    }

    pub async fn attach(&mut self, session_id: &str, epoch: u64, from_seq: u64) {
        let request_id = self.id();
        let (session_id, version) = (session_id.to_owned(), "1".to_owned());
        self.say(Say::Attach(v1::Attach { request_id, session_id, epoch, from_seq, version, look: false }))
            .await;
    }

    pub async fn append(&mut self, session_id: &str, epoch: u64, op: v1::append::Op) -> u64 {
        let request_id = self.id();
        self.say(Say::Append(append(request_id, session_id, epoch, op))).await;
        request_id
    }

    /// The connection breaks; nothing is said.
    pub fn drop_connection(self) {}

    /// The worker says nothing more, but listens.
    pub fn close_sending(&mut self) {
        self.outbound = None;
    }
}

pub fn append(request_id: u64, session_id: &str, epoch: u64, op: v1::append::Op) -> v1::Append {
    v1::Append {
        request_id,
        session_id: session_id.to_owned(),
        epoch,
        after: Some(v1::After { seq: 0, requests: 0 }),
        state_delta: None,
        conversation_delta: None,
        op: Some(op),
    }
}

pub fn step(key: &str, output: v1::Payload) -> v1::append::Op {
    v1::append::Op::StepCompleted(v1::StepCompleted {
        step_key: key.into(),
        name: key.into(),
        attempt: 1,
        output: Some(output),
        ..v1::StepCompleted::default()
    })
}

pub fn complete() -> v1::append::Op {
    v1::append::Op::SessionCompleted(v1::SessionCompleted { output: Some(value(b"\"done\"")) })
}

/// A guarded attempt of `attempt_ms` and 100 ms of grace.
pub fn intent(key: &str, attempt_ms: u64, policy: v1::GuardPolicy) -> v1::append::Op {
    v1::append::Op::GuardIntent(v1::GuardIntent {
        step_key: key.into(),
        name: key.into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        attempt_ms,
        grace_ms: 100,
        policy: policy.into(),
        idempotency_key: Some(v1::Payload {
            format: v1::PayloadFormat::Bytes.into(),
            ..value(key.as_bytes())
        }),
        input_hash: vec![2; 32].into(),
        refuse_in_flight: false,
    })
}
