-- Views over this archive. Run in its folder, or in the one above if it is called "archive":
--
--   duckdb -init cellaflow.sql
--   D FROM sessions LIMIT 10;
--   D .read queries/cost.sql
--
-- Elsewhere: SET VARIABLE archive = 's3://bucket/prefix'; then .read this file (S3 needs DuckDB's httpfs extension).
-- One namespace only: SET VARIABLE namespace = 'default'; before it. Read it again to see what was archived since.
--
-- The views read what committed manifests name, all of them as of one moment, and nothing else that lies here.
-- Money is in nano-dollars (1e-9 USD), times are UTC. A column without a value is null, never zero.
-- Written by cellaflow-compactor, which puts its own version back when it runs: keep queries of yours in other files.

SET TimeZone = 'UTC';

SET VARIABLE archive_root = (
  SELECT CASE
    WHEN getvariable('archive') IS NOT NULL THEN rtrim(getvariable('archive'), '/') || '/'
    WHEN EXISTS (FROM glob('schema/manifest.json')) THEN ''
    WHEN EXISTS (FROM glob('archive/schema/manifest.json')) THEN 'archive/'
    ELSE error('no archive here: start duckdb in the archive''s folder, or SET VARIABLE archive first')
  END
);

SET VARIABLE archive_manifests = (
  SELECT list_prepend(getvariable('archive_root') || 'schema/manifest.json', coalesce(list(file), []))
  FROM glob(getvariable('archive_root') || 'manifests/*/*.json')
);

-- What each commit holds; one that an erasure has replaced counts no more.
CREATE OR REPLACE TEMP TABLE archive_commits AS
WITH manifests AS (
  SELECT * REPLACE (substr(filename, length(getvariable('archive_root')) + 1) AS filename)
  FROM read_json(
    getvariable('archive_manifests'),
    format = 'unstructured',
    filename = true,
    columns = {
      namespace: 'VARCHAR',
      claim_id: 'VARCHAR',
      epoch: 'BIGINT',
      writer: 'VARCHAR',
      events: 'BIGINT',
      files: 'STRUCT("table" VARCHAR, path VARCHAR, "rows" BIGINT, bytes BIGINT, blake3 VARCHAR)[]',
      replaces: 'VARCHAR[]'
    }
  )
)
SELECT namespace, claim_id, epoch, writer, events, filename AS manifest, files
FROM manifests
WHERE filename NOT IN (SELECT unnest(replaces) FROM manifests)
  AND (getvariable('namespace') IS NULL OR namespace = getvariable('namespace'));

CREATE OR REPLACE TEMP TABLE archive_files AS
SELECT namespace, manifest, file."table" AS "table", file.path AS path, file."rows" AS "rows", file.bytes AS bytes,
  file.blake3 AS blake3
FROM (SELECT namespace, manifest, unnest(files) AS file FROM archive_commits);

CREATE OR REPLACE TEMP MACRO archive_paths(named) AS (
  SELECT list_prepend(
    getvariable('archive_root') || 'schema/' || named || '.parquet',
    coalesce(list(getvariable('archive_root') || path ORDER BY path), [])
  )
  FROM archive_files
  WHERE "table" = named
);

SET VARIABLE archive_sessions = archive_paths('sessions');
SET VARIABLE archive_events = archive_paths('events');
SET VARIABLE archive_llm_calls = archive_paths('llm_calls');
SET VARIABLE archive_messages = archive_paths('messages');
SET VARIABLE archive_payloads = archive_paths('payloads');

-- A session, once. Its sums are its own: what a fork has from its parent is counted there.
CREATE OR REPLACE TEMP VIEW sessions AS
FROM read_parquet(getvariable('archive_sessions'), union_by_name = true, hive_partitioning = false);

-- An event, once. "raw" is the stored record, byte for byte.
CREATE OR REPLACE TEMP VIEW events AS
FROM read_parquet(getvariable('archive_events'), union_by_name = true, hive_partitioning = false);

-- A model call that was paid: in a completed or failed attempt, or inside a zone.
CREATE OR REPLACE TEMP VIEW llm_calls AS
FROM read_parquet(getvariable('archive_llm_calls'), union_by_name = true, hive_partitioning = false);

-- A part of a message, in order: what a request added to the one it builds on, the answer, the conversation.
CREATE OR REPLACE TEMP VIEW messages AS
FROM read_parquet(getvariable('archive_messages'), union_by_name = true, hive_partitioning = false);

-- Parts of payloads that are too large to lie in events.raw.
CREATE OR REPLACE TEMP VIEW payloads AS
FROM read_parquet(getvariable('archive_payloads'), union_by_name = true, hive_partitioning = false);
