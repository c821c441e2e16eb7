//! The command line: `cellaflow <command>`.
//!
//! Owns: arguments, help, what is printed, exit codes. Never: touches the ledger; operator commands are gRPC clients
//! like any other (`ledger accept-loss` and `restore`, which work offline, ask the storage seam), and `dev` and `serve` only hand settings to the daemon.
//!
//! Invariants:
//! - P1 stdout carries a command's result alone; with `--json` exactly one JSON value, of a stream one per line.
//!   Everything else goes to stderr.
//! - P2 Exit codes are those of `output::Exit`.
//! - P3 A secret is printed only by the commands whose purpose that is: `connect --env|--json`, `tokens create` and
//!   `tokens hash`.
//! - P4 What comes out of a ledger reaches a terminal without control characters.

mod approvals;
mod backup;
mod client;
mod connect;
mod event_line;
mod feed;
mod format;
mod history;
mod json;
mod json_input;
mod ledger;
pub mod lookup;
mod output;
mod payload;
mod refusal;
mod restore;
mod retry;
mod savings;
mod session_ref;
mod sessions;
mod setting_flags;
mod status;
mod steps;
mod streamed;
mod table;
mod tokens;
mod value;
mod workflows;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};

use crate::config::{Faults, Mode, Settings, faults};
use setting_flags::SettingFlags;

#[derive(Parser)]
#[command(name = "cellaflow", version, about = "Makes long-running AI agents survive crashes")]
#[command(after_help = HELP.as_str())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts an engine for development: no configuration, certificates and token are made on first start
    #[command(after_help = DEV_EXAMPLES)]
    Dev(Dev),
    /// Starts an engine for production, from a TOML file, CELLAFLOW_ENGINE_* variables and flags
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Prints what another shell, container or program needs to reach the engine
    #[command(after_help = connect::EXAMPLES)]
    Connect(connect::Connect),
    /// Says how the engine is: sessions, workers, space, memory
    #[command(after_help = status::EXAMPLES)]
    Status(status::ShowStatus),
    /// Looks at sessions, follows them, resumes them
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Says what became of a guarded step
    #[command(subcommand)]
    Steps(steps::Steps),
    /// Lists approvals that sessions wait for, and decides them
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// Lists the versions of workflows: what runs on each, what waits and why; drains them
    #[command(after_help = workflows::EXAMPLES)]
    Workflows(workflows::Workflows),
    /// Verifies the ledger; goes on after a loss
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Writes a copy of the whole ledger while the engine runs
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::Backup),
    /// Puts a backup together as a ledger again, with a new incarnation; offline
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Restore),
    /// Says what durable steps and compacted prompts save in a year
    #[command(after_help = savings::EXAMPLES)]
    Savings(savings::Savings),
    /// Creates, lists and revokes tokens
    #[command(subcommand)]
    Tokens(tokens::Tokens),
}

static HELP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "Start with `cellaflow dev`; every command explains itself with --help.\nOperator commands find the engine by \
         --url and --token, CELLAFLOW_URL, _TOKEN and _CA, or the nearest .cellaflow folder.\n\n{}",
        output::EXIT_CODES
    )
});

const DEV_EXAMPLES: &str = "Examples:
  cellaflow dev                                    engine on 127.0.0.1:50051, data in ./.cellaflow
  cellaflow dev --listen 0.0.0.0:50051             also for containers of this machine
  cellaflow dev --data-dir /tmp/try --listen 127.0.0.1:0
  cellaflow dev --san build.example.com            one more name in the certificate

Every setting is also read from CELLAFLOW_ENGINE_<NAME>; a flag wins.";

const SERVE_EXAMPLES: &str = "Examples:
  cellaflow serve --config /etc/cellaflow.toml
  cellaflow serve --config /etc/cellaflow.toml --check-config
  CELLAFLOW_ENGINE_LISTEN=0.0.0.0:443 cellaflow serve --tls-cert cert.pem --tls-key key.pem

