/** What we want of the figures on the last line. */

/** A goal. */
export interface Goal {
  text: string;
  met(value: number): boolean;
}

const least = (bound: number): Goal => ({ text: `≥ ${bound}`, met: (value) => value >= bound });
const most = (bound: number): Goal => ({ text: `≤ ${bound}`, met: (value) => value <= bound });

/** By name of the figure. */
export const GOALS: Readonly<Record<string, Goal>> = {
  seq_1k_vs_restate: least(2),
  conc_1k_vs_restate: least(4),
  seq_100k_vs_restate: least(2),
  replay_1000_vs_restate: least(2),
  replay_10000_vs_restate: least(2),
  idle_rss_mb: most(20),
  loaded_rss_mb: most(64),
  disk_amplification: most(1.2),
  flatness: most(1.1),
  journal_vs_transcript: most(1.2),
  core_vs_raw: least(0.7),
  core_vs_raw_64: least(0.5),
};
