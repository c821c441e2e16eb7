//! Connects to an engine: one authenticated channel for every operator command.
//!
//! Invariants:
//! - E1 The token goes nowhere but to the address it was found with, over TLS.
//! - E2 A connection that fails says which address was tried, where it was found, and what to do.

use std::path::Path;
use std::time::Duration;

use cellaflow_proto::v1::archive_service_client::ArchiveServiceClient;
use cellaflow_proto::v1::context_service_client::ContextServiceClient;
use cellaflow_proto::v1::operator_service_client::OperatorServiceClient;
use cellaflow_proto::v1::session_service_client::SessionServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::lookup::{self, Found, Surroundings};
use super::output::{self, Failure};

/// Time to reach the engine, its handshake included.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection that carries a stream is asked for a sign of life this often, so that a vanished engine is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Largest message taken from the engine, in bytes: a session's result with room to spare.
const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Where systems keep the authorities they trust, for engines whose certificate comes from one of them.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Adds the token to every request.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel that sends the token with every request.
type Authenticated = InterceptedService<Channel, Bearer>;

/// What operators do, over it.
pub(super) type Operator = OperatorServiceClient<Authenticated>;

/// The services of one engine.
#[derive(Clone)]
pub(super) struct Engine {
    channel: Authenticated,
}

impl Engine {
    /// Connects to the engine that the options, the environment or a file name.
    ///
    /// # Errors
    /// A failure that names what was tried (E2).
    pub(super) async fn find(options: &lookup::Options) -> Result<Self, Failure> {
        let found = lookup::find(options, &Surroundings::of_process()).map_err(Failure::configuration)?;
        connect(&found).await
    }

    /// The read side.
    pub(super) fn sessions(&self) -> SessionServiceClient<Authenticated> {
        SessionServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// What is done about the archive.
    pub(super) fn archive(&self) -> ArchiveServiceClient<Authenticated> {
        ArchiveServiceClient::new(self.channel.clone())
    }

    /// Compacted contexts.
    pub(super) fn contexts(&self) -> ContextServiceClient<Authenticated> {
        ContextServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// What operators do.
    pub(super) fn operator(&self) -> Operator {
        OperatorServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// Runs a command that talks to an engine.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::other(format!("cannot start the runtime: {error}")))?.block_on(command)
}

async fn connect(found: &Found) -> Result<Engine, Failure> {
    let connection = &found.connection;
    let roots = if connection.ca.is_empty() { system_roots()? } else { connection.ca.clone() };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    if !connection.cert.is_empty() {
        tls = tls.identity(Identity::from_pem(&connection.cert, &connection.key));
    }
    let endpoint = Endpoint::from_shared(connection.url.clone())
        .and_then(|endpoint| {
            endpoint
                .connect_timeout(CONNECT_MAX)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(CONNECT_MAX)
                .tls_config(tls)
        })
        .map_err(|error| Failure::configuration(format!("{}: {}", found.source, chain(&error))))?;
    let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", connection.token).parse().map_err(|_| {
        Failure::configuration(format!("the token from {} is not one line of plain text", found.source))
    })?;
    bearer.set_sensitive(true);
    let attempt = tokio::time::timeout(CONNECT_MAX, endpoint.connect()).await;
    let channel = match attempt {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(unreachable_engine(found, &chain(&error))),
        Err(_) => {
            return Err(unreachable_engine(found, &format!("no answer within {} s", CONNECT_MAX.as_secs())));
        }
    };
    if let Some(stale) = &found.stale {
        output::complain(&format!("note: {stale}"));
    }
    Ok(Engine { channel: InterceptedService::new(channel, Bearer(bearer)) })
}

/// What to do about a connection that did not come about, for whoever reads `problem`.
fn advice(problem: &str) -> &'static str {
    if problem.contains("CaUsedAsEndEntity") {
        return "the server's certificate is marked as a certificate authority: give the engine one that is not (openssl: \
                -addext basicConstraints=critical,CA:FALSE)";
    }
    if problem.contains("CertificateRequired") {
        return "the engine asks its clients for a certificate: give --client-cert and --client-key, or CELLAFLOW_CERT and CELLAFLOW_KEY";
    }
    "is it running, and is this its address? `cellaflow dev` starts one; `cellaflow connect` shows what is found"
}

fn unreachable_engine(found: &Found, problem: &str) -> Failure {
    let advice = found.stale.clone().unwrap_or_else(|| advice(problem).to_owned());
    Failure::unavailable(format!(
        "cannot reach {} (found in {}): {problem}; {advice}",
        found.connection.url, found.source
    ))
}

/// Joins an error with its causes: the outermost one of a transport says nothing.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn system_roots() -> Result<String, Failure> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let places = named.iter().map(String::as_str).chain(SYSTEM_ROOTS);
    places.map(Path::new).find_map(|path| std::fs::read_to_string(path).ok()).ok_or_else(|| {
        Failure::configuration(
            "this system has no bundle of trusted authorities: give the engine's with --ca or CELLAFLOW_CA",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Exit;
    use crate::dev::Connection;
    use rustls::client::danger::ServerCertVerifier as _;

    #[test]
    fn e2_a_certificate_that_is_an_authority_gets_advice_of_its_own() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.der().clone()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let name = "localhost".try_into().unwrap();
        let now = rustls::pki_types::UnixTime::now();
        let refused = verifier
            .build()
            .unwrap()
            .verify_server_cert(made.der(), &[], &name, &[], now)
            .unwrap_err()
            .to_string();
        assert!(advice(&refused).contains("CA:FALSE"), "{refused}");
        assert!(advice("connection refused").contains("cellaflow dev"));
    }

    #[tokio::test]
    async fn e2_an_engine_that_is_not_there_is_named_with_its_source_and_advice() {
        // Bound and let go: nothing listens on it now.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ca = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
        let connection = Connection {
            url: format!("https://{free}"),
            token: "cf_secret".into(),
            ca,
            ..Connection::default()
        };
        let failure =
            connect(&Found { connection, source: "CELLAFLOW_URL".into(), stale: None }).await.err().unwrap();
        assert_eq!(failure.exit, Exit::Unavailable);
        for part in [free.to_string().as_str(), "CELLAFLOW_URL", "cellaflow dev", "refused"] {
            assert!(failure.message.contains(part), "{part} in {}", failure.message);
        }
        assert!(!failure.message.contains("cf_secret"), "P3");
    }
}
