//! What commands print: results on stdout, complaints on stderr (P1), and the exit codes (P2).

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// Why a command failed, with its exit code.
#[derive(Debug)]
pub(super) struct Failure {
    /// What to tell the person.
    pub(super) message: String,
    /// Exit code (P2).
    pub(super) code: u8,
}

impl Failure {
    /// Wrong arguments or nothing to work with: exit code 64.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), code: crate::config::faults::EXIT_CODE }
    }

    /// Anything else: exit code 1.
    pub(super) fn other(message: impl Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }
}

/// Prints a command's result, or its complaint, and returns the exit code.
pub(super) fn finish(result: Result<String, Failure>) -> ExitCode {
    let failure = match result {
        Ok(text) => match print(&text) {
            Ok(()) => return ExitCode::SUCCESS,
            // The reader has what it wanted, as with `| head`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(error) => Failure::other(format!("cannot write the result: {error}")),
        },
        Err(failure) => failure,
    };
    complain(&failure.message);
    failure.code.into()
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a complaint to stderr; a closed stderr leaves nobody to tell.
pub(super) fn complain(message: &impl Display) {
    let _ = writeln!(std::io::stderr(), "cellaflow: {message}");
}

/// Formats one JSON value for programs and for people who look at it.
pub(super) fn json(value: &serde_json::Value) -> String {
    format!("{value:#}")
}
