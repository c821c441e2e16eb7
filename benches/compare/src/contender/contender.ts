/**
 * A contender: how its server is started and what is said of it.
 */
import type { ServerProcess } from "./process.js";

/** What is measured beside what. */
export type ContenderName = "cellaflow" | "restate" | "dbos" | "temporal";

/** A running server on a data folder of its own. */
export interface Server {
  readonly process: ServerProcess;
  /** What lies on disk because of it. */
  readonly dataFolder: string;
  /** What a driver needs to find it. */
  readonly address: Readonly<Record<string, string>>;
}

/** How a server is started. */
export interface StartOptions {
  /** Empty; the server keeps everything below it. */
  folder: string;
  /** Most memory it may take, in bytes; the contender is set up for it as its documentation says. Default: no cap. */
  memoryMax?: number;
  /** How soon a dead worker is noticed matters, because its work is to be taken over. */
  takeOver?: boolean;
}

/** One product. */
export interface Contender {
  readonly name: ContenderName;
  readonly label: string;
  /** Why it cannot be measured here; undefined: it can. */
  absent(): string | undefined;
  /** Versions of server and SDK. */
  versions(): Readonly<Record<string, string>>;
  /** It needs so long that it is measured less often. Default: as often as everybody. */
  readonly repetitionsMax?: number;
  /** How it is set up, and where that differs from its defaults, for a reader. */
  readonly settings: string;
  start(options: StartOptions): Promise<Server>;
}
