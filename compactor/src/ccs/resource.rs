//! What a tool call touches, as its event declares it.
//!
//! Passes read these and never tool names, so that an agent's own tools compact as well as a coding tool's.

use serde::{Deserialize, Serialize};

/// What a call does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    Read,
    Write,
    Delete,
    Run,
}

/// The part of a resource that was touched, in lines (1-based, both ends included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Range {
    pub first: u64,
    pub last: u64,
}

impl Range {
    /// Whether every line of `other` lies in this range.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// One resource that a tool call declares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// `file`, `command`, `search`, `todo`, `record`, `url`, or a kind of the agent's own.
    pub kind: String,
    /// Names the resource within its kind: a path, a command line, a record's key.
    pub id: String,
    pub mode: Mode,
    /// Absent: the whole resource.
    pub range: Option<Range>,
}

impl Resource {
    #[must_use]
    pub fn new(kind: &str, id: &str, mode: Mode) -> Self {
        Self { kind: kind.into(), id: id.into(), mode, range: None }
    }

    #[must_use]
    pub fn within(mut self, range: Option<Range>) -> Self {
        self.range = range;
        self
    }
}
