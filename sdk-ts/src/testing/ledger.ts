/**
 * Recorded ledgers as files: kept beside the tests, replayed against new code.
 *
 * Owns: the file's form. Never: changes a session.
 *
 * A file is JSON lines: what session it was, then its events. It holds everything that the session's steps returned,
 * and the salt of its lineage, which stands between its input digests and whoever guesses inputs: keep test data in it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { ledgerOf } from "../client/ledger.js";
import { CellaflowError } from "../errors.js";
import { SessionStatus } from "../gen/cellaflow/v1/common_pb.js";
import { EventSchema } from "../gen/cellaflow/v1/event_pb.js";
import { connectionOf } from "../internal/connection.js";
import { type DryRunOptions, type DryRunResult, dryRun, type Ledger } from "../runtime/dry-run.js";
import type { Workflow } from "../runtime/workflow.js";
import type { ConnectionOptions } from "../transport/lookup.js";

const FORM = 1;

interface Head {
  cellaflowLedger: number;
  sessionId: string;
  rootId: string;
  workflow: string;
  version: string;
  digestSalt: string;
}

/**
 * Writes the ledger of a session that does not run (it has ended, waits or is paused) to a file.
 *
 * @throws CellaflowError `session_not_found`; `session_running` when a worker may be at it
 */
export async function exportLedger(
  sessionId: string,
  file: string,
  options: { connection?: ConnectionOptions } = {},
): Promise<void> {
  const { ledger, session } = await ledgerOf(connectionOf(options.connection), sessionId);
  const { status } = session;
  if (status === SessionStatus.PENDING || status === SessionStatus.RUNNING) throw running(sessionId);
  const head: Head = {
    cellaflowLedger: FORM,
    sessionId,
    rootId: ledger.session.rootId,
    workflow: ledger.session.workflow,
    version: ledger.session.version,
    digestSalt: Buffer.from(ledger.digestSalt).toString("base64"),
  };
  const lines = [head, ...ledger.events.map((event) => toJson(EventSchema, event))];
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}

/** Reads a ledger that was exported. @throws Error when the file is none */
export function readLedger(file: string): Ledger {
  const [first = "", ...rest] = readFileSync(file, "utf8").trimEnd().split("\n");
  const head = headOf(first);
  if (head.cellaflowLedger !== FORM) {
    throw new Error(`${file} is no exported ledger of form ${FORM}; export it again with this version of the SDK`);
  }
  const { sessionId = "", rootId = "", workflow = "", version = "", digestSalt = "" } = head;
  return {
    session: { sessionId, rootId, workflow, version },
    digestSalt: Buffer.from(digestSalt, "base64"),
    events: rest.map((line) => fromJson(EventSchema, JSON.parse(line) as JsonValue)),
  };
}

/**
 * Runs a workflow's present code over an exported ledger: would a worker with this code go on with that session?
 *
 * No engine is needed and nothing is started: no step runs that the ledger has no outcome for. `ctx.resource` does
 * acquire, and zones run over what was recorded, as in every replay.
 *
 * @returns compatible, or the first difference
 */
export function replayLedger(file: string, workflow: Workflow, options: DryRunOptions = {}): Promise<DryRunResult> {
  return dryRun(readLedger(file), workflow, options);
}

function headOf(line: string): Partial<Head> {
  try {
    return JSON.parse(line) as Partial<Head>;
  } catch {
    return {};
  }
}

function running(sessionId: string): CellaflowError {
  return new CellaflowError(
    "session_running",
    `session ${sessionId} can go on, so that its ledger is not at rest`,
    "wait until it has ended, or pause it",
  );
}
