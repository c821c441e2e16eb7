//! The programs that are measured, as processes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Time an engine has to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `cellaflow`.
    pub engine: PathBuf,
    /// `cellaflow-compactor`.
    pub compactor: PathBuf,
    /// DuckDB's command line.
    pub duckdb: PathBuf,
}

/// An engine whose clock can be moved; killed when it is dropped.
pub struct Engine {
    process: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

/// What a program came to.
pub struct Ran {
    /// Its standard output.
    pub said: String,
    /// From its start to its end.
    pub took: Duration,
    /// Most memory it had resident, in MB (1e6 bytes).
    pub rss_mb_max: f64,
}

impl Engine {
    /// Starts one in a folder, with segments of an hour.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(programs: &Programs, folder: &Path) -> Self {
        let log = std::fs::File::create(folder.join("engine.log")).expect("the folder can be written to");
        let mut process = Command::new(&programs.engine)
            .args(["dev", "--test-clock", "0", "--listen", "127.0.0.1:0", "--segment-ms", "3600000"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", programs.engine.display()));
        let input = process.stdin.take().expect("it is piped");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let began = Instant::now();
        while !folder.join(".cellaflow/connection.json").exists() {
            assert!(began.elapsed() < READY_MAX, "the engine is not ready: see engine.log");
            std::thread::sleep(LOOK);
        }
        Self { process, input, answers }
    }

    /// Moves its clock forward.
    ///
    /// # Panics
    /// If it does not obey.
    pub fn skip(&mut self, hours: u64) {
        writeln!(self.input, "skip {}", hours * 3_600_000).expect("the engine listens");
        let answered = self.answers.iter().find(|line| line.starts_with("skipped"));
        assert!(answered.is_some(), "the engine is gone");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It has ended by itself, or is ended here.
        let _gone = self.process.kill().and_then(|()| self.process.wait());
    }
}

impl Programs {
    /// Runs the compactor in a folder.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn compactor(&self, folder: &Path, arguments: &[&str]) -> Ran {
        let mut command = Command::new(&self.compactor);
        command
            .args(arguments)
            .current_dir(folder)
            .env("RUST_LOG", "warn")
            .env("CELLAFLOW_DUCKDB", &self.duckdb);
        for name in ["CELLAFLOW_URL", "CELLAFLOW_TOKEN", "CELLAFLOW_CA", "CELLAFLOW_ARCHIVE"] {
            command.env_remove(name);
        }
        run(&mut command)
    }

    /// Asks DuckDB over the views of the archive in a folder; the rows, as JSON.
    ///
    /// # Panics
    /// If it refuses.
    #[must_use]
    pub fn ask(&self, archive: &Path, sql: &str) -> Vec<Value> {
        let mut command = Command::new(&self.duckdb);
        command
            .args(["-init", "cellaflow.sql", "-json", "-c", sql])
            .current_dir(archive)
            .stderr(Stdio::null());
        let said = run(&mut command).said;
        if said.trim().len() < 3 { Vec::new() } else { serde_json::from_str(&said).expect("rows as JSON") }
    }
}

fn run(command: &mut Command) -> Ran {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut stdout = child.stdout.take().expect("it is piped");
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut stdout).unwrap_or_default());
    let mut rss_mb_max = 0.0;
    let status = loop {
        rss_mb_max = resident_mb_max(child.id()).map_or(rss_mb_max, |now| now.max(rss_mb_max));
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let took = began.elapsed();
    let said = reading.join().expect("reading does not panic");
    assert!(status.success(), "{command:?} ended with {status}: {said}");
    Ran { said, took, rss_mb_max }
}

/// The most that a process has had resident; `None`: it has ended, or the system does not say.
fn resident_mb_max(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0 / 1e6)
}

/// Bytes of all files below a folder.
#[must_use]
pub fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path()),
        Ok(about) => about.len(),
        // Gone since it was listed.
        Err(_) => 0,
    });
    sizes.sum()
}
