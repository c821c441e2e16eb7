//! No request passes unchecked, no stream outlives its token ("private"; A1 to A4).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer as _, Service as _};

use super::*;
use crate::clock::Manual;
use crate::config::tokens::Entry;
use crate::ids::token_hash;
use crate::telemetry::Metrics;

const NOW_MS: u64 = 1_800_000_000_000;
const START: &str = "/cellaflow.v1.EngineService/StartSession";
const COMMIT: &str = "/cellaflow.v1.EngineService/CommitStep";

fn entry(token: &str, role: Role, expires_ms: Option<u64>) -> Entry {
    Entry { hash: token_hash(token), role, namespace: "prod".into(), name: format!("{token}-id"), expires_ms }
}

fn gate(tokens: impl TokenLookup, clock: &Arc<Manual>) -> Gate {
    Gate {
        recheck: Duration::from_millis(10),
        ..Gate::new(Arc::new(tokens), Arc::clone(clock) as Arc<dyn Clock>)
    }
}

fn tokens() -> StaticTokens {
    let all = Role::ALL.map(|role| entry(role.name(), role, None));
    StaticTokens::new(&[&all[..], &[entry("short", Role::Worker, Some(NOW_MS + 1_000))]].concat())
}

fn request(path: &str, authorization: Option<&str>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap();
    if let Some(value) = authorization {
        request.headers_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

/// Sends a request through the layer to a service that counts, and returns who it says called.
async fn call(gate: Gate, request: Request<Body>) -> Result<Option<Principal>, Status> {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new(Body::empty());
        if let Some(principal) = request.extensions().get::<Principal>() {
            response.extensions_mut().insert(principal.clone());
        }
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let response = layer(gate, Metrics::new()).layer(service).call(request).await.unwrap();
    match Status::from_header_map(response.headers()) {
        Some(status) => {
            assert_eq!(reached.load(Ordering::SeqCst), 0, "A1: refused before the service");
            Err(status)
        }
        None => Ok(response.extensions().get::<Principal>().cloned()),
    }
}

async fn outcome(path: &str, authorization: Option<&str>) -> Result<Option<Principal>, Status> {
    call(gate(tokens(), &Arc::new(Manual::at(NOW_MS))), request(path, authorization)).await
}

#[tokio::test]
async fn a1_only_health_passes_without_a_token() {
    for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        assert_eq!(outcome(path, None).await.unwrap(), None);
    }
    for path in access::listed_methods().filter(|path| !access::is_open(path)) {
        assert_eq!(outcome(path, None).await.unwrap_err().code(), Code::Unauthenticated, "{path}");
    }
    assert_eq!(outcome("/no.Such/Method", None).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a1_malformed_and_unknown_tokens_are_refused_with_advice_and_unquoted() {
    for value in ["worker", "Basic worker", "Bearer", "Bearer ", "Bearer nobody", "Bearer worker extra"] {
        let status = outcome(START, Some(value)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{value}");
        assert!(status.message().contains("cellaflow "), "A4 says what to do: {}", status.message());
        assert!(!status.message().contains("nobody"), "A4 quotes nothing: {}", status.message());
    }
    let mut twice = request(START, Some("Bearer worker"));
    twice.headers_mut().append("authorization", "Bearer admin".parse().unwrap());
    let refused = call(gate(tokens(), &Arc::new(Manual::at(NOW_MS))), twice).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated, "two headers are ambiguous");
}

#[tokio::test]
async fn a_good_token_brings_its_principal() {
    let principal = outcome(COMMIT, Some("bearer worker")).await.unwrap().unwrap();
    assert_eq!(
        (principal.role, &*principal.namespace, &*principal.name),
        (Role::Worker, "prod", "worker-id")
    );
}

#[tokio::test]
async fn a2_unlisted_methods_are_closed_even_for_admins() {
    let status =
        outcome("/cellaflow.v1.EngineService/AddedTomorrow", Some("Bearer admin")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn wrong_roles_are_told_the_right_ones() {
    for role in [Role::Compactor, Role::Viewer] {
        let status = outcome(COMMIT, Some(&format!("Bearer {role}"))).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("worker or client or admin"), "{}", status.message());
    }
    assert!(outcome(START, Some("Bearer client")).await.is_ok());
    assert!(outcome(START, Some("Bearer viewer")).await.is_err());
}

#[tokio::test]
async fn an_expired_token_is_refused_from_its_millisecond_on() {
    let clock = Arc::new(Manual::at(NOW_MS + 999));
    let request = || request(COMMIT, Some("Bearer short"));
    assert!(call(gate(tokens(), &clock), request()).await.is_ok());
    clock.advance(1);
    let status = call(gate(tokens(), &clock), request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("2027-01-15T08:00:01.000Z"), "{}", status.message());
}

#[test]
fn messages_inside_streams_are_closed_until_listed() {
    let refusal = access::may_send(Role::Admin, "cellaflow.v1.NoSuchMessage", "arm").unwrap_err();
    assert_eq!(refusal.reason(), "unlisted", "A2");
}

#[test]
fn a5_a_principal_works_in_its_own_namespace_only() {
    let principal = |role, namespace: &str| Principal {
        token_id: TokenId([1; 16]),
        name: "t".into(),
        role,
        namespace: namespace.into(),
        expires_ms: None,
    };
    let own = principal(Role::Admin, "prod");
    assert_eq!(&*own.namespace_for("").unwrap(), "prod");
    assert_eq!(&*own.namespace_for("prod").unwrap(), "prod");
    assert_eq!(own.namespace_for("staging").unwrap_err().reason(), "namespace");
    assert!(own.sees("prod") && !own.sees("staging") && !own.sees(""));

    let every = principal(Role::Admin, EVERY_NAMESPACE);
    assert_eq!(&*every.namespace_for("").unwrap(), DEFAULT_NAMESPACE);
    assert_eq!(&*every.namespace_for("staging").unwrap(), "staging");
    assert!(every.sees("staging"));
    assert!(
        every.namespace_for("*").is_err() && every.namespace_for("No Such").is_err(),
        "nothing is stored under these"
    );
    assert!(!principal(Role::Client, EVERY_NAMESPACE).sees("prod"), "only admins see all");
}

/// One token that can be revoked.
struct Revocable(AtomicBool);

impl TokenLookup for Arc<Revocable> {
    fn find(&self, hash: &[u8; 32]) -> Option<Principal> {
        let known = StaticTokens::new(&[entry("worker", Role::Worker, None)]);
        if self.0.load(Ordering::SeqCst) { None } else { known.find(hash) }
    }
}

type Sender = tokio::sync::mpsc::Sender<Result<Frame<Bytes>, Status>>;

fn endless() -> (Sender, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, Body::new(StreamBody::new(ReceiverStream::new(receiver))))
}

/// Opens a stream through the layer; returns the request body as the service got it, and the response.
async fn open_stream(gate: Gate, request_body: Body, response_body: Body) -> (Body, Body) {
    let (pass, mut got) = tokio::sync::mpsc::channel(1);
    let mut response_body = Some(response_body);
    let service = tower::service_fn(move |request: Request<Body>| {
        pass.try_send(request.into_body()).unwrap();
        let response = Response::new(response_body.take().unwrap());
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let request = request(COMMIT, Some("Bearer worker")).map(|_| request_body);
    let response = layer(gate, Metrics::new()).layer(service).call(request).await.unwrap();
    (got.recv().await.unwrap(), response.into_body())
}

#[tokio::test]
async fn a3_revocation_ends_both_directions_of_an_idle_stream() {
    let lookup = Arc::new(Revocable(AtomicBool::new(false)));
    let ((_up, up_body), (down, down_body)) = (endless(), endless());
    let gate = gate(Arc::clone(&lookup), &Arc::new(Manual::at(NOW_MS)));
    let (mut request, mut response) = open_stream(gate, up_body, down_body).await;

    let early = tokio::time::timeout(Duration::from_millis(40), response.frame()).await;
    assert!(early.is_err(), "a valid token's stream stays open");
    lookup.0.store(true, Ordering::SeqCst);
    let within = Duration::from_secs(1);
    let trailers = tokio::time::timeout(within, response.frame()).await.unwrap().unwrap().unwrap();
    let status = Status::from_header_map(trailers.trailers_ref().unwrap()).unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    let cut = tokio::time::timeout(within, request.frame()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(cut.code(), Code::Unauthenticated);
    assert!(down.is_closed(), "the handler's stream was dropped");
    assert!(response.frame().await.is_none(), "nothing after the trailers");
}

#[tokio::test]
async fn a3_a_stream_that_is_never_idle_ends_too() {
    let lookup = Arc::new(Revocable(AtomicBool::new(false)));
    let busy =
        tokio_stream::iter(std::iter::repeat_with(|| Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))));
    let (_up, up_body) = endless();
    let gate = gate(Arc::clone(&lookup), &Arc::new(Manual::at(NOW_MS)));
    let (_request, response) = open_stream(gate, up_body, Body::new(StreamBody::new(busy))).await;
    let mut frames = response.into_data_stream();
    for _ in 0..3 {
        frames.next().await.unwrap().unwrap();
    }
    lookup.0.store(true, Ordering::SeqCst);
    let drained = async { while frames.next().await.is_some() {} };
    assert!(tokio::time::timeout(Duration::from_secs(1), drained).await.is_ok(), "it ended");
}

#[test]
fn static_tokens_find_their_own_and_nothing_else() {
    let tokens = tokens();
    assert_eq!(tokens.find(&token_hash("admin")).unwrap().role, Role::Admin);
    assert_eq!(tokens.find(&[0; 32]), None);
    let both = AnyOf(vec![Arc::new(StaticTokens::default()), Arc::new(tokens)]);
    assert_eq!(both.find(&token_hash("viewer")).unwrap().role, Role::Viewer);
}
