-- Compacted contexts (ctx.context), by workflow: tokens and cost saved, against what the same calls would have cost with the
-- whole conversation in each. Costs are in multiples of a model's input price: cached tokens are read for 0.1 of it and
-- written for 1.25, a prefix stays cached for 5 minutes, output is left out. Always both: what is saved against a baseline that
-- is cached already, and against one that is not. A call that only led to reading back what was left out (a page fault) is
-- charged to the contexts and is not in the baselines.
WITH
  price AS (SELECT 0.1 AS cached, 1.25 AS written, INTERVAL 5 MINUTE AS lifetime),
  uses AS (
    SELECT
      lineage_id, session_id, workflow, seq, time,
      detail ->> '$.source' AS source,
      (detail ->> '$.fallback')::BOOLEAN AS fallback,
      (detail ->> '$.base_tokens')::BIGINT AS base,
      (detail ->> '$.tokens')::BIGINT AS sent,
      (detail ->> '$.raw_tokens')::BIGINT AS whole,
      (detail ->> '$.shared_tokens')::BIGINT AS shared,
      lead(seq) OVER (PARTITION BY session_id ORDER BY seq) AS next_seq
    FROM events
    WHERE type = 'step_completed' AND detail LIKE '{"base_tokens":%'
  ),
  -- What the model asked for after a call: reads of what was left out, or anything else.
  work AS (
    SELECT events.session_id, events.seq, coalesce(events.resources LIKE '%"kind":"context"%', false) AS fetch
    FROM events ANTI JOIN llm_calls USING (session_id, seq)
    WHERE events.type = 'step_completed' AND (events.detail IS NULL OR events.detail NOT LIKE '{"base_tokens":%')
  ),
  calls AS (
    SELECT
      uses.*,
      coalesce(bool_or(work.fetch) AND bool_and(work.fetch), false) AS fault
    FROM uses LEFT JOIN work
      ON work.session_id = uses.session_id AND work.seq > uses.seq AND (uses.next_seq IS NULL OR work.seq < uses.next_seq)
    GROUP BY ALL
  ),
  kept AS (
    SELECT
      calls.*,
      base + sent AS prompt,
      CASE WHEN time - lag(time) OVER w <= price.lifetime THEN base + shared ELSE 0 END AS hit
    FROM calls, price
    WINDOW w AS (PARTITION BY session_id ORDER BY seq)
  ),
  baseline AS (
    SELECT
      session_id, seq,
      base + whole AS prompt,
      CASE WHEN time - lag(time) OVER w <= price.lifetime THEN base + lag(whole) OVER w ELSE 0 END AS hit
    FROM calls, price
    WHERE NOT fault
    WINDOW w AS (PARTITION BY session_id ORDER BY seq)
  ),
  cost AS (
    SELECT
      kept.*,
      least(kept.hit, kept.prompt) * price.cached + (kept.prompt - least(kept.hit, kept.prompt)) * price.written AS compacted,
      baseline.prompt AS uncached,
      least(baseline.hit, baseline.prompt) * price.cached
        + (baseline.prompt - least(baseline.hit, baseline.prompt)) * price.written AS cached_baseline
    FROM price, kept LEFT JOIN baseline USING (session_id, seq)
  )
SELECT
  workflow,
  count(DISTINCT session_id) AS sessions,
  count(*) AS calls,
  count(*) FILTER (WHERE source = 'ccs') AS compacted_calls,
  count(*) FILTER (WHERE fallback) AS fallbacks,
  count(*) FILTER (WHERE fault) AS page_faults,
  sum(sent)::BIGINT AS sent_tokens,
  (sum(whole) FILTER (WHERE NOT fault))::BIGINT AS whole_tokens,
  round(1 - sum(sent) / nullif(sum(whole) FILTER (WHERE NOT fault), 0), 4) AS tokens_saved,
  round(1 - sum(compacted) / nullif(sum(cached_baseline), 0), 4) AS saved_against_cached,
  round(1 - sum(compacted) / nullif(sum(uncached), 0), 4) AS saved_against_uncached,
  round(coalesce(sum(compacted) FILTER (WHERE fault), 0) / nullif(sum(compacted), 0), 4) AS page_fault_share,
  round(sum(base) / nullif(sum(prompt), 0), 4) AS base_prompt_share
FROM cost
GROUP BY workflow
ORDER BY whole_tokens DESC, workflow;
