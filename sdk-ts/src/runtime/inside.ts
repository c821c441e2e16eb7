/**
 * Where the code that is running now stands: in a step's function, in a zone's callback, or in the workflow itself.
 *
 * Owns: the one AsyncLocalStorage. Never: patches anything.
 *
 * Invariant N1: `ctx` is refused where its calls would not be replayed (inside the function of a step) or not be
 * rolled back (the outer ctx inside a zone).
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { misuse } from "../misuse.js";

/** A place that is not the workflow itself. */
export interface Inside {
  /** The run it belongs to. */
  readonly run: object;
  readonly kind: "step" | "zone";
  readonly name: string;
  /** The zone's scope, for a zone. */
  readonly zone?: object;
}

const places = new AsyncLocalStorage<Inside>();

/** Runs `fn` at a place. */
export function runInside<T>(place: Inside, fn: () => T): T {
  return places.run(place, fn);
}

/** Refuses a call of a ctx (zone: undefined) or of a zone's argument where it must not be made. */
export function checkInside(run: object, call: string, zone?: object): void {
  const place = places.getStore();
  if (place === undefined || place.run !== run) return;
  if (place.kind === "step") throw misuse.ctxInsideStep(place.name, call);
  if (place.zone !== zone) throw misuse.outerCtxInsideZone(call, place.name);
}
