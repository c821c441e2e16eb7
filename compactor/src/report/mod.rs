//! Reports: the ready queries over an archive, answered by DuckDB.
//!
//! Owns which queries run and how their answers are shown. Never reads Parquet itself: the figures are those that
//! anybody gets who runs the same file in DuckDB, and the program is the user's own (`duckdb`).

pub mod command;
mod duckdb;
mod mirror;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use duckdb::DuckDb;
pub use mirror::{READY, local};

use crate::archive::beside::{QUERIES, Query};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no DuckDB.
    #[error(
        "DuckDB's command line is not there ({0}): install it (duckdb.org/install, or pip install duckdb-cli), or name it with --duckdb"
    )]
    Missing(String),
    /// It is too old.
    #[error("DuckDB {0} is too old: 1.2 or later is needed")]
    Old(String),
    /// It cannot be started, or be talked to.
    #[error("DuckDB could not be run: {0}")]
    Run(#[from] std::io::Error),
    /// It refused.
    #[error("DuckDB refused {query}: {problem}")]
    Refused {
        /// What it was asked.
        query: String,
        /// What it said.
        problem: String,
    },
    /// It answered something else.
    #[error("DuckDB answered {query} with what is no JSON: {problem}")]
    Answer {
        /// What it was asked.
        query: String,
        /// Why.
        problem: String,
    },
    /// Nothing is archived there.
    #[error(
        "{0} is no archive: name the folder or URL that `cellaflow-compactor run` writes to with --archive"
    )]
    NoArchive(String),
    /// No such query.
    #[error("there is no query {0:?}: give a file of your own, or one of {known}", known = names())]
    Unknown(String),
    /// A query of the user's own cannot be read.
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    /// The archive cannot be read.
    #[error(transparent)]
    Store(#[from] crate::archive::store::Error),
    /// A manifest is none.
    #[error(transparent)]
    Bad(#[from] crate::archive::verify::Bad),
}

/// A query to run.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// What it answers.
    pub title: String,
    /// One statement.
    pub sql: String,
    /// Whether it is one of ours.
    pub ready: bool,
}

/// What a query gave.
pub struct Answer {
    /// The query.
    pub asked: Asked,
    /// As DuckDB shows it, or its rows as JSON.
    pub text: String,
    /// From starting DuckDB to its end.
    pub took: Duration,
}

impl From<&Query> for Asked {
    fn from(query: &Query) -> Self {
        Self {
            name: query.name.to_owned(),
            title: query.title.to_owned(),
            sql: query.sql.to_owned(),
            ready: true,
        }
    }
}

/// The queries that are named, or all ready ones.
///
/// # Errors
/// `Unknown`, `File`.
pub fn queries(named: &[String]) -> Result<Vec<Asked>, Error> {
    if named.is_empty() {
        return Ok(QUERIES.iter().map(Asked::from).collect());
    }
    named.iter().map(|name| query(name)).collect()
}

fn query(name: &str) -> Result<Asked, Error> {
    if let Some(ready) = QUERIES.iter().find(|query| query.name == name) {
        return Ok(ready.into());
    }
    let path = Path::new(name);
    if path.extension().is_none_or(|extension| extension != "sql") {
        return Err(Error::Unknown(name.to_owned()));
    }
    let sql = std::fs::read_to_string(path).map_err(|error| Error::File(path.to_owned(), error))?;
    let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok(Asked { title: stem.clone(), name: stem, sql, ready: false })
}

fn names() -> String {
    QUERIES.map(|query| query.name).join(", ")
}

/// Runs queries one after the other and hands each answer over as soon as it is there.
///
/// # Errors
/// The first that fails.
pub fn run(
    duckdb: &DuckDb,
    asked: Vec<Asked>,
    json: bool,
    answered: &mut dyn FnMut(Answer) -> Result<(), Error>,
) -> Result<(), Error> {
    for asked in asked {
        let started = now();
        let text = if json { duckdb.json(&asked)? } else { duckdb.table(&asked)? };
        answered(Answer { asked, text, took: started.elapsed() })?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long a query took is measured, not recorded")]
fn now() -> Instant {
    Instant::now()
}
