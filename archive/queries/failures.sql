-- Where it fails: by workflow, version, step and error. "share" is that of the step's attempts.
WITH attempts AS (
  SELECT workflow, version, name, count(*) AS attempts
  FROM events
  WHERE type IN ('step_completed', 'step_failed', 'zone_committed', 'zone_failed', 'zone_rolled_back')
    OR (type = 'guard_unknown' AND detail <> 'grace_over')
  GROUP BY ALL
),
failed AS (
  SELECT workflow, version, name, session_id, time, is_final, type,
    CASE type
      WHEN 'zone_rolled_back' THEN 'interrupted'
      WHEN 'guard_unknown' THEN 'outcome unknown'
      ELSE error_name
    END AS error,
    coalesce(error_code, detail) AS code,
    error_message
  FROM events
  WHERE type IN ('step_failed', 'zone_failed', 'zone_rolled_back', 'session_failed')
    OR (type = 'guard_unknown' AND detail <> 'grace_over')
)
SELECT
  workflow,
  version,
  coalesce(name, if(type = 'session_failed', '(the session)', '(inherited)')) AS step,
  error,
  code,
  count(*) AS failures,
  count(*) FILTER (WHERE is_final OR type = 'session_failed') AS of_them_final,
  count(DISTINCT session_id) AS sessions,
  round(count(*) / any_value(attempts), 4) AS share,
  max(time) AS last_at,
  left(max_by(error_message, time), 120) AS last_message
FROM failed
LEFT JOIN attempts USING (workflow, version, name)
GROUP BY workflow, version, step, error, code
ORDER BY failures DESC, workflow, version, step, error, code
LIMIT 30;