A minimal file (make the hash with `cellaflow tokens hash`):
  tls_cert = \"/etc/cellaflow/cert.pem\"
  tls_key = \"/etc/cellaflow/key.pem\"
  [[tokens]]
  name = \"agents\"
  hash = \"64 hexadecimal digits\"
  role = \"worker\"            # worker, client, compactor, viewer or admin
  namespace = \"default\"
  expires = 2027-01-31T00:00:00Z   # optional

Flags win over CELLAFLOW_ENGINE_<NAME>, which wins over the file.";

#[derive(Args)]
struct Dev {
    #[command(flatten)]
    settings: SettingFlags<true>,
    #[command(flatten)]
    check: Check,
    /// For test kits: belongs to whoever holds its standard input, and its clock can skip time
    #[arg(long, hide = true, value_name = "AHEAD_MS")]
    test_clock: Option<u64>,
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    settings: SettingFlags<false>,
    #[command(flatten)]
    check: Check,
}

#[derive(Args)]
struct Check {
    /// Prints the effective settings, without secrets, and exits
    #[arg(long)]
    check_config: bool,
    /// With --check-config: prints JSON
    #[arg(long, requires = "check_config")]
    json: bool,
}

/// What is left to do after the command line was read.
pub enum Outcome {
    /// Run a daemon with these settings, whose `mode` says which, and with this test clock (`daemon::run`).
    Daemon(Box<Settings>, Option<u64>),
    /// Nothing: exit with this code.
    Exit(ExitCode),
}

/// Reads the command line and runs every command but the daemons.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Outcome {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive here too, and are no mistake. A closed pipe is not worth an exit code.
            drop(error.print());
            let exit = if error.use_stderr() { output::Exit::Usage } else { output::Exit::Done };
            return Outcome::Exit(exit.code().into());
        }
    };
    match cli.command {
        Command::Dev(dev) => {
            daemon(Settings::load(Mode::Dev, &dev.settings.sources()), &dev.check, dev.test_clock)
        }
        Command::Serve(serve) => {
            daemon(Settings::load(Mode::Serve, &serve.settings.sources()), &serve.check, None)
        }
        Command::Connect(command) => done(command.run()),
        Command::Status(command) => done(command.run()),
        Command::Sessions(command) => done(command.run()),
        Command::Steps(command) => done(command.run()),
        Command::Approvals(command) => done(command.run()),
        Command::Workflows(command) => done(command.run()),
        Command::Ledger(command) => done(command.run()),
        Command::Backup(command) => done(command.run()),
        Command::Restore(command) => done(command.run()),
        Command::Savings(command) => done(command.run()),
        Command::Tokens(command) => done(command.run()),
    }
}

fn done(result: Result<String, output::Failure>) -> Outcome {
    Outcome::Exit(output::finish(result))
}

fn daemon(settings: Result<Settings, Faults>, check: &Check, test_clock: Option<u64>) -> Outcome {
    let settings = match settings {
        Ok(settings) => settings,
        Err(faults) => {
            output::complain(&faults);
            return Outcome::Exit(faults::EXIT_CODE.into());
        }
    };
    if !check.check_config {
        return Outcome::Daemon(Box::new(settings), test_clock);
    }
    let text = if check.json { output::json(&settings.to_json()) } else { settings.to_toml() };
    Outcome::Exit(output::finish(Ok(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn only_a_development_engine_takes_a_test_clock() {
        assert!(Cli::try_parse_from(["cellaflow", "dev", "--test-clock", "0"]).is_ok());
        assert!(Cli::try_parse_from(["cellaflow", "serve", "--test-clock", "0"]).is_err());
    }

    #[test]
    fn the_command_tree_is_consistent_and_every_command_shows_examples() {
        let mut root = Cli::command();
        root.build();
        root.clone().debug_assert();
        let mut open: Vec<clap::Command> =
            root.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
        while let Some(mut command) = open.pop() {
            let inner: Vec<_> =
                command.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
            if inner.is_empty() {
                let help = command.render_long_help().to_string();
                assert!(help.contains("Examples:"), "{} shows no examples", command.get_name());
                // Longer lines would be broken again in the middle of a sentence that was broken by hand.
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let long = after.lines().find(|line| line.chars().count() > 100);
                assert_eq!(long, None, "a line of {}'s examples is too long", command.get_name());
            }
            open.extend(inner);
        }
    }
}
