/** The public API of `@cellaflow/sdk`. */
export {
  CellaflowError,
  type CellaflowErrorOptions,
  MisuseError,
  NonDeterminismError,
  NonRetryableError,
  NotApplied,
  ValueError,
} from "./errors.js";
export { type Failure, StepError } from "./failure.js";
export type { PayloadHooks, PayloadWhere } from "./values/hooks.js";
