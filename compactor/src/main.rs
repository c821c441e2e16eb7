//! `cellaflow-compactor`: reads the command line.

use clap::Parser;

/// Archives cold journals as Parquet and compacts long histories.
#[derive(Parser)]
#[command(name = "cellaflow-compactor", version)]
struct Cli {}

fn main() {
    Cli::parse();
}
