/**
 * What tests of agents need: a private engine whose clock skips time, workers that crash at an exact event, recorded
 * ledgers replayed against new code, and servers that act as the world around an agent: a language model, a mail
 * server, a tool that charges.
 */
export type { DryRunOptions, DryRunResult, Ledger } from "../runtime/dry-run.js";
export type { Delivery } from "./awkward-writer.js";
export { type CompactorOptions, compactorProgram, startCompactor, type TestCompactor } from "./compactor.js";
export {
  type ChargeFault,
  type ChargeRecord,
  type CountingServer,
  type CountingServerOptions,
  startCountingServer,
} from "./counting-server.js";
export { crashEngineAfter, type Watched } from "./crash.js";
export { type EngineOptions, startEngine, type TestEngine } from "./engine.js";
export type { Match } from "./faults.js";
export { exportLedger, readLedger, replayLedger } from "./ledger.js";
export type {
  ScriptedAnswer,
  ScriptedMessage,
  ScriptedRequest,
  ScriptedToolCall,
  ScriptedUsage,
} from "./openai-wire.js";
export {
  type LlmFault,
  type LlmRequestRecord,
  type Script,
  type ScriptedLlm,
  type ScriptedLlmOptions,
  type ScriptedReply,
  startScriptedLlm,
} from "./scripted-llm.js";
export { type DeliveryRecord, type LocalSmtp, type MailFault, type SmtpOptions, startSmtp } from "./smtp.js";
export {
  type CrashPoint,
  startWorkerProcess,
  type WorkerProcess,
  type WorkerProcessOptions,
} from "./worker-process.js";
