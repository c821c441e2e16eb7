//! Promise: private. A served engine takes changed certificate files over while it runs, and asks clients for certificates
//! if it is told to; against the real daemon.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cellaflow_tests::binary;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Time the engine has to be ready, or to notice a changed file.
const NOTICE_MAX: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// An authority and what it issues, as PEM files of a folder.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.pem` and `NAME.key`, as a program does that renews certificates: whole files, renamed into place.
    fn issue(&self, folder: &Path, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        put(&folder.join(format!("{name}.key")), &key.serialize_pem());
        put(&folder.join(format!("{name}.pem")), &cert.pem());
    }
}

fn put(path: &Path, text: &str) {
    let neighbour = path.with_extension("new");
    std::fs::write(&neighbour, text).unwrap();
    std::fs::rename(neighbour, path).unwrap();
}

/// `cellaflow serve` on a port of its own. Dropped: killed, and its folder deleted.
struct Served {
    folder: TempDir,
    process: Child,
    url: String,
    token: String,
}

impl Served {
    fn start(authority: &Authority, client_ca: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        authority.issue(folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
        put(&at("ca.pem"), &authority.pem);
        let made = Command::new(binary()).args(["tokens", "hash", "--json"]).output().unwrap();
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let hash = made["hash"].as_str().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "listen = \"127.0.0.1:{port}\"\ndata_dir = {:?}\ntls_cert = {:?}\ntls_key = {:?}\nmetrics_listen = \"off\"\n",
            at("data"),
            at("server.pem"),
            at("server.key"),
        );
        if let Some(client_ca) = client_ca {
            put(&at("clients.pem"), &client_ca.pem);
            config += &format!("tls_client_ca = {:?}\n", at("clients.pem"));
        }
        config +=
            &format!("[[tokens]]\nname = \"t\"\nhash = \"{hash}\"\nrole = \"admin\"\nnamespace = \"*\"\n");
        std::fs::write(at("engine.toml"), config).unwrap();
        let log = File::create(at("log")).unwrap();
        let process = Command::new(binary())
            .args(["serve", "--config"])
            .arg(at("engine.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let token = made["token"].as_str().unwrap().to_owned();
        Self { folder, process, url: format!("https://127.0.0.1:{port}"), token }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    /// Asks for the status as somebody who trusts `ca`, with a certificate or without.
    fn ask(&self, ca: &str, identity: Option<&str>) -> Output {
        let mut command = Command::new(binary());
        command
            .args(["status", "--json", "--url", &self.url, "--token", &self.token, "--ca"])
            .arg(self.at(ca));
        if let Some(name) = identity {
            command.arg("--client-cert").arg(self.at(&format!("{name}.pem")));
            command.arg("--client-key").arg(self.at(&format!("{name}.key")));
        }
        for name in ["URL", "TOKEN", "CA", "CERT", "KEY"] {
            command.env_remove(format!("CELLAFLOW_{name}"));
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Waits until it answers whoever trusts `ca`.
    fn until_answered(&self, ca: &str, identity: Option<&str>) {
        let deadline = Instant::now() + NOTICE_MAX;
        loop {
            let answer = self.ask(ca, identity);
            if answer.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:?}\n{}", self.log());
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn changed_certificate_files_are_taken_over_without_a_restart() {
    let (first, second) = (Authority::new(), Authority::new());
    let served = Served::start(&first, None);
    put(&served.at("ca2.pem"), &second.pem);
    served.until_answered("ca.pem", None);
    assert!(!served.ask("ca2.pem", None).status.success());

    second.issue(served.folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
    served.until_answered("ca2.pem", None);
    assert!(!served.ask("ca.pem", None).status.success(), "the former certificate is gone");

    // A key without its certificate cannot serve: the former pair stays.
    put(&served.at("server.key"), &KeyPair::generate().unwrap().serialize_pem());
    let deadline = Instant::now() + NOTICE_MAX;
    while !served.log().contains("do not go together") {
        assert!(Instant::now() < deadline, "{}", served.log());
        std::thread::sleep(LOOK);
    }
    assert!(served.ask("ca2.pem", None).status.success());
}

#[test]
fn an_engine_that_asks_for_client_certificates_lets_nobody_in_without_one() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let served = Served::start(&authority, Some(&clients));
    clients.issue(served.folder.path(), "worker", ExtendedKeyUsagePurpose::ClientAuth);
    strangers.issue(served.folder.path(), "stranger", ExtendedKeyUsagePurpose::ClientAuth);
    served.until_answered("ca.pem", Some("worker"));
    let without = served.ask("ca.pem", None);
    let said = String::from_utf8_lossy(&without.stderr);
    assert!(
        !without.status.success() && said.contains("--client-cert"),
        "the token alone is not enough: {said}"
    );
    assert!(!served.ask("ca.pem", Some("stranger")).status.success());
}

#[test]
fn a_client_certificate_without_its_key_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "worker", ExtendedKeyUsagePurpose::ClientAuth);
    let output = Command::new(binary())
        .args(["status", "--url", "https://127.0.0.1:1", "--token", "t", "--client-cert"])
        .arg(folder.path().join("worker.pem"))
        .env_remove("CELLAFLOW_KEY")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--client-key"), "{said}");
}
