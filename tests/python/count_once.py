"""Counts every event across the ledger and the archive with DuckDB: each must be there exactly once.

    count_once.py ARCHIVE EXPECTED.jsonl LIVE.jsonl

Both files have a line {"session_id", "seq", "hash"} for each event: what was recorded before anything was archived, and
what the engine still has. The archive is read through its manifests, as any reader must. Prints one line of JSON.
"""

import glob
import json
import sys

import duckdb

# Manifests that a later one replaces do not count; a reader sees the change in one listing.
ARCHIVED = """
CREATE TEMP TABLE manifests AS
SELECT filename, "replaces", files FROM read_json({manifests}, filename = true, columns = {{
    'replaces': 'VARCHAR[]', 'files': 'STRUCT("table" VARCHAR, path VARCHAR)[]'}});
CREATE TEMP TABLE current AS
SELECT * FROM manifests WHERE NOT EXISTS (
    SELECT 1 FROM (SELECT unnest("replaces") AS path FROM manifests) AS gone WHERE ends_with(filename, gone.path));
CREATE TEMP TABLE event_files AS
SELECT file.path FROM (SELECT unnest(files) AS file FROM current) WHERE file."table" = 'events';
"""

JUDGED = """
WITH found AS (SELECT * FROM live UNION ALL SELECT * FROM archived),
counted AS (SELECT session_id, seq, hash, count(*) AS times FROM found GROUP BY ALL)
SELECT
    (SELECT count(*) FROM expected),
    (SELECT count(*) FROM live),
    (SELECT count(*) FROM archived),
    (SELECT count(*) FROM expected ANTI JOIN counted USING (session_id, seq, hash)) AS missing,
    (SELECT count(*) FROM counted ANTI JOIN expected USING (session_id, seq, hash)) AS unknown,
    (SELECT count(*) FROM counted WHERE times <> 1) AS repeated
"""


def main(archive, expected, live):
    db = duckdb.connect()
    columns = "{'session_id': 'VARCHAR', 'seq': 'BIGINT', 'hash': 'VARCHAR'}"
    for name, path in (("expected", expected), ("live", live)):
        db.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM read_json('{path}', format = 'newline_delimited', columns = {columns})")
    manifests = glob.glob(f"{archive}/manifests/**/*.json", recursive=True)
    files = []
    if manifests:
        db.execute(ARCHIVED.format(manifests=json.dumps(manifests).replace('"', "'")))
        files = [row[0] for row in db.execute("SELECT path FROM event_files").fetchall()]
    source = f"read_parquet({[f'{archive}/{path}' for path in files]})" if files else "(SELECT NULL AS session_id, 0 AS seq, ''::BLOB AS hash WHERE false)"
    db.execute(f"CREATE TEMP TABLE archived AS SELECT session_id, seq, lower(hex(hash)) AS hash FROM {source}")
    names = ("expected", "live", "archived", "missing", "unknown", "repeated")
    print(json.dumps(dict(zip(names, db.execute(JUDGED).fetchone()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
