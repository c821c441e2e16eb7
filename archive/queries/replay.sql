-- Saved by replay, by workflow and version: what would have been spent again if sessions that lost their worker, and
-- forks, had begun from the start; and guarded effects that were taken over instead of happening twice.
SELECT
  workflow,
  version,
  count(DISTINCT session_id) AS sessions,
  count(*) FILTER (WHERE type = 'lease_granted' AND replay_saved_tokens IS NOT NULL) AS recoveries,
  count(*) FILTER (WHERE type = 'session_started' AND replay_saved_tokens IS NOT NULL) AS forks,
  coalesce(sum(replay_saved_tokens), 0)::BIGINT AS saved_tokens,
  (coalesce(sum(replay_saved_cost_nanos), 0) / 1e9)::DECIMAL(18, 6) AS saved_usd,
  count(deduplicated_from_session) AS effects_not_repeated
FROM events
GROUP BY ALL
ORDER BY saved_usd DESC, saved_tokens DESC, workflow, version;
