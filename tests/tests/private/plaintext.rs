//! Plaintext on the TLS port: refused at once, in words that a person understands.

use std::time::{Duration, Instant};

use cellaflow_proto::v1::GetStatusRequest;
use cellaflow_proto::v1::operator_service_client::OperatorServiceClient;
use cellaflow_tests::Engine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

/// Immediately, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

fn address(engine: &Engine) -> String {
    engine.connection.url.trim_start_matches("https://").to_owned()
}

fn assert_understandable(said: &str) {
    assert!(
        said.contains("TLS only") && said.contains("https://") && said.contains("cellaflow connect --env"),
        "{said}"
    );
}

#[tokio::test]
async fn a_grpc_client_without_tls_is_told_so_and_does_not_retry() {
    let engine = Engine::quick().await;
    let began = Instant::now();
    let mut client = OperatorServiceClient::connect(format!("http://{}", address(&engine))).await.unwrap();
    let mut request = tonic::Request::new(GetStatusRequest {});
    // Not even a good token helps; and it must not be sent in the clear twice.
    let token = format!("Bearer {}", engine.connection.token).parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    let status = client.get_status(request).await.unwrap_err();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(status.code(), Code::FailedPrecondition, "not a code that clients retry");
    assert_understandable(status.message());
}

#[tokio::test]
async fn http_1_gets_the_same_words() {
    let engine = Engine::quick().await;
    let began = Instant::now();
    let mut socket = TcpStream::connect(address(&engine)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).await.unwrap();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    assert_understandable(&said);
}

#[tokio::test]
async fn what_is_neither_gets_nothing() {
    let engine = Engine::quick().await;
    let mut socket = TcpStream::connect(address(&engine)).await.unwrap();
    socket.write_all(b"\x00\x01\x02 what is this\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut said)).await;
    assert!(closed.is_ok(), "the connection is closed");
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("cellaflow.v1"), "{said}");
    let client = engine.client().await;
    client
        .engine()
        .start_session(cellaflow_tests::channel::start("later"))
        .await
        .expect("the engine serves on");
}
