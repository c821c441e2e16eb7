//! The user's DuckDB, one process for a question: nothing is left behind, and a query that fails fails alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Asked, Error};
use crate::archive::beside::VIEWS;

/// The oldest DuckDB that has what the views need (variables in table functions).
const OLDEST: (u32, u32) = (1, 2);

/// DuckDB's command line, and the archive that it is asked about.
pub struct DuckDb {
    program: PathBuf,
    folder: PathBuf,
    namespace: Option<String>,
}

impl DuckDb {
    /// Finds the program.
    ///
    /// # Errors
    /// `Missing`, `Old`.
    pub fn find(program: &Path, folder: &Path, namespace: Option<String>) -> Result<Self, Error> {
        let missing = |why: String| Error::Missing(format!("{}: {why}", program.display()));
        let output = Command::new(program)
            .arg("-version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| missing(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let version = version(&said).ok_or_else(|| missing(format!("it says {said:?} to -version")))?;
        if version < OLDEST {
            return Err(Error::Old(said));
        }
        Ok(Self { program: program.to_owned(), folder: folder.to_owned(), namespace })
    }

    /// An answer as a table for people.
    ///
    /// # Errors
    /// `Run`, `Refused`.
    pub fn table(&self, asked: &Asked) -> Result<String, Error> {
        self.ask(asked, "box", &asked.sql)
    }

    /// An answer as an array of rows in JSON.
    ///
    /// # Errors
    /// `Run`, `Refused`.
    pub fn json(&self, asked: &Asked) -> Result<String, Error> {
        // As one value: DuckDB's own mode for JSON prints no array where there are no rows.
        let rows = statement(&asked.sql);
        self.ask(
            asked,
            "list",
            &format!("SELECT coalesce(json_group_array(answer), '[]') FROM (\n{rows}\n) AS answer;\n"),
        )
    }

    fn ask(&self, asked: &Asked, mode: &str, sql: &str) -> Result<String, Error> {
        let mut child = Command::new(&self.program)
            .args(["-no-init", "-batch", "-bail", "-noheader", "-nullvalue", ""])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let only = self.namespace.as_ref().map_or_else(String::new, |namespace| {
            format!("SET VARIABLE namespace = '{}';\n", namespace.replace('\'', "''"))
        });
        let header = if mode == "list" { "off" } else { "on" };
        let script = format!("{only}{VIEWS}\n.mode {mode}\n.headers {header}\n{sql}\n");
        if let Some(mut stdin) = child.stdin.take() {
            // One that went away says why on standard error.
            let _gone = stdin.write_all(script.as_bytes()).is_err();
        }
        let output = child.wait_with_output()?;
        let problem = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !output.status.success() || !problem.is_empty() {
            return Err(Error::Refused { query: asked.name.clone(), problem });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

/// A statement as it can stand in parentheses.
fn statement(sql: &str) -> &str {
    sql.trim_end().trim_end_matches(';')
}

/// "v1.5.6 (Variegata) …" as (1, 5).
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix('v')?.split(['.', ' ', '-']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("v1.5.6 (Variegata) 069cc9f9b5"), Some((1, 5)));
        assert_eq!(version("v1.10.0-dev"), Some((1, 10)));
        assert!(version("v1.10.0").unwrap() > OLDEST && version("v0.10.2").unwrap() < OLDEST);
        assert_eq!(version("sqlite"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_said_with_what_to_do() {
        let found = DuckDb::find(Path::new("/nowhere/duckdb"), Path::new("."), None);
        let said = found.err().unwrap().to_string();
        assert!(said.contains("/nowhere/duckdb") && said.contains("--duckdb"), "{said}");
    }
}
