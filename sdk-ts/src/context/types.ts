/**
 * What users pass to `ctx.context` and get back from it.
 *
 * Owns: the public types. Never: behaviour.
 */
import type { Tools } from "../llm/index.js";
import type { Message } from "../runtime/messages.js";

/** Options of `ctx.context`. */
export interface ContextOptions {
  /** The most tokens (o200k) that the messages may have; `system` and `tools` come on top. 256 or more. Default: 32,000. */
  budget?: number;
  /**
   * How long to wait for a compacted context if what there is does not fit, in ms. Not waited for where no compactor runs.
   * 0 to 30,000. Default: 2,000.
   */
  waitMs?: number;
  /** The system option of the model call, for the account of what every prompt begins with. Default: not known. */
  system?: string;
  /** The tools of the model call, for the same account. Default: not known. */
  tools?: Tools;
  /** Names the step in its scope in place of its occurrence. */
  key?: string;
}

/** A place in a prompt after which its provider should keep what it has read. */
export interface Breakpoint {
  /** Index in `messages`. */
  message: number;
  /** Index of the part. */
  part: number;
}

/** Messages to ask a model with. */
export interface PromptContext {
  /** Do not change them. */
  readonly messages: readonly Message[];
  /** In order, at most four. The last one is the end of the messages. */
  readonly breakpoints: readonly Breakpoint[];
  /** Version of the compacted context among the messages; 0: none. */
  readonly version: number;
  /** Tokens (o200k) of the messages and, with a compacted context, of the two tools that read it back. Never above the budget. */
  readonly tokens: number;
  /** Tokens of the whole conversation. */
  readonly rawTokens: number;
  /**
   * "raw": the whole conversation. "ccs": its compacted form and all messages after it. "window": no compacted context was
   * ready that fits; the newest messages.
   */
  readonly source: "raw" | "ccs" | "window";
}
