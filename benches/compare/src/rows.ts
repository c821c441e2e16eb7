/**
 * The workloads: one entry per row of the result.
 *
 * Owns: how much is done, and for which contender it is done less of. Never: runs anything.
 */
import type { ContenderName } from "./contender/contender.js";
import type { Job } from "./job.js";

/** How a row is measured: by a job, by a takeover, by several jobs in one server's life, or by doing nothing. */
export type Way = "job" | "replay" | "load" | "idle" | "syncs";

/** One workload. */
export interface Row {
  readonly id: string;
  readonly title: string;
  readonly way: Way;
  readonly jobs: readonly Job[];
  /** Repetitions; medians are published. */
  readonly repetitions: number;
  /** Done instead of `jobs` by a contender that would need hours. */
  readonly less?: Partial<Record<ContenderName, readonly Job[]>>;
  /** Why a contender does not take part. */
  readonly without?: Partial<Record<ContenderName, string>>;
  /** Most memory the server may take, in bytes. */
  readonly memoryMax?: number;
  /** Without a warm-up, whose steps would be most of what lies on disk afterwards. */
  readonly cold?: boolean;
  /** Time of doing nothing, in ms. */
  readonly idleMs?: number;
}

const KB = 1_024;
const MB = KB * KB;

function job(name: string, shape: Partial<Job>): Job {
  return {
    name,
    kind: "steps",
    sessions: 1,
    atOnce: 1,
    steps: 1,
    bytes: KB,
    dieAfter: 0,
    ...shape,
  };
}

/** Before everything that is measured: compilers and caches of both sides are warm then. */
export function warmUp(contender: ContenderName): Job {
  if (contender === "temporal") return job("warm-up", { sessions: 4, atOnce: 4, steps: 5 });
  return job("warm-up", { sessions: 100, atOnce: 32, steps: 50 });
}

const HISTORY = "its histories end at 51,200 events; these steps need more";
const CONC = { sessions: 200, atOnce: 64, steps: 50 };
const LOAD = [
  job("load-1k", { steps: 1_000 }),
  job("load-64", CONC),
  job("load-100k", { sessions: 6, atOnce: 6, steps: 100, bytes: 100 * KB }),
];
const LESS_LOAD = [
  job("load-1k", { steps: 100 }),
  job("load-64", { sessions: 64, atOnce: 64, steps: 10 }),
  job("load-100k", { sessions: 6, atOnce: 6, steps: 20, bytes: 100 * KB }),
];

/** The table of what is measured, in the order in which it is. */
export const ROWS: readonly Row[] = [
  {
    id: "seq_1k",
    title: "one session, 1,000 steps of 1 KB",
    way: "job",
    repetitions: 3,
    jobs: [job("seq-1k", { steps: 1_000 })],
    less: { temporal: [job("seq-1k", { steps: 200 })] },
  },
  {
    id: "conc_1k",
    title: "64 at once: 200 sessions of 50 steps of 1 KB",
    way: "job",
    repetitions: 3,
    jobs: [job("conc-1k", CONC)],
    less: {
      temporal: [job("conc-1k", { sessions: 128, atOnce: 64, steps: 10 })],
    },
  },
  {
    id: "seq_100k",
    title: "one session, 100 steps of 100 KB",
    way: "job",
    repetitions: 3,
    jobs: [job("seq-100k", { steps: 100, bytes: 100 * KB })],
  },
  {
    id: "replay_1000",
    title: "replay of 1,000 steps of 1 KB in a new process",
    way: "replay",
    repetitions: 3,
    jobs: [job("replay-1000", { steps: 1_010, dieAfter: 1_000 })],
  },
  {
    id: "replay_10000",
    title: "replay of 10,000 steps of 1 KB in a new process",
    way: "replay",
    repetitions: 2,
    jobs: [job("replay-10000", { steps: 10_010, dieAfter: 10_000 })],
    without: { temporal: HISTORY },
  },
  {
    id: "flat_10000",
    title: "one session of 10,000 steps of 1 KB: its last thousand against its first",
    way: "job",
    repetitions: 2,
    jobs: [job("flat", { steps: 10_000 })],
    without: { temporal: HISTORY },
  },
  {
    id: "conversation",
    title: "a conversation of 100 tool and 100 model calls (836 KB, about 209,000 tokens)",
    way: "job",
    repetitions: 2,
    jobs: [job("conversation", { kind: "conversation", steps: 100 })],
    cold: true,
  },
  {
    id: "load",
    title: "72 MB in one server's life: 1,000 × 1 KB, 200 × 50 × 1 KB 64 at once, 6 × 100 × 100 KB",
    way: "load",
    repetitions: 2,
    jobs: LOAD,
    less: { temporal: LESS_LOAD },
  },
  {
    id: "big",
    title: "200 sessions of 10 steps of 2 MB, 16 at once, the server under 1 GiB of memory",
    way: "job",
    repetitions: 1,
    jobs: [job("big", { sessions: 200, atOnce: 16, steps: 10, bytes: 2 * MB })],
    without: { temporal: "its payloads end at 2 MiB, envelope included" },
    memoryMax: 1_024 * MB,
  },
  {
    id: "idle",
    title: "a minute of doing nothing after the start",
    way: "idle",
    repetitions: 1,
    jobs: [],
    idleMs: 60_000,
  },
  {
    id: "syncs",
    title: "syncs that the server makes per step, counted from its system calls",
    way: "syncs",
    repetitions: 1,
    jobs: [job("syncs", { steps: 200 })],
    less: { temporal: [job("syncs", { steps: 50 })] },
  },
];

/** The jobs of a row for a contender. */
export function jobsOf(row: Row, contender: ContenderName): readonly Job[] {
  return row.less?.[contender] ?? row.jobs;
}

/** The same rows with next to nothing to do: whether everything works, not how fast. */
export function smoke(row: Row): Row {
  const small = (one: Job): Job => ({
    ...one,
    sessions: Math.min(one.sessions, 2),
    steps: one.dieAfter > 0 ? 12 : Math.min(one.steps, 10),
    dieAfter: Math.min(one.dieAfter, 10),
  });
  const { less: _less, ...rest } = row;
  return {
    ...rest,
    repetitions: 1,
    jobs: row.jobs.map(small),
    ...(row.idleMs === undefined ? {} : { idleMs: 2_000 }),
  };
}

/** The rows of daily work: one minute, without peers. */
export function quick(row: Row): Row | undefined {
  const repetitions = {
    seq_1k: 3,
    conc_1k: 3,
    seq_100k: 2,
    replay_1000: 2,
    replay_10000: 1,
    flat_10000: 1,
    conversation: 1,
    load: 1,
    idle: 1,
  }[row.id];
  if (repetitions === undefined) return undefined;
  return {
    ...row,
    repetitions,
    ...(row.idleMs === undefined ? {} : { idleMs: 5_000 }),
  };
}
