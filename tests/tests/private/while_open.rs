//! Tokens that end while a stream is open.

use std::time::{Duration, Instant};

use cellaflow_proto::v1::{Role, SubscribeSessionRequest};
use cellaflow_tests::channel::{Worker, completed};
use cellaflow_tests::client::{Client, by_id};
use cellaflow_tests::{Engine, payload, wait};
use tonic::Code;

/// Expiry or revocation closes a stream within a second.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// Waits for a live subscription's end; returns its code.
fn subscribed(client: &Client, session: &str) -> tokio::task::JoinHandle<Code> {
    let (client, session) = (client.clone(), by_id(session));
    tokio::spawn(async move {
        let request = SubscribeSessionRequest { session, ..SubscribeSessionRequest::default() };
        let mut stream =
            client.sessions().subscribe_session(request).await.expect("the token is good yet").into_inner();
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    })
}

async fn closes(worker: &Worker, subscribed: tokio::task::JoinHandle<Code>, ended: Instant) {
    let status = worker.ended().await.expect("it ends with a status");
    let (channel, code) = (ended.elapsed(), status.code());
    let subscription = wait::within("the subscription's end", subscribed).await.expect("it does not panic");
    assert_eq!((code, subscription), (Code::Unauthenticated, Code::Unauthenticated));
    assert!(channel <= CLOSED_WITHIN, "the channel was closed after {channel:?}");
    assert!(ended.elapsed() <= CLOSED_WITHIN, "the subscription was closed after {:?}", ended.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_a_token_closes_its_streams_within_a_second() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let (id, secret) = admin.token(Role::Worker, "default", 0).await;
    let client = engine.client_with(&secret).await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("revoked").await;
    let bystander = Worker::connect(&admin).await;
    let live = subscribed(&client, &session);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(worker.has_ended().is_none() && !live.is_finished(), "a good token keeps its streams");

    admin.revoke(&id).await;
    let revoked = Instant::now();
    closes(&worker, live, revoked).await;
    let late = worker.append(&session, 1, completed("late", payload::literal("1"))).await;
    assert!(late.is_err());
    assert_eq!(admin.session(&session).await.seq, 2);
    assert!(bystander.has_ended().is_none(), "others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_closes_its_streams_within_a_second() {
    const TTL_MS: u64 = 1_500;
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let made = Instant::now();
    let (_, secret) = admin.token(Role::Worker, "default", TTL_MS).await;
    let client = engine.client_with(&secret).await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("expiring").await;
    let live = subscribed(&client, &session);
    // Traffic is no excuse.
    let busy = tokio::spawn({
        let client = client.clone();
        let instance = worker.instance.clone();
        async move {
            loop {
                let request = cellaflow_proto::v1::HeartbeatRequest { instance: instance.clone() };
                if let Err(status) = client.workers().heartbeat(request).await {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let expires = Duration::from_millis(TTL_MS);
    tokio::time::sleep(expires.saturating_sub(made.elapsed() + Duration::from_millis(200))).await;
    assert!(worker.has_ended().is_none(), "it is good until it expires");
    closes(&worker, live, made + expires).await;
    assert_eq!(wait::within("the heartbeats' end", busy).await.unwrap(), Code::Unauthenticated);
}
