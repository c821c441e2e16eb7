//! The data folder of `cellaflow dev`: made once, kept, private, and never someone else's (D1 to D5).

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::clock::Manual;
use crate::config::Mode;
use crate::ids;

const NOW_MS: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 86_400_000;

struct Fixture {
    home: tempfile::TempDir,
    clock: Arc<Manual>,
    mint: ids::Mint,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(Manual::at(NOW_MS));
        let mint = ids::Mint::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Self { home: tempfile::tempdir().unwrap(), clock, mint }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("project/.cellaflow")
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::defaults(Mode::Dev);
        settings.listen = "127.0.0.1:0".parse().unwrap();
        settings.data_dir = self.root();
        settings
    }

    fn prepare(&self, settings: Settings) -> Result<Prepared, Error> {
        prepare(settings, &*self.clock, &self.mint)
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().join(name)).unwrap()
    }
}

/// Lists every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn d1_first_start_makes_everything_private() {
    let fixture = Fixture::new();
    let prepared = fixture.prepare(fixture.settings()).unwrap();
    let path = prepared.publish().unwrap();
    let read = Connection::read(&path).unwrap();
    assert_eq!(read, prepared.connection);
    let port = prepared.listener.local_addr().unwrap().port();
    assert_eq!(read.url, format!("https://127.0.0.1:{port}"), "the port that was really bound");
    assert!(port != 0 && read.token.starts_with("cf_") && read.ca.contains("BEGIN CERTIFICATE"));
    assert_eq!(read.pid, Some(std::process::id()));
    for file in files_below(&fixture.root()) {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    let mode = fixture.root().join("tls").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "nobody else lists the keys");
    use crate::rpc::auth::TokenLookup as _;
    let principal = prepared.tokens.find(&token_hash(&read.token)).unwrap();
    assert_eq!((principal.role, &*principal.namespace), (Role::Admin, EVERY_NAMESPACE));
}

#[test]
fn d4_a_restart_keeps_authority_certificate_and_token() {
    let fixture = Fixture::new();
    let first = fixture.prepare(fixture.settings()).unwrap().connection;
    let server = fixture.file("tls/server.pem");
    let second = fixture.prepare(fixture.settings()).unwrap().connection;
    assert_eq!((&first.token, &first.ca), (&second.token, &second.ca));
    assert_eq!(fixture.file("tls/server.pem"), server);
}

#[test]
fn d4_other_names_or_a_near_end_issue_a_new_certificate_from_the_same_authority() {
    let fixture = Fixture::new();
    let first = fixture.prepare(fixture.settings()).unwrap().connection;
    let server = fixture.file("tls/server.pem");

    let mut settings = fixture.settings();
    settings.sans = vec!["build.example.com".to_owned(), "10.1.2.3".to_owned()];
    let second = fixture.prepare(settings.clone()).unwrap().connection;
    let with_names = fixture.file("tls/server.pem");
    assert_ne!(with_names, server, "--san changed");
    assert_eq!((&first.ca, &first.token), (&second.ca, &second.token));

    fixture.clock.advance(300 * DAY_MS);
    fixture.prepare(settings.clone()).unwrap();
    assert_eq!(fixture.file("tls/server.pem"), with_names, "65 days left");
    fixture.clock.advance(40 * DAY_MS);
    assert_eq!(fixture.prepare(settings.clone()).unwrap().connection.ca, first.ca);
    assert_ne!(fixture.file("tls/server.pem"), with_names, "25 days left");

    fixture.clock.advance(3_000 * DAY_MS);
    assert_ne!(
        fixture.prepare(settings).unwrap().connection.ca,
        first.ca,
        "an authority must outlive what it issues"
    );
}

#[test]
fn d4_a_start_that_was_killed_half_way_is_repaired() {
    let fixture = Fixture::new();
    fixture.prepare(fixture.settings()).unwrap();
    for file in ["tls/issued.json", "tls/server.key", "tls/ca.key", "tls/ca.pem", "tls/server.pem"] {
        std::fs::remove_file(fixture.root().join(file)).unwrap();
        fixture.prepare(fixture.settings()).unwrap();
    }
    let (key, other) = (fixture.root().join("tls/server.key"), rcgen::KeyPair::generate().unwrap());
    std::fs::write(&key, other.serialize_pem()).unwrap();
    fixture.prepare(fixture.settings()).expect("a pair that does not fit is issued again");
}

