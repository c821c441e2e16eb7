/**
 * What the matrix came to: counts for its last line, faults for a person. Pure.
 */

/** Everything that was counted. */
export interface Measured {
  points: number;
  runs: number;
  /** Each in words; one for each occurrence. */
  lost: readonly string[];
  duplicates: readonly string[];
  redundant: readonly string[];
  stuck: readonly string[];
  /** Runs that came to another end than the undisturbed one. */
  different: readonly string[];
  unreported: readonly string[];
  /** Events that do not verify: hash chain or payload digest. */
  broken: readonly string[];
  unknownReported: number;
}

/** The object of the last line. */
export function resultOf(measured: Measured): object {
  return {
    kill_matrix: {
      points: measured.points,
      runs: measured.runs,
      lost_acked: measured.lost.length,
      duplicate_effects: measured.duplicates.length,
      redundant_llm_requests: measured.redundant.length,
      unknown_reported: measured.unknownReported,
      stuck: measured.stuck.length,
    },
  };
}

/** What did not hold, a sentence each; empty: everything held. */
export function faultsOf(measured: Measured): string[] {
  const named: [string, readonly string[]][] = [
    ["an acknowledged event was lost", measured.lost],
    ["an effect was made twice", measured.duplicates],
    ["a model was asked again for an answer that was committed", measured.redundant],
    ["a run was stuck", measured.stuck],
    ["a run came to another end than the undisturbed one", measured.different],
    ["nobody was told of an unknown effect", measured.unreported],
    ["an event does not verify", measured.broken],
  ];
  const found = named.flatMap(([what, cases]) => cases.map((one) => `${what}: ${one}`));
  if (measured.runs === 0) found.push("nothing was run: no example takes part");
  return found;
}
