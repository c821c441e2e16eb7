//! Runs the CLI against an engine, as a person in the folder of its project would.

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::engine::{Engine, binary};

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None`: ended by a signal.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Ran {
    /// Returns stdout of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Reads stdout of a command that must have succeeded as one JSON value.
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Reads stdout of a command that must have succeeded as one JSON value per line.
    pub fn json_lines(self) -> Vec<serde_json::Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Engine {
    /// Runs a command to its end. It finds the engine by the folder it is run in.
    pub async fn cli(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().await.unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a command that goes on by itself; its stdout is piped, and it is killed when dropped.
    pub fn cli_in_background(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.data();
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(folder.parent().unwrap())
            // Another engine of the machine must not be found instead.
            .env_remove("CELLAFLOW_URL")
            .env_remove("CELLAFLOW_TOKEN")
            .env_remove("CELLAFLOW_CA")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}
