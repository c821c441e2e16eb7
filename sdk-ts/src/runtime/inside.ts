/**
 * Where the code that is running now stands: in a step's function, in a zone's callback, in the cleanup of a
 * cancellation, or in the workflow itself.
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
  readonly kind: "step" | "zone" | "cleanup";
  readonly name: string;
  /** The zone's scope, for a zone. */
  readonly zone?: object;
  /** Path of its step keys, for a cleanup (`ctx.onCancel`). */
  readonly path?: string;
}

const places = new AsyncLocalStorage<Inside>();

/** Runs `fn` at a place. */
export function runInside<T>(place: Inside, fn: () => T): T {
  return places.run(place, fn);
}

/** Where the code that is running now stands; undefined: in a workflow itself, or outside of all. */
export function placeNow(): Inside | undefined {
  return places.getStore();
}

/** Refuses a call of a ctx (zone: undefined) or of a zone's argument where it must not be made. */
export function checkInside(run: object, call: string, zone?: object): void {
  const place = places.getStore();
  if (place === undefined || place.run !== run || place.kind === "cleanup") return;
  if (place.kind === "step") throw misuse.ctxInsideStep(place.name, call);
  if (place.zone !== zone) throw misuse.outerCtxInsideZone(call, place.name);
}

/** Returns the path of the cleanup that is running now; undefined: none is. */
export function cleanupPath(run: object): string | undefined {
  const place = places.getStore();
  return place !== undefined && place.run === run && place.kind === "cleanup" ? place.path : undefined;
}
