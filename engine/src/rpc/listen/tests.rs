//! Real sockets against the accept loop: TLS gets in, plaintext is told why not (N1 to N4).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::StreamExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

struct Fixture {
    address: SocketAddr,
    ca_pem: String,
    metrics: Metrics,
    /// Stops the accept loop when dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Fixture {
    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.address.port())
    }

    fn endpoint(&self, ca_pem: &str) -> Endpoint {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem)).domain_name("localhost");
        Endpoint::from_shared(self.url("https")).unwrap().tls_config(tls).unwrap()
    }

    fn refused(&self, reason: &'static str) -> u64 {
        self.metrics.connections_refused.get_or_create(&ReasonLabel { reason }).get()
    }

    /// Waits until a refusal was counted, which happens in a task of its own.
    async fn until_refused(&self, reason: &'static str) {
        let counted = async {
            while self.refused(reason) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), counted).await.expect("the refusal is counted");
    }
}

fn listen(adjust: impl FnOnce(&mut Options)) -> (Fixture, ReceiverStream<io::Result<Connection>>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let ca_pem = made.cert.pem();
    let key_pem = made.signing_key.serialize_pem();
    let pem = crate::rpc::tls::Pem { cert: ca_pem.as_bytes(), key: key_pem.as_bytes(), client_ca: None };
    let (_, tls) = watch::channel(crate::rpc::tls::server_config(pem).unwrap());
    let metrics = Metrics::new();
    let mut options = Options::new(tls, &Limits::default(), metrics.clone());
    adjust(&mut options);
    let listener = TcpListener::from_std(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let stream = incoming(listener, options, async { drop(stopped.await) });
    (Fixture { address, ca_pem, metrics, _stop: stop }, stream)
}

/// A server with only the health service.
async fn serve(adjust: impl FnOnce(&mut Options)) -> Fixture {
    let (fixture, incoming) = listen(adjust);
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    fixture
}

async fn check(channel: Channel) -> Result<i32, tonic::Status> {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel).check(request).await.map(|response| response.into_inner().status)
}

#[tokio::test]
async fn n1_a_tls_client_is_served_and_counted() {
    let fixture = serve(|_| {}).await;
    let channel = fixture.endpoint(&fixture.ca_pem).connect().await.unwrap();
    assert_eq!(check(channel).await.unwrap(), 1, "SERVING");
    assert_eq!(fixture.metrics.connections_open.get(), 1);
}

#[tokio::test]
async fn n4_a_plaintext_grpc_client_reads_why() {
    let fixture = serve(|_| {}).await;
    let channel = Endpoint::from_shared(fixture.url("http")).unwrap().connect().await.unwrap();
    let status = check(channel).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    assert!(status.message().starts_with("this port speaks TLS only: use https://"), "{status:?}");
    assert_eq!(fixture.refused("plaintext"), 1);
}

#[tokio::test]
async fn n4_a_plaintext_http_1_client_reads_why_and_is_closed() {
    let fixture = serve(|_| {}).await;
    let mut socket = TcpStream::connect(fixture.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains(plaintext::MESSAGE), "{text}");
}

#[tokio::test]
async fn n1_a_client_that_trusts_another_authority_does_not_get_in() {
    let fixture = serve(|_| {}).await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    assert!(fixture.endpoint(&other).connect().await.is_err());
    fixture.until_refused("handshake").await;
}

#[tokio::test]
async fn n2_silent_peers_hold_up_nobody_and_are_dropped_in_time() {
    let fixture = serve(|options| options.handshake_max = Duration::from_millis(300)).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(fixture.address).await.unwrap());
    }
    silent[0].write_all(&[TLS_HANDSHAKE, 3]).await.unwrap();
    let channel = fixture.endpoint(&fixture.ca_pem).connect().await.unwrap();
    assert_eq!(check(channel).await.unwrap(), 1, "served while others dawdle");
    fixture.until_refused("handshake_ms_max").await;
    assert_eq!(silent[1].read(&mut [0; 1]).await.unwrap(), 0, "closed by the server");
}

#[tokio::test]
async fn n2_handshakes_above_the_limit_are_closed_at_once() {
    let fixture = serve(|options| options.handshakes_max = 1).await;
    let _silent = TcpStream::connect(fixture.address).await.unwrap();
    let mut second = TcpStream::connect(fixture.address).await.unwrap();
    // The first one may not have been accepted yet when the second connects, but accepts are in order.
    let closed =
        tokio::time::timeout(Duration::from_secs(2), second.read(&mut [0; 1])).await.expect("at once");
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!(fixture.refused("handshakes_max"), 1);
}

#[tokio::test]
async fn n3_connections_above_the_limit_are_closed_and_a_closed_one_frees_its_slot() {
    let (fixture, mut connections) = listen(|options| options.connections_max = 1);
    let endpoint = fixture.endpoint(&fixture.ca_pem);
    // The server side's handshake ends only when the client's last message is read, so both run at once.
    let connect = |endpoint: Endpoint| tokio::spawn(async move { endpoint.connect().await });
    let first = connect(endpoint.clone());
    let held = connections.next().await.unwrap().unwrap();
    assert!(endpoint.connect().await.is_err());
    assert_eq!(fixture.refused("connections_max"), 1);
    drop(held);
    first.abort();
    assert_eq!(fixture.metrics.connections_open.get(), 0);
    let _second = connect(endpoint);
    assert!(connections.next().await.is_some(), "the slot is free again");
}

#[tokio::test]
async fn the_port_closes_when_the_daemon_stops() {
    let (fixture, mut connections) = listen(|_| {});
    let address = fixture.address;
    drop(fixture);
    assert!(connections.next().await.is_none());
    assert!(TcpStream::connect(address).await.is_err());
}
