//! What lies beside the data so that people can ask it without us: views and queries for DuckDB, and an empty file of
//! each table, whose columns an archive has that holds no row yet.
//!
//! These are the only files that are written over: another version of this program brings its own.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;

use super::store::{self, Store};
use super::tables::Table;

/// The views, `archive/cellaflow.sql`.
pub const VIEWS: &str = include_str!("../../../archive/cellaflow.sql");

/// A query that is ready to run over the views.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its name, and that of its file in `queries`.
    pub name: &'static str,
    /// What it answers.
    pub title: &'static str,
    /// Its text: comments, then one statement.
    pub sql: &'static str,
}

/// The ready queries, in the order in which a report shows them.
pub const QUERIES: [Query; 8] = [
    Query {
        name: "sessions",
        title: "Sessions by workflow, version and end",
        sql: include_str!("../../../archive/queries/sessions.sql"),
    },
    Query {
        name: "cost",
        title: "Cost by workflow, version, model and day",
        sql: include_str!("../../../archive/queries/cost.sql"),
    },
    Query {
        name: "cache_hits",
        title: "Input read from providers' caches",
        sql: include_str!("../../../archive/queries/cache_hits.sql"),
    },
    Query {
        name: "contexts",
        title: "Saved by compacted contexts",
        sql: include_str!("../../../archive/queries/contexts.sql"),
    },
    Query {
        name: "wasted",
        title: "Cost of wasted work",
        sql: include_str!("../../../archive/queries/wasted.sql"),
    },
    Query {
        name: "replay",
        title: "Saved by replay",
        sql: include_str!("../../../archive/queries/replay.sql"),
    },
    Query {
        name: "steps",
        title: "Slowest and dearest steps",
        sql: include_str!("../../../archive/queries/steps.sql"),
    },
    Query {
        name: "failures",
        title: "Where it fails",
        sql: include_str!("../../../archive/queries/failures.sql"),
    },
];

/// A manifest that names nothing: readers begin with it.
const NO_MANIFEST: &str = "{\"version\": 1, \"files\": []}\n";

/// Brings what lies beside the data to this version.
///
/// # Errors
/// If the store fails.
pub async fn refresh(store: &Store) -> Result<(), store::Error> {
    let mut files = vec![
        ("cellaflow.sql".to_owned(), Bytes::from_static(VIEWS.as_bytes())),
        ("schema/manifest.json".to_owned(), Bytes::from_static(NO_MANIFEST.as_bytes())),
    ];
    for query in QUERIES {
        files.push((format!("queries/{}.sql", query.name), Bytes::from_static(query.sql.as_bytes())));
    }
    for table in Table::ALL {
        files.push((format!("schema/{}.parquet", table.name()), empty(table)));
    }
    for (name, bytes) in files {
        store.put_over(&name, bytes).await?;
    }
    Ok(())
}

/// A file of a table without rows; the same bytes each time.
fn empty(table: Table) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), None)
        .expect("our columns are ones that Parquet has");
    writer.write(&RecordBatch::new_empty(table.schema())).expect("no rows can be written to memory");
    writer.close().expect("no rows can be written to memory");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_lies_beside_the_data_is_brought_to_this_version_and_else_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        refresh(&store).await.unwrap();
        let views = folder.path().join("cellaflow.sql");
        let written = std::fs::metadata(&views).unwrap().modified().unwrap();
        refresh(&store).await.unwrap();
        assert_eq!(std::fs::metadata(&views).unwrap().modified().unwrap(), written, "the same is left alone");
        std::fs::write(&views, "of another version").unwrap();
        refresh(&store).await.unwrap();
        assert_eq!(std::fs::read_to_string(&views).unwrap(), VIEWS);
    }

    #[test]
    fn every_query_is_one_statement_with_a_comment_that_says_what_it_answers() {
        for query in QUERIES {
            let code: String = query.sql.lines().filter(|line| !line.starts_with("--")).collect();
            assert!(query.sql.starts_with("-- ") && code.ends_with(';'), "{}", query.name);
            assert_eq!(code.matches(';').count(), 1, "{}", query.name);
        }
    }
}
