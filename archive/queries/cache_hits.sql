-- Share of the input that providers read from their caches, by workflow and model.
SELECT
  workflow,
  model,
  count(*) AS calls,
  sum(input_tokens)::BIGINT AS uncached_tokens,
  sum(cached_read_tokens)::BIGINT AS cached_tokens,
  sum(cache_write_tokens)::BIGINT AS written_tokens,
  round(sum(cached_read_tokens) / nullif(sum(input_tokens + cached_read_tokens + cache_write_tokens), 0), 4) AS cache_hit_share
FROM llm_calls
GROUP BY ALL
ORDER BY uncached_tokens + cached_tokens + written_tokens DESC, workflow, model;
