//! Runs Python programs with the packages of `scripts/requirements.txt`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter that `scripts/setup` made: `CELLAFLOW_PYTHON`, or what `scripts/env` says.
///
/// # Panics
/// If there is none: run `make setup` first.
pub fn python() -> PathBuf {
    let named = std::env::var_os("CELLAFLOW_PYTHON").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let env = top().join("scripts/env");
        let script = format!("source '{}' && printf %s \"$CELLAFLOW_PYTHON\"", env.display());
        let said = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        String::from_utf8(said.stdout).expect("a path").into()
    });
    assert!(path.is_file(), "there is no {}: run `make setup` first", path.display());
    path
}

/// A program of this crate, for example `python/count_once.py`, ready for its arguments.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    command
}

/// Runs it to its end and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn ok(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {stderr}");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate lies in a folder").to_owned()
}
