/** The shape of `summary.json`: all that was measured, and nothing else; the report is made of it alone. */
import type { Core, Floor } from "../floor.js";
import type { Growth } from "../growth.js";
import type { Machine } from "../machine.js";
import type { Figures } from "../run.js";

/** What came of a row for a contender. */
export interface Outcome {
  medians: Figures;
  repetitions: readonly Figures[];
  /** Why there are no (more) figures. */
  without?: string;
}

/** One workload. */
export interface SummaryRow {
  id: string;
  title: string;
  way: string;
  repetitions: number;
  outcomes: Partial<Record<string, Outcome>>;
}

/** One contender. */
export interface SummaryContender {
  name: string;
  label: string;
  settings: string;
  versions?: Readonly<Record<string, string>>;
  absent?: string;
}

/** A run of `make bench`. */
export interface Summary {
  mode: string;
  /** When it began, ISO 8601. */
  taken: string;
  machine: Machine;
  contenders: readonly SummaryContender[];
  floor?: Floor;
  core?: readonly Core[];
  growth?: Growth;
  rows: SummaryRow[];
}
