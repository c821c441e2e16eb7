/** Servers that act as the world around an agent in tests: a language model, a mail server, a tool that charges. */
export type { Delivery } from "./awkward-writer.js";
export {
  type ChargeFault,
  type ChargeRecord,
  type CountingServer,
  type CountingServerOptions,
  startCountingServer,
} from "./counting-server.js";
export { type EngineOptions, startEngine, type TestEngine } from "./engine.js";
export type { Match } from "./faults.js";
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
