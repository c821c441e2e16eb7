//! The services on a ledger in memory: what callers see, and what they never see.

mod contexts;
mod engine;
mod operator;
mod session;
mod streams;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Status};
use v1::context_service_server::ContextService as _;
use v1::engine_service_server::EngineService as _;
use v1::operator_service_server::OperatorService as _;
use v1::session_service_server::SessionService as _;

use super::auth::{Principal, Role};
use super::context::Context;
use super::fleet::Fleet;
use super::subscription::Subscribers;
use super::vitals::Vitals;
use super::{context_service, engine_service, operator_service, session_service};
use crate::clock::{Clock, Manual};
use crate::config::Limits;
use crate::graph::command::Rejection;
use crate::graph::ids::{InstanceId, Namespace, TokenId};
use crate::graph::session::Head;
use crate::ids::Mint;
use crate::ledger::{Parts, Settings, start};
use crate::stale::Stale;
use crate::storage::{LedgerId, Memory, Store};

const ONE: &str = "11111111-1111-7111-8111-111111111111";
const TWO: &str = "22222222-2222-7222-8222-222222222222";

/// A fleet in which everybody lives until told otherwise.
#[derive(Default)]
struct Workers {
    dead: Mutex<HashSet<InstanceId>>,
    called: Mutex<Vec<InstanceId>>,
}

impl Fleet for Workers {
    fn called(&self, instance: InstanceId, _: &Namespace) -> Result<(), Rejection> {
        self.called.lock().push(instance);
        Ok(())
    }

    fn holder_alive(&self, instance: InstanceId) -> bool {
        !self.dead.lock().contains(&instance)
    }

    fn waiting_for(&self, head: &Head) -> String {
        if head.holder.is_none() { format!("no worker for {}", head.workflow) } else { String::new() }
    }

    fn workers(&self, _: &dyn Fn(&str) -> bool) -> Vec<v1::WorkerStatus> {
        Vec::new()
    }
}

struct World {
    store: Arc<Memory>,
    workers: Arc<Workers>,
    clock: Arc<Manual>,
    stop: watch::Sender<bool>,
    engine: engine_service::Service,
    sessions: session_service::Service,
    operators: operator_service::Service,
    contexts: context_service::Service,
}

fn world() -> World {
    open(Arc::new(Memory::new(LedgerId([1; 16]))))
}

fn open(store: Arc<Memory>) -> World {
    let clock = Arc::new(Manual::at(1_800_000_000_000));
    let mint = Mint::seeded(clock.clone(), 7);
    let (ledger, _threads) = start(Parts {
        store: Arc::clone(&store) as Arc<dyn Store>,
        settings: Settings::default(),
        clock: clock.clone(),
        mint: mint.clone(),
        on_poison: Box::new(|_| panic!("the store cannot fail")),
    })
    .unwrap();
    let limits = Limits { context_versions_max: 2, ..Limits::default() };
    let stale = Arc::new(Stale::new(&limits, clock.clone()));
    ledger.observe(Arc::clone(&stale) as Arc<dyn crate::ledger::Observer>);
    let workers = Arc::new(Workers::default());
    let (stop, stopping) = watch::channel(false);
    let context = Context {
        ledger,
        fleet: Arc::clone(&workers) as Arc<dyn Fleet>,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        mint,
        vitals: Arc::new(Vitals::new(std::env::temp_dir(), 0, clock.clone())),
        backup_dir: std::env::temp_dir().join("never-written").into(),
        configured: Arc::new([principal(Role::Admin, "*")]),
        stopping,
    };
    World {
        store,
        workers,
        clock,
        stop,
        engine: engine_service::Service(context.clone()),
        sessions: session_service::Service {
            context: context.clone(),
            subscribers: Subscribers::new(&Limits::default()),
        },
        contexts: context_service::Service { context: context.clone(), stale, limits },
        operators: operator_service::Service(context),
    }
}

fn principal(role: Role, namespace: &str) -> Principal {
    Principal {
        token_id: TokenId([3; 16]),
        name: "ann".into(),
        role,
        namespace: namespace.into(),
        expires_ms: None,
    }
}

/// A request of an admin of `prod`.
fn ask<T>(message: T) -> Request<T> {
    ask_as(principal(Role::Admin, "prod"), message)
}

fn ask_as<T>(caller: Principal, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}

fn value(content: &[u8]) -> Option<v1::Payload> {
    Some(v1::Payload {
        format: v1::PayloadFormat::Value.into(),
        body: Some(v1::payload::Body::Data(Bytes::copy_from_slice(content))),
        ..v1::Payload::default()
    })
}

fn bytes_of(payload: Option<v1::Payload>) -> Bytes {
    match payload.unwrap().body {
        Some(v1::payload::Body::Data(bytes)) => bytes,
        other => panic!("expected data, got {other:?}"),
    }
}

/// A start by a thin client that takes the lease.
fn begin(key: &str) -> v1::StartSessionRequest {
    v1::StartSessionRequest {
        workflow: "audit".into(),
        version: "1".into(),
        key: key.into(),
        input: value(b"in"),
        instance: ONE.into(),
        ..v1::StartSessionRequest::default()
    }
}

