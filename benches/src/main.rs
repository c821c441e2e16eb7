//! `cellaflow-bench`: the floor of this machine, and the core beside raw RocksDB; one line of JSON each.

use std::path::{Path, PathBuf};

use cellaflow_bench::{Mode, archive, beside, floor};
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
    /// Fills a ledger, archives nine of ten of its sessions and asks the archive.
    Archive(Archive),
    /// Steps committed by the core (no network) and the same puts to raw RocksDB, at 1, 8 and 64 callers.
    Core,
}

#[derive(serde::Serialize)]
struct Line {
    archive: archive::Figures,
}

#[derive(clap::Args)]
struct Archive {
    /// Events to archive.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Does not wait until the engine has given space back: `disk_drop` is null.
    #[arg(long)]
    skip_reclaim: bool,
    /// The engine.
    #[arg(long, env = "CELLAFLOW_BENCH_BIN", default_value = "cellaflow")]
    engine: PathBuf,
    /// The compactor.
    #[arg(long, env = "CELLAFLOW_BENCH_COMPACTOR", default_value = "cellaflow-compactor")]
    compactor: PathBuf,
    /// DuckDB's command line.
    #[arg(long, env = "CELLAFLOW_DUCKDB", default_value = "duckdb")]
    duckdb: PathBuf,
}

impl Archive {
    fn line(self, folder: &Path) -> serde_json::Result<String> {
        let Self { events, skip_reclaim, engine, compactor, duckdb } = self;
        let programs = archive::Programs { engine, compactor, duckdb };
        let options = archive::Options { events, programs, reclaim: !skip_reclaim };
        serde_json::to_string(&Line { archive: archive::measure(folder, &options) })
    }
}

fn main() {
    let args = Args::parse();
    let line = match args.what {
        What::Archive(asked) => asked.line(&args.folder),
        What::Floor => serde_json::to_string(&floor::measure(&args.folder, args.mode)),
        What::Core => serde_json::to_string(&beside::measure(&args.folder, args.mode)),
    };
    println!("{}", line.expect("plain figures"));
}
