-- Steps by time and money, dearest and slowest first: times are those of the attempts that succeeded.
SELECT
  workflow,
  name AS step,
  if(bool_or(type = 'zone_committed'), 'zone', 'step') AS kind,
  count(*) AS times,
  round(median(duration_us) / 1e3, 3) AS median_ms,
  round(quantile_cont(duration_us, 0.95) / 1e3, 3) AS p95_ms,
  round(max(duration_us) / 1e3, 3) AS slowest_ms,
  round(sum(duration_us) / 1e6, 3) AS total_s,
  coalesce(sum(input_tokens + cached_read_tokens + cache_write_tokens + output_tokens), 0)::BIGINT AS tokens,
  (sum(cost_nanos) / 1e9)::DECIMAL(18, 6) AS cost_usd,
  (max(cost_nanos) / 1e9)::DECIMAL(18, 6) AS dearest_usd
FROM events
WHERE type IN ('step_completed', 'zone_committed')
GROUP BY workflow, name
ORDER BY cost_usd DESC NULLS LAST, total_s DESC, workflow, step
LIMIT 30;
