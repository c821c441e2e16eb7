/**
 * The inside of a zone as its code sees it: the argument of `ctx.zone`, and the handle of `ctx.openZone`.
 *
 * Owns: the public faces of a zone's attempt. Never: journals.
 */
import { CellaflowError } from "../errors.js";
import { type Llm, zoneLlm } from "../llm/index.js";
import { misuse } from "../misuse.js";
import type { OpenZone, Zone, ZoneStepOptions } from "./api.js";
import type { CallHost, CallSpec } from "./internals.js";
import type { StepHandle, StepOptions } from "./options.js";
import type { State } from "./state.js";
import { deferred } from "./step-promise.js";
import type { ZoneAttempt } from "./zone-attempt.js";

/** Makes what model calls inside a zone need. */
export function zoneHost(attempt: ZoneAttempt): CallHost {
  const { run, inner } = attempt;
  return {
    where: "zone",
    sessionId: run.settings.session.sessionId,
    rootId: run.settings.session.rootId,
    conversation: run.conversation,
    texts: run.texts,
    call: (spec: CallSpec) => {
      attempt.check("llm");
      return inner.call(spec, attempt.run.inputDigest.of(spec.input));
    },
    noteFinal: (value, place) => inner.noteFinal(value, place),
  };
}

/** Makes the argument of a zone's callback. */
export function zoneOf(attempt: ZoneAttempt): Zone {
  return new ZoneFace(attempt);
}

class ZoneFace implements Zone {
  readonly llm: Llm;

  constructor(private readonly attempt: ZoneAttempt) {
    this.llm = zoneLlm(zoneHost(attempt));
  }

  get state(): State {
    return this.attempt.state;
  }

  get signal(): AbortSignal {
    return this.attempt.signal;
  }

  step<O, I = undefined>(
    name: string,
    fn: (input: I, step: StepHandle) => O | PromiseLike<O>,
    options: ZoneStepOptions<I> = {},
  ): Promise<O> {
    const { attempt } = this;
    attempt.check("zone.step");
    const { effect, idempotencyKey } = options as StepOptions<I>;
    if (effect !== undefined || idempotencyKey !== undefined) {
      throw misuse.guardedStepInZone(name, attempt.request.spec.name);
    }
    const { key, retry, timeoutMs, input } = options;
    const inner = { key, retry, timeoutMs, digest: attempt.run.inputDigest.of(input) };
    return attempt.inner.step(name, inner, (step) => fn(input as I, step));
  }
}

/** How an opened zone's request ends. */
export interface OpenSettled {
  committed(value: unknown): void;
  failed(reason: unknown): void;
}

/**
 * Opens a zone around the code that follows; resolves with its handle once it is entered.
 *
 * @param request makes the zone's request with this body
 * @param left called when the zone is left
 */
export function openZone(
  request: (body: (attempt: ZoneAttempt) => Promise<unknown>, settled: OpenSettled) => void,
  left: () => void,
): Promise<OpenZone> {
  const opened = deferred<OpenZone>();
  const outcome = deferred<unknown>();
  opened.promise.catch(() => undefined);
  outcome.promise.catch(() => undefined);
  const body = (attempt: ZoneAttempt): Promise<unknown> => {
    const inside = deferred<unknown>();
    opened.resolve(new Handle(attempt, inside, outcome.promise, left));
    return inside.promise;
  };
  const failed = (reason: unknown): void => {
    // On replay a failed zone is not entered again: opening it fails as the zone did.
    left();
    opened.reject(reason);
    outcome.reject(reason);
  };
  request(body, { committed: outcome.resolve, failed });
  return opened.promise;
}

class Handle extends ZoneFace implements OpenZone {
  private lastFailure: unknown;

  constructor(
    attempt: ZoneAttempt,
    private readonly inside: { resolve(value: unknown): void; reject(reason: unknown): void },
    private readonly outcome: Promise<unknown>,
    private readonly left: () => void,
  ) {
    super(attempt);
  }

  override step<O, I = undefined>(
    name: string,
    fn: (input: I, step: StepHandle) => O | PromiseLike<O>,
    options: ZoneStepOptions<I> = {},
  ): Promise<O> {
    const made = super.step(name, fn, options);
    // Why the zone is left without a commit; `await using` does not say. The copy is nobody's to handle.
    Promise.prototype.then.call(made, undefined, (thrown: unknown) => {
      this.lastFailure = thrown;
    });
    return made;
  }

  async commit<T>(value: T): Promise<T> {
    this.inside.resolve(value);
    this.left();
    return (await this.outcome) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Without effect after a commit.
    this.inside.reject(this.lastFailure ?? notCommitted());
    this.left();
    await this.outcome.catch(() => undefined);
  }
}

function notCommitted(): CellaflowError {
  return new CellaflowError(
    "zone_not_committed",
    "the zone was left without a commit",
    "call zone.commit(value) before leaving it",
  );
}
