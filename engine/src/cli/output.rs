//! What commands print: results on stdout, complaints on stderr (P1), and the exit codes (P2).

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// The exit codes, on one page; `cellaflow --help` lists them, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done, and nothing was wrong.
    Done,
    /// The command ran and found a problem, or the engine refused the request.
    Problem,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong, or no engine was named or found (`EX_USAGE` of sysexits.h).
    Configuration,
    /// The engine cannot be reached (`EX_UNAVAILABLE`).
    Unavailable,
    /// The engine asks to try again later (`EX_TEMPFAIL`).
    TryAgain,
    /// The token does not allow it (`EX_NOPERM`).
    Forbidden,
}

/// How `--help` explains the exit codes.
pub(super) const EXIT_CODES: &str = "Exit codes:
   0  done, nothing was wrong
   1  a problem was found, or the engine refused
   2  the command line is wrong
  64  the configuration is wrong, or no engine was found
  69  the engine cannot be reached
  75  not now: try again later
  77  the token does not allow it";

impl Exit {
    /// Returns the code the process ends with.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Problem => 1,
            Self::Usage => 2,
            Self::Configuration => crate::config::faults::EXIT_CODE,
            Self::Unavailable => 69,
            Self::TryAgain => 75,
            Self::Forbidden => 77,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What to tell the person; empty: all was said already.
    pub(super) message: String,
    /// How the process ends.
    pub(super) exit: Exit,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self { message: message.to_string(), exit }
    }

    /// Wrong arguments.
    pub(super) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Nothing to work with: no engine named, an unreadable certificate.
    pub(super) fn configuration(message: impl Display) -> Self {
        Self::new(Exit::Configuration, message)
    }

    /// The engine cannot be reached.
    pub(super) fn unavailable(message: impl Display) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// A refusal that may pass.
    pub(super) fn try_again(message: impl Display) -> Self {
        Self::new(Exit::TryAgain, message)
    }

    /// The token does not allow it.
    pub(super) fn forbidden(message: impl Display) -> Self {
        Self::new(Exit::Forbidden, message)
    }

    /// Anything else.
    pub(super) fn other(message: impl Display) -> Self {
        Self::new(Exit::Problem, message)
    }

    /// Whoever read the output has what it wanted, as with `| head`: no failure, and nothing more to print.
    fn reader_is_gone() -> Self {
        Self::new(Exit::Done, "")
    }
}

/// Prints a command's result, or its complaint, and returns the exit code.
pub(super) fn finish(result: Result<String, Failure>) -> ExitCode {
    let failure = match result.and_then(|text| print(&text)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    if !failure.message.is_empty() {
        complain(&failure.message);
    }
    failure.exit.code().into()
}

/// Prints a part of a result at once, for commands whose result takes time or has no end.
///
/// # Errors
/// A failure that ends the command; silent if the reader is gone.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    written(write(text))
}

/// Prints text as it is, without ending the line; it is on the terminal at once.
///
/// # Errors
/// As `print`.
pub(super) fn print_part(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::reader_is_gone(),
        _ => Failure::other(format!("cannot write the result: {error}")),
    })
}

fn write(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a remark or a complaint to stderr; a closed stderr leaves nobody to tell.
///
/// Messages may quote keys and names out of a ledger: control characters must not reach a terminal (P4).
pub(super) fn complain(message: &impl Display) {
    let text = printable(&message.to_string());
    let _ = writeln!(io::stderr(), "cellaflow: {text}");
}

/// Replaces control characters but line ends by spaces.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { ' ' } else { letter }).collect()
}

/// Asks a person something on stderr and returns the line typed; `None` at the end of the input.
pub(super) fn ask(question: &str) -> Option<String> {
    let mut err = io::stderr();
    let _ = write!(err, "{question}").and_then(|()| err.flush());
    let mut line = String::new();
    io::stdin().read_line(&mut line).ok().filter(|bytes| *bytes > 0).map(|_| line.trim().to_owned())
}

/// Formats one JSON value for programs and for people who look at it.
pub(super) fn json(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_control_characters_become_spaces() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{9b}c"), "a [31m\nb c");
    }

    #[test]
    fn p2_the_help_lists_every_exit_code() {
        let all = [
            Exit::Done,
            Exit::Problem,
            Exit::Usage,
            Exit::Configuration,
            Exit::Unavailable,
            Exit::TryAgain,
            Exit::Forbidden,
        ];
        for exit in all {
            assert!(EXIT_CODES.contains(&format!("\n  {:>2}  ", exit.code())), "{exit:?}");
        }
        assert_eq!(EXIT_CODES.lines().count(), all.len() + 1);
    }
}
