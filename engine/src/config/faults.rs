//! What is wrong with a configuration: every fault at once, each with its key, its origin and the repair.

use std::fmt;
use std::path::PathBuf;

/// Exit code for a faulty configuration or command line (`EX_USAGE` of sysexits.h).
pub const EXIT_CODE: u8 = 64;

/// Where a value came from; later variants win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it, and it has no default.
    Absent,
    /// Nobody set it.
    Default,
    /// A TOML file.
    File(PathBuf),
    /// An environment variable, by its full name.
    Env(String),
    /// A command-line flag, with its hyphens.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Absent => f.write_str("not set anywhere"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, or the file's name when the file itself is at fault.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}; {}", self.key, self.origin, self.problem, self.instead)
    }
}

/// Everything that is wrong; never empty when returned as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes one more fault.
    pub fn add(&mut self, key: &str, origin: Origin, problem: impl Into<String>, instead: impl Into<String>) {
        self.0.push(Fault { key: key.to_owned(), origin, problem: problem.into(), instead: instead.into() });
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, noun) = (self.0.len(), if self.0.len() == 1 { "fault" } else { "faults" });
        write!(f, "{count} {noun} in the configuration, nothing was started:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
