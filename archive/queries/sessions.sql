-- How sessions ended, by workflow and version, how long they took and what they cost.
SELECT
  workflow,
  version,
  status,
  count(*) AS sessions,
  sum(events)::BIGINT AS events,
  sum(steps)::BIGINT AS steps,
  round(median(duration_ms) / 1e3, 3) AS median_s,
  round(max(duration_ms) / 1e3, 3) AS longest_s,
  (sum(nanos) / 1e9)::DECIMAL(18, 6) AS cost_usd,
  (avg(nanos) / 1e9)::DECIMAL(18, 6) AS cost_usd_each,
  sum(unpriced_calls)::BIGINT AS calls_without_price
FROM (
  -- What has no price costs something that nobody knows, not nothing.
  SELECT *, if(cost_nanos = 0 AND unpriced_calls > 0, NULL, cost_nanos) AS nanos
  FROM sessions
)
GROUP BY ALL
ORDER BY sessions DESC, workflow, version, status;
