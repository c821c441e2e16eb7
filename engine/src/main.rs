//! `cellaflow`: reads the command line, then either is done or becomes a daemon.

use std::process::ExitCode;

use cellaflow_engine::{cli, daemon};

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        cli::Outcome::Exit(code) => code,
        cli::Outcome::Daemon(settings, test_clock) => daemon::run(*settings, test_clock),
    }
}
