/**
 * The public API of `@cellaflow/sdk`: durable workflows for agents on a Cellaflow engine.
 *
 * Define a {@link workflow}, run it with a {@link createWorker} or in process with `createClient().run(…)`. Inside, every
 * `ctx` call is journaled: after a crash the code runs again from its start, completed steps return what the ledger
 * recorded, and work goes on at the first one that is not there. Locals are rebuilt by that re-execution. Unguarded
 * steps run at least once; effects that must not happen twice belong in guarded steps.
 */

export type {
  Client,
  ClientOptions,
  ListOptions,
  NamedWorkflow,
  ResultOptions,
  RunHereOptions,
  SessionHandle,
  SessionResult,
  StartOptions,
  WhileWaiting,
} from "./client/api.js";
export type { ApprovalInfo, ApprovalRef, DecideOptions } from "./client/approvals.js";
export type { BudgetAmounts, BudgetInfo, BudgetLimits } from "./client/budgets.js";
export type { CheckOptions, CheckResult } from "./client/check.js";
export { createClient } from "./client/client.js";
export type { CallOptions as ClientCallOptions, SessionName } from "./client/core.js";
export type { Branch, BranchDiff, StepDifference } from "./client/diff.js";
export type { EventInfo, EventUsage } from "./client/events.js";
export type { ForkEditInput, ForkOptions, SessionState } from "./client/fork.js";
export { nodeHandler } from "./client/node-http.js";
export type { StepOutcome } from "./client/outcomes.js";
export type { QueryOptions, SessionView } from "./client/query.js";
export type { StepResolution } from "./client/resolve.js";
export type { ForkInfo, PauseKind, SessionInfo, SessionStatus, WaitInfo } from "./client/session.js";
export type { SendSignalOptions, SignalReceipt } from "./client/signals.js";
export { type SseOptions, sseHandler, type WebHandler } from "./client/sse.js";
export type { StreamItem, SubscribeOptions } from "./client/subscribe.js";
export type { VersionInfo, VersionName } from "./client/versions.js";
export {
  type Breakpoint,
  type ContextOptions,
  contextTools,
  fromModelMessages,
  type GivenMessage,
  type ModelMessage,
  type PromptContext,
  toModelMessages,
  type UsedContext,
  withCacheControl,
} from "./context/index.js";
export {
  CancelledError,
  CellaflowError,
  type CellaflowErrorOptions,
  MisuseError,
  NonDeterminismError,
  NonRetryableError,
  NotApplied,
  ValueError,
} from "./errors.js";
export { type Failure, StepError } from "./failure.js";
export type { RunOptions } from "./internal/hosting.js";
export {
  type CallOptions,
  type Endpoint,
  type FinalAnswer,
  type ForeignAnswer,
  type ForeignAttempt,
  type ForeignRequest,
  type ForeignResult,
  type GeneratedAnswer,
  type GenerateOptions,
  type JsonObject,
  type Llm,
  type LlmStream,
  type LlmUsage,
  type MessageInput,
  type ModelPrices,
  type OutputSchema,
  type PriceList,
  type RequestOptions,
  runTools,
  type StreamEvent,
  type TextMessage,
  type TokenCounts,
  type TokenPrices,
  type Tool,
  type ToolCall,
  type ToolDefinition,
  type ToolHost,
  type Tools,
  textOf,
  toMessage,
  tool,
  usePrices,
} from "./llm/index.js";
export type {
  Context,
  MapOptions,
  Messages,
  OpenZone,
  Zone,
  ZoneOptions,
  ZoneStepOptions,
} from "./runtime/api.js";
export type { ApprovalCall, ApprovalOutcome } from "./runtime/approval.js";
export type { SessionUsage } from "./runtime/budget.js";
export type { ContinueOptions } from "./runtime/continue.js";
export type { Message, MessagePart, PartExtras } from "./runtime/messages.js";
export type {
  DeliveredContext,
  DeliveredStep,
  FinishedReplay,
  Logger,
  LogLevel,
  RunObserver,
} from "./runtime/observer.js";
export type { Finding, Resource, RetryPolicy, StepHandle, StepLog, StepOptions } from "./runtime/options.js";
export type { ChildHandle, SpawnOptions, WorkflowRef } from "./runtime/spawn.js";
export type { State } from "./runtime/state.js";
export type { SleepTime } from "./runtime/timer.js";
export type { ApprovalOptions, SignalOptions, WaitOptions, Waits } from "./runtime/waits.js";
export { type Workflow, type WorkflowOptions, workflow } from "./runtime/workflow.js";
export type { ConnectionOptions } from "./transport/lookup.js";
export type { PayloadHooks, PayloadWhere } from "./values/hooks.js";
export { type ApprovalHandlerOptions, type Approver, approvalHandler, approvalUrl } from "./web/approvals.js";
export { createWorker, type Worker, type WorkerOptions, type WorkerRunOptions } from "./worker/worker.js";
