//! One engine process and its folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cellaflow_proto::v1::engine_service_client::EngineServiceClient;
use cellaflow_proto::v1::operator_service_client::OperatorServiceClient;
use cellaflow_proto::v1::session_service_client::SessionServiceClient;
use cellaflow_proto::v1::worker_service_client::WorkerServiceClient;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::connection::{Authenticated, Connection};

/// Time an engine has to be ready, its first start on a busy machine included.
const READY_MAX: Duration = Duration::from_secs(30);

/// Time an engine has to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(15);

/// How often a file or process is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(20);

/// TTL of leases of a [`Engine::quick`] engine: the shortest that it takes.
const QUICK_LEASE_TTL: Duration = Duration::from_millis(500);

/// How an engine is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further flags of `cellaflow dev`, for example `["--lease-ttl-ms", "2000"]`.
    pub flags: Vec<String>,
}

/// A running `cellaflow dev` on a port of its own. Dropped: killed, and its folder deleted.
pub struct Engine {
    folder: tempfile::TempDir,
    options: Options,
    process: Child,
    /// How to reach it; changes with every restart, since the port does.
    pub connection: Connection,
}

/// Returns the program under test: `CELLAFLOW_BIN`, or the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CELLAFLOW_BIN") {
        return path.into();
    }
    // target/debug/deps/test-0123 → target/debug/cellaflow
    let test = std::env::current_exe().unwrap();
    let found =
        test.ancestors().skip(1).take(3).map(|folder| folder.join("cellaflow")).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no `cellaflow` beside {}: run `cargo build --workspace --bins` first, or set CELLAFLOW_BIN",
            test.display()
        )
    })
}

impl Engine {
    /// Starts an engine in a new folder and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts an engine with further flags.
    pub async fn start_with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = spawn(folder.path(), &options);
        let connection = ready(folder.path(), &mut process).await;
        Self { folder, options, process, connection }
    }

    /// Starts an engine whose leases end soon.
    pub async fn quick() -> Self {
        let ttl = QUICK_LEASE_TTL.as_millis().to_string();
        Self::start_with(Options { flags: vec!["--lease-ttl-ms".into(), ttl] }).await
    }

    /// An engine that was never started; its folder does not exist yet.
    pub fn unborn() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Something that has ended, in the place of the process.
        let mut process = Command::new(binary()).arg("--version").stdout(Stdio::null()).spawn().unwrap();
        process.wait().unwrap();
        let connection = Connection { url: String::new(), token: String::new(), ca: String::new() };
        Self { folder, options: Options::default(), process, connection }
    }

    /// Starts the engine and kills it after a while, ready or not.
    pub async fn restart_and_kill_after(&mut self, while_: Duration) {
        assert!(self.process.try_wait().unwrap().is_some(), "the engine still runs");
        self.process = spawn(self.folder.path(), &self.options);
        tokio::time::sleep(while_).await;
        self.kill();
    }

    /// TTL of leases of a [`Engine::quick`] engine.
    pub const fn lease_ttl(&self) -> Duration {
        QUICK_LEASE_TTL
    }

    /// A client with the engine's own token, an admin's of all namespaces.
    pub async fn client(&self) -> Client {
        Client::connect(&self.connection).await
    }

    /// A client with another token; empty: none.
    pub async fn client_with(&self, token: &str) -> Client {
        Client::connect(&Connection { token: token.to_owned(), ..self.connection.clone() }).await
    }

    /// Data folder.
    pub fn data(&self) -> PathBuf {
        data(self.folder.path())
    }

    /// Id of the process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the engine like a crash (SIGKILL).
    pub fn kill(&mut self) {
        // An error means it has ended already, which is what was wanted.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// Asks the engine to stop (SIGTERM), waits, and returns its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).unwrap();
        let looks = STOP_MAX.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("the engine did not stop within {STOP_MAX:?}:\n{}", log(self.folder.path()));
    }

    /// Starts the engine again on the same folder, after `kill` or `stop`; the port changes.
    pub async fn restart(&mut self) {
        assert!(self.process.try_wait().unwrap().is_some(), "the engine still runs");
        self.process = spawn(self.folder.path(), &self.options);
        self.connection = ready(self.folder.path(), &mut self.process).await;
    }

    /// Ends the engine like a crash and starts it again on the same folder; the port changes.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.restart().await;
    }

    /// Kills the engine and starts it again on the same folder with other flags; the port changes.
    pub async fn restart_with(&mut self, flags: &[&str]) {
        self.kill();
        self.options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.restart().await;
    }

    /// Starts the engine again on a folder that it must refuse; returns its exit code and what it said.
    pub async fn restart_refused(&mut self) -> (Option<i32>, String) {
        assert!(self.process.try_wait().unwrap().is_some(), "the engine still runs");
        let said = self.log().len();
        self.process = spawn(self.folder.path(), &self.options);
        let looks = READY_MAX.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), self.log()[said..].to_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("the engine refused nothing:\n{}", self.log());
    }

    /// What the engine logged since its folder was made.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }

    /// The published service.
    pub async fn published(&self) -> EngineServiceClient<Authenticated> {
        EngineServiceClient::new(self.connection.authenticated().await)
    }

    /// The read side.
    pub async fn sessions(&self) -> SessionServiceClient<Authenticated> {
        SessionServiceClient::new(self.connection.authenticated().await)
    }

    /// What operators do.
    pub async fn operator(&self) -> OperatorServiceClient<Authenticated> {
        OperatorServiceClient::new(self.connection.authenticated().await)
    }

    /// What worker processes use.
    pub async fn worker(&self) -> WorkerServiceClient<Authenticated> {
        WorkerServiceClient::new(self.connection.authenticated().await)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the engine ---\n{}", self.log());
        }
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join(".cellaflow")
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn spawn(folder: &Path, options: &Options) -> Child {
    // An engine with a test clock ends when its input does.
    let clocked = options.flags.iter().any(|flag| flag == "--test-clock");
    let input = if clocked { Stdio::piped() } else { Stdio::null() };
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(binary())
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(data(folder))
        .args(&options.flags)
        // Tests start their own; a flag of theirs wins.
        .env("CELLAFLOW_ENGINE_COMPACTOR", "off")
        .current_dir(folder)
        .stdin(input)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits for the connection file of this very process: a file of an earlier one may still lie there.
async fn ready(folder: &Path, process: &mut Child) -> Connection {
    let looks = READY_MAX.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        match Connection::read(&data(folder).join("connection.json")) {
            Some((connection, pid)) if pid == u64::from(process.id()) => return connection,
            _ => {}
        }
        if let Some(status) = process.try_wait().unwrap() {
            panic!("the engine ended while it started ({status}):\n{}", log(folder));
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("the engine was not ready within {READY_MAX:?}:\n{}", log(folder));
}
