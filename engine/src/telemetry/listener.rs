//! The Prometheus listener: `GET /metrics` over plain HTTP/1, nothing else (M2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Metrics;

/// Scrapers connected at a time; further ones wait.
const SCRAPERS_MAX: usize = 8;

/// Time for one scraper's connection, idle or not.
const SCRAPE_MAX: Duration = Duration::from_secs(30);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `metrics` on `listener` until `shutdown` completes.
///
/// Binding is the caller's, so that a taken port is a start-up error with the setting's name.
pub async fn serve_metrics(listener: TcpListener, metrics: Metrics, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(SCRAPERS_MAX));
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, _)) => {
                    let metrics = metrics.clone();
                    drop(tokio::spawn(async move {
                        let _slot = slot;
                        serve_scraper(socket, metrics).await;
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a metrics connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
}

async fn serve_scraper(socket: TcpStream, metrics: Metrics) {
    let service = service_fn(move |request| {
        let response = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
    // Errors and time-outs only mean that the scraper went away.
    drop(tokio::time::timeout(SCRAPE_MAX, connection).await);
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::from("only GET /metrics is served here\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(Full::from(metrics.encode()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn serves_metrics_with_names_and_units_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new();
        metrics.frames_committed.inc();
        metrics.requests_refused.get_or_create(&super::super::ReasonLabel { reason: "missing" }).inc();
        metrics.commit_seconds.observe(0.001);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve_metrics(listener, metrics, async { drop(stopped.await) }));

        let page = get(address, "/metrics").await;
        assert!(page.contains("cellaflow_frames_committed_total 1\n"), "{page}");
        assert!(page.contains("cellaflow_requests_refused_total{reason=\"missing\"} 1\n"), "{page}");
        assert!(page.contains("# UNIT cellaflow_commit_seconds seconds"), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"), "M2");

        stop.send(()).unwrap();
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the port closes with the daemon");
    }
}
