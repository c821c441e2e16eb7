//! The compactor that `cellaflow dev` brings along: a child process beside the engine.
//!
//! - DC1 It ends with the engine, whatever ends it: its standard input is a pipe that only the engine holds, and it ends
//!   with its input.
//! - DC2 Ended, it is started again after a pause that doubles; each time is said. The engine needs it for nothing.
//! - DC3 The token is in its environment only, never among its arguments.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Connection;
use crate::config::{Beside, Settings};

/// Its program's name.
const PROGRAM: &str = "cellaflow-compactor";
/// How often it archives what ended long ago; what agents wait for is compacted at once.
const EVERY: &str = "1m";
/// Pauses before it is started again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(60);
/// A compactor that ran for so long starts with the first pause again.
const RAN_WELL: Duration = Duration::from_secs(60);

/// How to start it.
#[derive(Debug)]
struct Plan {
    program: PathBuf,
    archive: PathBuf,
    connection: Connection,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Its end is the child's (DC1).
    input: Option<ChildStdin>,
}

/// Keeps a compactor running until it is dropped.
#[derive(Debug)]
pub struct Compactor {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Compactor {
    /// Starts one as the settings say; `None`: they say not to, or there is none.
    #[must_use]
    pub fn start(settings: &Settings, connection: &Connection) -> Option<Self> {
        let program = match &settings.compactor {
            Beside::Off => return None,
            Beside::Program(path) => path.clone(),
            Beside::Found => match beside(std::env::current_exe().ok().as_deref()) {
                Some(program) => program,
                None => {
                    tracing::info!("no {PROGRAM} lies beside this program: contexts are not compacted");
                    return None;
                }
            },
        };
        let plan =
            Plan { program, archive: settings.data_dir.join("archive"), connection: connection.clone() };
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let of_thread = Arc::clone(&shared);
        let keep = move || keep(&plan, &of_thread);
        match std::thread::Builder::new().name("compactor".into()).spawn(keep) {
            Ok(_detached) => Some(Self { shared }),
            Err(error) => {
                tracing::warn!(%error, "the compactor cannot be kept");
                None
            }
        }
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock();
        state.stopping = true;
        drop(state.input.take()); // DC1
        changed.notify_all();
    }
}

/// The compactor in the folder of a program.
fn beside(engine: Option<&Path>) -> Option<PathBuf> {
    let path = engine?.with_file_name(PROGRAM);
    path.is_file().then_some(path)
}

/// Starts it again and again (DC2); returns when the engine stops.
fn keep(plan: &Plan, shared: &(Mutex<State>, Condvar)) {
    let (state, changed) = shared;
    let mut pause = PAUSE_FIRST;
    loop {
        let clock = crate::clock::System;
        let began_ms = crate::clock::Clock::mono_ms(&clock);
        let ended = match spawn(plan) {
            Ok(mut child) => {
                let mut held = state.lock();
                if held.stopping {
                    drop(child.stdin.take());
                } else {
                    held.input = child.stdin.take();
                }
                drop(held);
                child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
            }
            Err(error) => format!("{}: {error}", plan.program.display()),
        };
        let ran_ms = crate::clock::Clock::mono_ms(&clock).saturating_sub(began_ms);
        if Duration::from_millis(ran_ms) >= RAN_WELL {
            pause = PAUSE_FIRST;
        }
        let mut held = state.lock();
        if !held.stopping {
            tracing::warn!(ended, again_in_s = pause.as_secs(), "the compactor ended");
            let _timed_out = changed.wait_while_for(&mut held, |state| !state.stopping, pause).timed_out();
        }
        if held.stopping {
            return;
        }
        drop(held);
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

fn spawn(plan: &Plan) -> std::io::Result<Child> {
    Command::new(&plan.program)
        .args(["run", "--every", EVERY, "--while-input"])
        .env("CELLAFLOW_URL", &plan.connection.url)
        .env("CELLAFLOW_TOKEN", &plan.connection.token)
        .env("CELLAFLOW_CA", &plan.connection.ca)
        .env("CELLAFLOW_ARCHIVE", &plan.archive)
        .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_is_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let engine = folder.path().join("cellaflow");
        assert_eq!(beside(Some(&engine)), None);
        std::fs::write(folder.path().join(PROGRAM), "").unwrap();
        assert_eq!(beside(Some(&engine)), Some(folder.path().join(PROGRAM)));
        assert_eq!(beside(None), None);
    }
}