fn step(session_id: &str, key: &str, output: &[u8]) -> v1::CommitStepRequest {
    v1::CommitStepRequest {
        session_id: session_id.into(),
        epoch: 1,
        outcome: Some(v1::commit_step_request::Outcome::Completed(v1::StepCompleted {
            step_key: key.into(),
            name: key.into(),
            attempt: 1,
            output: value(output),
            ..v1::StepCompleted::default()
        })),
        ..v1::CommitStepRequest::default()
    }
}

/// Messages up to the stream's end.
async fn all<M>(mut stream: impl Stream<Item = Result<M, Status>> + Unpin) -> Vec<M> {
    let mut messages = Vec::new();
    while let Some(message) = stream.next().await {
        messages.push(message.unwrap());
    }
    messages
}

impl World {
    /// Starts a session and returns its id.
    async fn begin(&self, key: &str) -> String {
        let started = self.engine.start_session(ask(begin(key))).await.unwrap().into_inner();
        started.session.unwrap().session_id
    }

    async fn commit(&self, session: &str, key: &str, output: &[u8]) -> v1::CommitStepResponse {
        self.engine.commit_step(ask(step(session, key, output))).await.unwrap().into_inner()
    }

    /// Ends a session.
    async fn complete(&self, session: &str, output: &[u8]) {
        self.append(
            session,
            v1::append::Op::SessionCompleted(v1::SessionCompleted { output: value(output) }),
        )
        .await;
    }

    /// Appends as the session's run would on a channel.
    async fn append(&self, session: &str, op: v1::append::Op) {
        use super::convert::{Intake, session_id, to_append};
        let ledger = &self.engine.0.ledger;
        let place = ledger.lineage(session_id(session).unwrap()).unwrap().unwrap();
        let mut blobs = ledger.blobs(&place.salt);
        let mut intake = Intake { blobs: &mut blobs, namespace_salt: &[0; 32], transfers: &mut |_| None };
        let append =
            v1::Append { session_id: session.into(), epoch: 1, op: Some(op), ..v1::Append::default() };
        let converted = to_append(append, &mut intake).unwrap();
        let submission = crate::ledger::Submission {
            command: converted.command,
            blobs,
            evidence: converted.evidence,
            new_lineage: None,
            origin: crate::ledger::Origin::default(),
        };
        ledger.submit(submission).await.unwrap();
    }

    async fn get(&self, session: &str) -> v1::GetSessionResponse {
        let request = v1::GetSessionRequest { session: named(session) };
        self.sessions.get_session(ask(request)).await.unwrap().into_inner()
    }
}

fn named(session: &str) -> Option<v1::SessionRef> {
    Some(v1::SessionRef { by: Some(v1::session_ref::By::SessionId(session.into())) })
}

#[tokio::test]
async fn a_foreign_session_answers_exactly_as_one_that_does_not_exist() {
    let world = world();
    let theirs = world.begin("k").await;
    let nowhere = TWO.to_owned();
    let mut answers = Vec::new();
    for session in [theirs, nowhere] {
        let stranger = principal(Role::Admin, "other");
        fn ask_other<T>(caller: &Principal, message: T) -> Request<T> {
            ask_as(caller.clone(), message)
        }
        let id = || session.clone();
        let replay =
            v1::ReplayRequest { session_id: id(), acquire_lease: true, instance: TWO.into(), from_seq: 0 };
        let resolve = v1::ResolveStepRequest { session_id: id(), step_key: "s".into(), ..Default::default() };
        let verify = v1::VerifyLedgerRequest { session_id: id(), payloads: false };
        let resume = v1::ResumeSessionRequest { session_id: id(), ..Default::default() };
        let subscribe = v1::SubscribeSessionRequest { session: named(&session), ..Default::default() };
        let wait = v1::AwaitSessionRequest { session: named(&session), ..Default::default() };
        let get = v1::GetSessionRequest { session: named(&session) };
        answers.push([
            world.engine.commit_step(ask_other(&stranger, step(&session, "s", b"x"))).await.map(drop),
            world.engine.replay_recovery(ask_other(&stranger, replay)).await.map(drop),
            world.sessions.get_session(ask_other(&stranger, get)).await.map(drop),
            world.sessions.await_session(ask_other(&stranger, wait)).await.map(drop),
            world.sessions.subscribe_session(ask_other(&stranger, subscribe)).await.map(drop),
            world.operators.resume_session(ask_other(&stranger, resume)).await.map(drop),
            world.operators.resolve_step(ask_other(&stranger, resolve)).await.map(drop),
            world.operators.verify_ledger(ask_other(&stranger, verify)).await.map(drop),
        ]);
    }
    let text = |answers: &[Result<(), Status>; 8]| {
        let each = answers.iter().map(|answer| {
            let status = answer.as_ref().unwrap_err();
            assert!(status.message().starts_with("session_not_found: "), "{status}");
            (status.code(), status.message().to_owned(), status.details().to_vec())
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(text(&answers[0]), text(&answers[1]));
}

#[tokio::test]
async fn a_request_without_a_principal_is_refused_by_every_service() {
    let world = world();
    let started = world.engine.start_session(Request::new(begin("k"))).await;
    assert_eq!(started.unwrap_err().code(), tonic::Code::Unauthenticated);
    let listed = world.sessions.list_sessions(Request::new(v1::ListSessionsRequest::default())).await;
    assert_eq!(listed.unwrap_err().code(), tonic::Code::Unauthenticated);
    let status = world.operators.get_status(Request::new(v1::GetStatusRequest {})).await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unauthenticated);
}
