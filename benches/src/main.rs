//! `cellaflow-bench`: the floor of this machine, and the core beside raw RocksDB; one line of JSON each.

use std::path::PathBuf;

use cellaflow_bench::{Mode, beside, floor};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    about = "Measures what lies below the engine, and its core beside that.",
    after_help = "Example: cellaflow-bench core --folder /var/tmp/bench"
)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// An empty folder on the disk that is meant; nothing is deleted.
    #[arg(long, global = true, default_value = ".")]
    folder: PathBuf,
    /// How much is done.
    #[arg(long, global = true, value_enum, default_value_t = Mode::Full)]
    mode: Mode,
}

#[derive(Subcommand)]
enum What {
    /// A sync, puts of raw RocksDB, a scan.
    Floor,
    /// Steps committed by the core (no network) and the same puts to raw RocksDB, at 1, 8 and 64 callers.
    Core,
}

fn main() {
    let args = Args::parse();
    let line = match args.what {
        What::Floor => serde_json::to_string(&floor::measure(&args.folder, args.mode)),
        What::Core => serde_json::to_string(&beside::measure(&args.folder, args.mode)),
    };
    println!("{}", line.expect("plain figures"));
}
