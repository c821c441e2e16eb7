//! `cellaflow sessions check`: the SDK runs the code, this finds sessions, engine and SDK for it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::cli::client::{self, Engine};
use crate::cli::lookup::{self, Surroundings};
use crate::cli::output::{Exit, Failure};
use crate::cli::session_ref::Target;

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions check --code ./workflow.ts                  all that have not ended
  cellaflow sessions check order/42 --code ./dist/workflow.js
  cellaflow sessions check --code ./workflow.ts --from 1.0.0 --as 1.1.0 --json | jq .sessions

Runs new code over the ledgers of sessions that sleep, are paused or have no worker: does it ask for
what was recorded? Says \"compatible\", with what the code would do next, or the first difference with
both sides. Takes no lease, appends nothing and runs no step. Exits with 1 if a session is not
compatible. The code is a module that exports what workflow(…) returns, in JavaScript or TypeScript;
it runs in `node` (or CELLAFLOW_NODE), with the @cellaflow/sdk that is installed beside it; `npx
cellaflow-check` there does the same.";

/// The SDK's program, from its folder.
const PROGRAM: &str = "dist/check/main.js";
/// The SDK, from a folder of a project.
const PACKAGE: &str = "node_modules/@cellaflow/sdk";

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// Sessions: id, part of it, or WORKFLOW/KEY [default: all of the code's workflows that have not ended]
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,
    /// Module with the new code
    #[arg(long, value_name = "FILE")]
    code: PathBuf,
    /// Only sessions that are pinned to this version
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// The version to try, if the code has several
    #[arg(long = "as", value_name = "VERSION")]
    version: Option<String>,
    /// Lets ctx.resource acquire; else code that uses a resource outside of steps cannot be checked
    #[arg(long)]
    acquire: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Check {
    pub(super) fn run(self) -> Result<String, Failure> {
        let program = program(&self.code)?;
        let found =
            lookup::find(&self.engine, &Surroundings::of_process()).map_err(Failure::configuration)?;
        let sessions = if self.sessions.is_empty() { Vec::new() } else { client::block_on(self.named())? };
        let node = std::env::var_os("CELLAFLOW_NODE").unwrap_or_else(|| OsString::from("node"));
        let mut command = Command::new(&node);
        command.arg(program).arg(&self.code).args(sessions);
        for (flag, value) in [("--from", &self.from), ("--as", &self.version)] {
            command.args(value.iter().map(|value| format!("{flag}={value}")));
        }
        command.args(self.acquire.then_some("--acquire")).args(self.json.then_some("--json"));
        let connection = &found.connection;
        let told = [
            ("CELLAFLOW_URL", &connection.url),
            ("CELLAFLOW_TOKEN", &connection.token),
            ("CELLAFLOW_CA", &connection.ca),
            ("CELLAFLOW_CERT", &connection.cert),
            ("CELLAFLOW_KEY", &connection.key),
        ];
        let ended = command.envs(told).status().map_err(|error| {
            let node = node.display();
            Failure::configuration(format!(
                "cannot run {node} ({error}): install Node.js 22.12 or later, or name it in CELLAFLOW_NODE"
            ))
        })?;
        match ended.code().and_then(|code| u8::try_from(code).ok()) {
            Some(0) => Ok(String::new()),
            code => Err(Failure { message: String::new(), exit: exit(code) }),
        }
    }

    async fn named(&self) -> Result<Vec<String>, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let mut ids = Vec::new();
        for session in &self.sessions {
            let target = Target { session: session.clone(), namespace: String::new() };
            ids.push(target.find(&engine).await?.session.session_id);
        }
        Ok(ids)
    }
}

/// Exit codes are the same there; what is none of them is a problem.
fn exit(code: Option<u8>) -> Exit {
    let known = [Exit::Usage, Exit::Configuration, Exit::Unavailable, Exit::TryAgain, Exit::Forbidden];
    known.into_iter().find(|exit| Some(exit.code()) == code).unwrap_or(Exit::Problem)
}

/// The SDK's program that Node.js would find for the code: in the nearest folder above that has the SDK, or is it.
fn program(code: &Path) -> Result<PathBuf, Failure> {
    let code = code.canonicalize().map_err(|error| {
        Failure::usage(format!("cannot read {}: {error}; name the module with the new code", code.display()))
    })?;
    let mut beside = code.ancestors().skip(1).flat_map(|folder| {
        let own = is_sdk(folder).then(|| folder.join(PROGRAM));
        [Some(folder.join(PACKAGE).join(PROGRAM)), own]
    });
    beside.find_map(|program| program.filter(|program| program.is_file())).ok_or_else(|| {
        Failure::configuration(format!(
            "no @cellaflow/sdk is installed beside {}: run `npm install @cellaflow/sdk` there",
            code.display()
        ))
    })
}

fn is_sdk(folder: &Path) -> bool {
    let package = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&package).unwrap_or_default();
    package.get("name").and_then(serde_json::Value::as_str) == Some("@cellaflow/sdk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_found_where_node_would_find_it() {
        let project = tempfile::tempdir().unwrap();
        let code = project.path().join("src/agents/order.ts");
        std::fs::create_dir_all(code.parent().unwrap()).unwrap();
        std::fs::write(&code, "").unwrap();
        assert_eq!(program(&code).unwrap_err().exit, Exit::Configuration);
        let installed = project.path().canonicalize().unwrap().join(PACKAGE).join(PROGRAM);
        std::fs::create_dir_all(installed.parent().unwrap()).unwrap();
        std::fs::write(&installed, "").unwrap();
        assert_eq!(program(&code).unwrap(), installed);
        assert_eq!(program(&project.path().join("missing.ts")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn exit_codes_are_those_of_the_command_line() {
        assert_eq!(exit(Some(69)), Exit::Unavailable);
        assert_eq!((exit(Some(3)), exit(None)), (Exit::Problem, Exit::Problem));
    }
}
