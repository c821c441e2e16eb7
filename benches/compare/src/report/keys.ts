/**
 * The last line of `make bench`: the figures that are compared from version to version.
 *
 * Owns: their names and definitions. Ratios above 1: we are faster. A figure without a measurement is null.
 */
import { rounded } from "../measure/figures.js";
import type { Figure } from "../run.js";
import type { Summary } from "./summary.js";

/** The figures, in their order. */
export interface Keys {
  seq_1k_vs_restate: number | null;
  conc_1k_vs_restate: number | null;
  seq_100k_vs_restate: number | null;
  replay_1000_vs_restate: number | null;
  replay_10000_vs_restate: number | null;
  idle_rss_mb: number | null;
  loaded_rss_mb: number | null;
  disk_amplification: number | null;
  flatness: number | null;
  journal_vs_transcript: number | null;
  core_vs_raw: number | null;
  core_vs_raw_64: number | null;
}

const US = "cellaflow";
const PEER = "restate";

/** Computes the figures of a run. */
export function keysOf(summary: Summary): Keys {
  const of = (row: string, figure: Figure, who = US): number | null =>
    summary.rows.find(({ id }) => id === row)?.outcomes[who]?.medians[figure] ?? null;
  const faster = (row: string, figure: Figure): number | null => ratio(of(row, figure, PEER), of(row, figure));
  const core = (callers: number): number | null => summary.core?.find((one) => one.callers === callers)?.ratio ?? null;
  const [one, eight] = [core(1), core(8)];
  return {
    seq_1k_vs_restate: faster("seq_1k", "p50_ms"),
    conc_1k_vs_restate: ratio(of("conc_1k", "steps_per_s"), of("conc_1k", "steps_per_s", PEER)),
    seq_100k_vs_restate: faster("seq_100k", "p50_ms"),
    replay_1000_vs_restate: faster("replay_1000", "replay_ms"),
    replay_10000_vs_restate: faster("replay_10000", "replay_ms"),
    idle_rss_mb: of("idle", "server_rss_mb"),
    loaded_rss_mb: of("load", "server_peak_mb"),
    disk_amplification: of("load", "disk_rest_ratio"),
    flatness: of("flat_10000", "flatness"),
    journal_vs_transcript: of("conversation", "disk_rest_ratio"),
    core_vs_raw: one === null || eight === null ? null : Math.min(one, eight),
    core_vs_raw_64: core(64),
  };
}

function ratio(above: number | null, below: number | null): number | null {
  return above === null || below === null || below === 0 ? null : rounded(above / below);
}
