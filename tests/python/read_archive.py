"""Reads every file that an archive's published manifests name with DuckDB, pyarrow and polars, and compares what they see.

    python read_archive.py ARCHIVE

Prints {"files": …, "tables": {"events": rows, …}}; ends with 1 and says which file if two readers disagree.
"""

import json
import pathlib
import sys

import duckdb
import polars
import pyarrow.parquet


def named(archive):
    """Table and path of every file that counts, and of the empty ones that carry each table's columns."""
    manifests = {
        str(path.relative_to(archive)): json.loads(path.read_text())
        for path in sorted(archive.glob("manifests/*/*.json"))
    }
    replaced = {name for manifest in manifests.values() for name in manifest.get("replaces", [])}
    for name, manifest in manifests.items():
        for file in [] if name in replaced else manifest["files"]:
            yield file["table"], archive / file["path"], file["rows"]
    for path in sorted(archive.glob("schema/*.parquet")):
        yield path.stem, path, 0


def plain(value):
    """A value as all three give it: times as milliseconds."""
    return round(value.timestamp() * 1000) if hasattr(value, "timestamp") else value


def rows_of(table):
    return [{name: plain(value) for name, value in row.items()} for row in table]


def by_duckdb(path):
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # Not as Python's own times: those need a module for time zones.
        columns = connection.execute("DESCRIBE FROM read_parquet(?, hive_partitioning = false)", [str(path)]).fetchall()
        shown = [f'epoch_ms("{c[0]}") AS "{c[0]}"' if "TIMESTAMP" in c[1] else f'"{c[0]}"' for c in columns]
        query = f"SELECT {', '.join(shown)} FROM read_parquet(?, hive_partitioning = false)"
        names = [column[0] for column in columns]
        return [dict(zip(names, row)) for row in connection.execute(query, [str(path)]).fetchall()]


def by_pyarrow(path):
    return rows_of(pyarrow.parquet.read_table(path, partitioning=None).to_pylist())


def by_polars(path):
    return rows_of(polars.read_parquet(path, hive_partitioning=False).to_dicts())


def main():
    archive = pathlib.Path(sys.argv[1])
    tables, files = {}, 0
    for table, path, rows in named(archive):
        seen = by_duckdb(path)
        for reader, other in (("pyarrow", by_pyarrow(path)), ("polars", by_polars(path))):
            if other != seen:
                differs = next((pair for pair in zip(seen, other) if pair[0] != pair[1]), (len(seen), len(other)))
                sys.exit(f"{path}: DuckDB and {reader} disagree: {differs}")
        if len(seen) != rows:
            sys.exit(f"{path}: the manifest says {rows} rows, readers see {len(seen)}")
        tables[table] = tables.get(table, 0) + rows
        files += 1
    print(json.dumps({"files": files, "tables": tables}))


if __name__ == "__main__":
    main()
