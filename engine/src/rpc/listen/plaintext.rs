//! Answers plaintext HTTP on the TLS port so that a person understands (N4).
//!
//! Without an answer a gRPC client with `http://` in its address only ever sees a reset connection, and retries.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The answer, in every protocol.
pub(super) const MESSAGE: &str = "this port speaks TLS only: use https:// and the engine's CA certificate \
                                  (`cellaflow connect --env` prints both for a dev engine)";

/// Serves one refusal and closes; ends by itself only after an answer, so the caller sets the time limit.
pub(super) async fn refuse(socket: TcpStream) {
    let answered = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        // Further requests on this connection are cut off by the graceful shutdown below.
        answered.notify_one();
        let response = answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = answered.notified() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "refusing a plaintext connection failed");
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        // Not `unavailable`: clients would retry what can never succeed.
        return tonic::Status::failed_precondition(MESSAGE).into_http();
    }
    let mut response = Response::new(Full::from(format!("{MESSAGE}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
