/** Compacted contexts: what the package exports of them, and what the runtime makes `ctx.context` of. */
export { fromModelMessages, type GivenMessage, type ModelMessage, toModelMessages } from "./ai-sdk.js";
export { withCacheControl } from "./cache.js";
export type { UsedContext } from "./shown.js";
export { contextTools } from "./tools.js";
export type { Breakpoint, ContextOptions, PromptContext } from "./types.js";
