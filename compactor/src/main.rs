//! `cellaflow-compactor`: reads the command line.

use std::io::Write as _;
use std::process::ExitCode;

use cellaflow_compactor::bench;
use clap::{Parser, Subcommand};

/// Archives cold journals as Parquet and compacts long histories.
#[derive(Parser)]
#[command(name = "cellaflow-compactor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::command::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::command::run(&args).map_err(|e| e.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nobody is left to tell when standard error is gone as well.
            let _ = writeln!(std::io::stderr(), "cellaflow-compactor: {e}");
            ExitCode::FAILURE
        }
    }
}
