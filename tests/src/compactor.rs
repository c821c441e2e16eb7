//! Runs the compactor against an engine, as cron would.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::cli::Ran;
use crate::engine::{Engine, binary};

/// Returns the compactor: `CELLAFLOW_COMPACTOR_BIN`, or the one beside the engine.
pub fn compactor_binary() -> PathBuf {
    std::env::var_os("CELLAFLOW_COMPACTOR_BIN")
        .map_or_else(|| binary().with_file_name("cellaflow-compactor"), PathBuf::from)
}

impl Engine {
    /// The folder of the archive that belongs to this engine.
    pub fn archive(&self) -> PathBuf {
        self.data().with_file_name("archive")
    }

    /// Runs the compactor to its end. It finds the engine by the folder it is run in.
    pub async fn compactor(&self, arguments: &[&str]) -> Ran {
        let output = self.compactor_command(arguments).output().await.unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the compactor to its end with further environment.
    pub async fn compactor_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let output = self.compactor_command(arguments).envs(env.iter().copied()).output().await.unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command of the compactor that has nothing to do with an archive.
    pub async fn compactor_without_archive(&self, arguments: &[&str]) -> Ran {
        let output = self.compactor_bare(arguments).output().await.unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts the compactor with further environment; it is killed when dropped.
    pub fn compactor_in_background(&self, arguments: &[&str], env: &[(&str, &str)]) -> Child {
        let mut command = self.compactor_command(arguments);
        command.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn compactor_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.compactor_bare(arguments);
        command.env("CELLAFLOW_ARCHIVE", self.archive());
        command
    }

    fn compactor_bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(compactor_binary());
        command
            .args(arguments)
            .current_dir(self.data().parent().unwrap())
            .env_remove("CELLAFLOW_URL")
            .env_remove("CELLAFLOW_TOKEN")
            .env_remove("CELLAFLOW_CA")
            .env_remove("CELLAFLOW_ARCHIVE")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}
