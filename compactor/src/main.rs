//! `cellaflow-compactor`: see `cli`.

fn main() -> std::process::ExitCode {
    cellaflow_compactor::cli::main()
}
