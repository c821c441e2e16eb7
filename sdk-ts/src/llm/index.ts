/** Model calls: what the package exports of them, and what the runtime makes `ctx.llm` and `zone.llm` of. */
export { finalAnswer, type Llm, sessionLlm, zoneLlm } from "./llm.js";
export { textOf, toMessage } from "./messages.js";
export type { LlmStream } from "./stream.js";
export { runTools, type Tool, type ToolDefinition, type ToolHost, type Tools, tool } from "./tools.js";
export type {
  CallOptions,
  Endpoint,
  FinalAnswer,
  ForeignAnswer,
  ForeignAttempt,
  ForeignRequest,
  ForeignResult,
  GeneratedAnswer,
  GenerateOptions,
  JsonObject,
  LlmUsage,
  MessageInput,
  OutputSchema,
  RequestOptions,
  StreamEvent,
  TextMessage,
  TokenCounts,
  ToolCall,
} from "./types.js";
export { fromUsage, type ModelPrices, type PriceList, type TokenPrices, usePrices } from "./usage.js";
