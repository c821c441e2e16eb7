-- What was paid for work that is in no result, by workflow and kind: zones that were interrupted and rolled back,
-- attempts that failed (retried or not), guarded effects whose outcome nobody knew. An interrupted zone has no bill:
-- its tokens are the engine's estimate of what it had streamed, priced as the workflow's other tokens are on average.
-- "seconds" is the time of failed attempts, and for unknown effects the time until they were resolved.
WITH price AS (
  SELECT workflow, sum(cost_nanos) / nullif(sum(input_tokens + cached_read_tokens + cache_write_tokens + output_tokens), 0) AS nanos_per_token
  FROM llm_calls
  WHERE cost_nanos IS NOT NULL
  GROUP BY ALL
),
resolved AS (
  SELECT session_id, step_key, attempt, min(time) AS time
  FROM events
  WHERE type = 'guard_resolved'
  GROUP BY ALL
),
wasted AS (
  SELECT
    workflow,
    CASE type
      WHEN 'zone_rolled_back' THEN 'interrupted zone'
      WHEN 'zone_failed' THEN if(is_final, 'zone failed', 'zone attempt retried')
      WHEN 'step_failed' THEN if(is_final, 'step failed', 'step attempt retried')
      ELSE 'unknown effect'
    END AS kind,
    coalesce(wasted_tokens, 0) AS tokens,
    wasted_cost_nanos AS nanos,
    if(type = 'zone_rolled_back', wasted_tokens * nanos_per_token, NULL) AS estimated_nanos,
    coalesce(duration_us / 1e6, epoch_ms(resolved.time - events.time) / 1e3) AS seconds
  FROM events
  LEFT JOIN price USING (workflow)
  LEFT JOIN resolved USING (session_id, step_key, attempt)
  -- That its time is over is said of an outcome that is unknown already.
  WHERE type IN ('zone_rolled_back', 'zone_failed', 'step_failed')
    OR (type = 'guard_unknown' AND detail <> 'grace_over')
)
SELECT
  workflow,
  kind,
  count(*) AS times,
  sum(tokens)::BIGINT AS tokens,
  (sum(nanos) / 1e9)::DECIMAL(18, 6) AS cost_usd,
  (sum(estimated_nanos) / 1e9)::DECIMAL(18, 6) AS estimated_cost_usd,
  round(sum(seconds), 3) AS seconds
FROM wasted
GROUP BY ALL
ORDER BY coalesce(cost_usd, 0) + coalesce(estimated_cost_usd, 0) DESC, times DESC, workflow, kind;
