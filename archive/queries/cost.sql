-- Cost by workflow, version, model and day, dearest first. What steps cost by themselves (step.cost) has no model.
WITH spent AS (
  SELECT workflow, version, model, time, cost_nanos, wasted, input_tokens, cached_read_tokens, cache_write_tokens,
    output_tokens, 1 AS call
  FROM llm_calls
  UNION ALL BY NAME
  SELECT workflow, version, time, cost_nanos - coalesce(calls.nanos, 0) AS cost_nanos, false AS wasted, 0 AS call
  FROM events
  LEFT JOIN (
    SELECT session_id, seq, sum(cost_nanos) AS nanos FROM llm_calls GROUP BY ALL
  ) AS calls USING (session_id, seq)
  WHERE cost_nanos > coalesce(calls.nanos, 0)
)
SELECT
  time::DATE AS day,
  workflow,
  version,
  model,
  sum(call)::BIGINT AS calls,
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(cached_read_tokens), 0)::BIGINT AS cached_tokens,
  coalesce(sum(cache_write_tokens), 0)::BIGINT AS cache_write_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  (sum(cost_nanos) / 1e9)::DECIMAL(18, 6) AS cost_usd,
  (coalesce(sum(cost_nanos) FILTER (WHERE wasted), 0) / 1e9)::DECIMAL(18, 6) AS of_it_wasted_usd,
  count(*) FILTER (WHERE cost_nanos IS NULL) AS calls_without_price
FROM spent
GROUP BY ALL
ORDER BY cost_usd DESC NULLS LAST, day, workflow, version, model;