/// A client that trusts only the connection file's authority reaches the port under every default name.
#[tokio::test]
async fn the_certificate_is_good_for_every_name_it_promises() {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    let mut fixture = Fixture::new();
    // Verification compares with the real time.
    let now_ms = crate::clock::System.wall_ms();
    fixture.clock = Arc::new(Manual::at(now_ms));
    let mut settings = fixture.settings();
    settings.sans = vec!["build.example.com".to_owned()];
    let prepared = fixture.prepare(settings).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(prepared.connection.ca.as_bytes()).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(crate::rpc::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let names = [
        "localhost",
        "127.0.0.1",
        "::1",
        "host.docker.internal",
        "engine.cellaflow.local",
        "build.example.com",
    ];
    for (name, good) in names.map(|name| (name, true)).into_iter().chain([("evil.example.com", false)]) {
        let (near, far) = tokio::io::duplex(16_384);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&prepared.tls));
        let server = tokio::spawn(async move { acceptor.accept(far).await.is_ok() });
        let connected = connector.connect(ServerName::try_from(name).unwrap(), near).await;
        assert_eq!(connected.is_ok(), good, "{name}: {:?}", connected.err());
        drop(server.await);
    }
}

#[test]
fn d2_a_foreign_folder_is_left_as_it_was() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.root()).unwrap();
    std::fs::write(fixture.root().join("thesis.txt"), "mine").unwrap();
    let error = fixture.prepare(fixture.settings()).unwrap_err().to_string();
    assert!(error.contains("thesis.txt") && error.contains("--data"), "{error}");
    assert_eq!(files_below(&fixture.root()).len(), 1);
}

#[test]
fn d2_another_format_is_refused_by_number() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.root()).unwrap();
    std::fs::write(
        fixture.root().join("folder.json"),
        r#"{"kind": "cellaflow dev data folder", "format": 9}"#,
    )
    .unwrap();
    let error = fixture.prepare(fixture.settings()).unwrap_err().to_string();
    assert!(error.contains("format 9"), "{error}");
    assert_eq!(files_below(&fixture.root()).len(), 1);
}

#[test]
fn d3_a_used_folder_names_its_user() {
    let fixture = Fixture::new();
    let running = fixture.prepare(fixture.settings()).unwrap();
    running.publish().unwrap();
    let error = fixture.prepare(fixture.settings()).unwrap_err().to_string();
    assert!(
        error.contains(&std::process::id().to_string()) && error.contains(&running.connection.url),
        "{error}"
    );
    drop(running);
    fixture.prepare(fixture.settings()).expect("free again");
}

#[test]
fn d5_a_taken_port_says_so_and_leaves_the_old_connection_file() {
    let fixture = Fixture::new();
    fixture.prepare(fixture.settings()).unwrap().publish().unwrap();
    let before = fixture.file(CONNECTION_FILE);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = fixture.settings();
    settings.listen = other.local_addr().unwrap();
    let error = fixture.prepare(settings.clone()).unwrap_err().to_string();
    assert!(error.contains(&settings.listen.to_string()) && error.contains("--listen"), "{error}");
    assert_eq!(fixture.file(CONNECTION_FILE), before);
}

#[test]
fn a_stale_connection_file_is_replaced() {
    let fixture = Fixture::new();
    fixture.prepare(fixture.settings()).unwrap();
    std::fs::write(fixture.root().join(CONNECTION_FILE), "left by a crash").unwrap();
    let prepared = fixture.prepare(fixture.settings()).unwrap();
    let path = prepared.publish().unwrap();
    assert_eq!(Connection::read(&path).unwrap(), prepared.connection);
}

#[test]
fn names_that_no_certificate_can_hold_are_refused() {
    let fixture = Fixture::new();
    for name in ["", "a b", "-x", "http://x", "x:50051"] {
        let mut settings = fixture.settings();
        settings.sans = vec![name.to_owned()];
        let error = fixture.prepare(settings).unwrap_err().to_string();
        assert!(error.contains("--san"), "{name:?}: {error}");
    }
    assert!(!fixture.root().exists(), "D2: nothing was made");
}
