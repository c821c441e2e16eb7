/**
 * The kill matrix: undisturbed runs of every example, then one run for every point and hit, then the account.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Acknowledgement, settle } from "#sdk/harness/account.js";
import type { Screen } from "#sdk/harness/screen.js";
import type { MatrixWorld } from "./example.js";
import type { FoundExample } from "./examples.js";
import { duplicates, firstDifference, inspectEffects, inspectEnd, type Placeholders } from "./judge.js";
import { type Ground, Lane } from "./lane.js";
import type { Options } from "./options.js";
import { describePoint, type Planned, type Point, planOf, pointsOf, sampleOf } from "./points.js";
import { Progress } from "./progress.js";
import type { Measured } from "./result.js";
import { type Outcome, perform } from "./run.js";
import { type Effect, World } from "./world.js";

/** Undisturbed runs of each example: two that differ show that the example is not fit to be compared. */
const REFERENCES = 2;

/** How often a run is performed whose point did not come: children and outside actors take turns in another order. */
const TRIES_MAX = 3;

/** How long the servers may need to note what killed processes left, in ms. */
const SETTLE_MS = 300;

/** One example's part in the matrix. */
interface Candidate {
  found: FoundExample;
  world: MatrixWorld;
  references: Outcome[];
  points: Point[];
}

interface Task {
  candidate: Candidate;
  planned: Planned | undefined;
}

/** What the matrix is given. */
export interface Setting {
  ground: Ground;
  options: Options;
  screen: Screen;
  examples: readonly FoundExample[];
}

/** One kill matrix. */
export class Matrix {
  private readonly lanes: Lane[] = [];
  private readonly candidates: Candidate[] = [];
  private readonly outcomes: Outcome[] = [];
  private readonly progress: Progress;
  private runs = 0;

  private constructor(
    private readonly setting: Setting,
    private readonly world: World,
  ) {
    this.progress = new Progress(setting.screen);
  }

  static async start(setting: Setting): Promise<Matrix> {
    const { processes, folder, environment } = setting.ground;
    const matrix = new Matrix(setting, await World.start(processes, `${folder}/world`, environment));
    for (const found of setting.examples) {
      const world = await matrix.world.for(found.example.script);
      matrix.candidates.push({ found, world, references: [], points: [] });
    }
    return matrix;
  }

  /** Performs all runs. */
  async perform(): Promise<void> {
    const { options, screen } = this.setting;
    const undisturbed = this.candidates.flatMap((candidate) =>
      Array.from({ length: REFERENCES }, (): Task => ({ candidate, planned: undefined })),
    );
    await this.work("undisturbed", undisturbed);
    for (const candidate of this.candidates) {
      const points = candidate.references[0]?.tree.branches ?? new Map();
      candidate.points = pointsOf(new Map([...points].map(([label, { seen }]) => [label, seen]))).filter(
        (point) => options.points.length === 0 || options.points.some((text) => describePoint(point).includes(text)),
      );
      screen.say(`${candidate.found.example.name}: ${candidate.points.length} points`);
      if (options.list) for (const point of candidate.points) screen.say(`  ${describePoint(point)}`);
    }
    if (options.list) return;
    const all = this.candidates.flatMap((candidate) =>
      planOf(candidate.points, options.hits).map((planned): Task => ({ candidate, planned })),
    );
    await this.work("hit", options.sample > 0 ? sampleOf(all, options.sample, options.hits.length) : all);
  }

  /** Counts everything, from the ledgers, the servers' records and the workers' logs. */
  async measure(): Promise<Measured> {
    const acks = this.lanes.flatMap((lane) => lane.acknowledged()) as Acknowledgement[];
    const broken = (await Promise.all(this.lanes.map((lane) => lane.verify()))).flat();
    await Promise.all(this.lanes.map((lane) => lane.stop()));
    await delay(SETTLE_MS);
    const bill = settle(await this.world.requests(), acks, () => "none");
    const effects = this.world.effects();
    const named = (of: (outcome: Outcome) => readonly string[]) =>
      this.outcomes.flatMap((one) => of(one).map((text) => `${nameOf(one)}: ${text}`));
    return {
      points: this.candidates.reduce((sum, { points }) => sum + points.length, 0),
      runs: this.outcomes.length,
      lost: named((one) => one.lost),
      duplicates: duplicates(effects),
      redundant: bill.redundantCalls.map((call) => this.ownerOf(call)),
      stuck: named((one) => (one.stuck === "" ? [] : [one.stuck])),
      different: this.differences(effects),
      broken,
      unreported: named((one) => one.unreported),
      unknownReported: this.outcomes.reduce((sum, one) => sum + one.unknown, 0),
    };
  }

  /** How many runs were hit where it was planned, and model requests that a hit cut off or that were paid again. */
  summary(): string {
    const planned = this.outcomes.filter((one) => one.planned !== undefined);
    const hit = planned.filter((one) => one.hit).length;
    return `${hit} of ${planned.length} runs were hit where it was planned`;
  }

  // ---- inside ----

  private async work(what: string, tasks: readonly Task[]): Promise<void> {
    const { jobs } = this.setting.options;
    while (this.lanes.length < Math.min(jobs, tasks.length)) {
      this.lanes.push(await Lane.start(this.setting.ground, `lane-${this.lanes.length + 1}`));
    }
    this.progress.begin(what, tasks.length);
    const queue = tasks.values();
    const lanes = this.lanes.map(async (lane) => {
      for (let next = queue.next(); next.done !== true; next = queue.next()) await this.one(next.value, lane);
    });
    await Promise.all(lanes);
    this.progress.end();
  }

  private async one({ candidate, planned }: Task, lane: Lane): Promise<void> {
    const { example } = candidate.found;
    const name =
      planned === undefined ? example.name : `${example.name}: ${planned.hit} at ${describePoint(planned.point)}`;
    this.progress.started(name);
    let problem = "";
    for (let tries = 1; tries <= TRIES_MAX; tries++) {
      const { hit, stuck } = await this.once(candidate, planned, lane);
      problem ||= stuck;
      if (hit || planned === undefined || stuck !== "") break;
    }
    this.progress.done(name, problem);
  }

  private async once(candidate: Candidate, planned: Planned | undefined, lane: Lane): Promise<Outcome> {
    const { found, world, references } = candidate;
    this.runs += 1;
    // Of one length, so that no text grows with the number.
    const key = `kill-matrix-${String(this.runs).padStart(6, "0")}`;
    const outcome = await perform({
      example: found.example,
      world,
      lane,
      crew: await lane.crewFor(found, world, key),
      key,
      planned,
      timeoutMs: this.setting.options.timeoutMs,
      onSession: (label, sessionId) => this.prepare(candidate, planned, label, { sessionId, key }),
    });
    if (planned === undefined) references.push(outcome);
    this.outcomes.push(outcome);
    return outcome;
  }

  /** Makes the middle of something last long enough to be hit. @returns whether its effect was made, where it has one */
  private prepare(
    { world, references }: Candidate,
    planned: Planned | undefined,
    label: string,
    run: { sessionId: string; key: string },
  ): (() => Promise<boolean>) | undefined {
    const place = planned?.point.place;
    const reference = references[0];
    if (place === undefined || planned?.point.session !== label || reference === undefined) return undefined;
    if (place.kind === "stream") void this.world.slowStream(world.modelUrl, run.sessionId);
    const { span } = place;
    if (span === undefined || place.kind === "stream") return undefined;
    // The reference's own names lead to its effects, and their keys to this run's.
    const effects = ownEffects(this.world.effects(), namesOf(reference));
    const ours = effects
      .filter(({ atMs }) => atMs >= span.fromMs && atMs <= span.toMs)
      .map(({ key }) =>
        key
          .replaceAll(reference.tree.branches.get(label)?.watch.sessionId || key, run.sessionId)
          .replaceAll(reference.key, run.key),
      );
    for (const key of ours) void this.world.holdReply(key);
    const [first] = ours;
    return first === undefined ? undefined : () => this.world.made(first);
  }

  private differences(effects: readonly Effect[]): string[] {
    return this.candidates.flatMap(({ references, found }) => {
      const reference = references[0];
      if (reference === undefined || reference.stuck !== "") return [];
      const expected = endOf(reference, effects);
      const own = this.outcomes.filter((one) => one.example === found.example && one !== reference && one.stuck === "");
      return own.flatMap((one) => {
        const difference = firstDifference(expected, endOf(one, effects));
        return difference === "" ? [] : [`${nameOf(one)}\n    ${difference}`];
      });
    });
  }

  private ownerOf(call: string): string {
    const [session = ""] = call.split(" ");
    const owner = this.outcomes.find((one) => namesOf(one).has(session));
    return owner === undefined ? call : `${nameOf(owner)}: ${call}`;
  }
}

function nameOf({ example, planned, key }: Outcome): string {
  return planned === undefined
    ? `${example.name} undisturbed (${key})`
    : `${example.name}: ${planned.hit} at ${describePoint(planned.point)} (${key})`;
}

/** The names that are this run's alone, and what stands for them. */
function namesOf({ tree, key }: Outcome): Placeholders {
  const sessions = [...tree.branches.values()].map(({ label, watch }): [string, string] => [
    watch.sessionId,
    `<${label}>`,
  ]);
  return new Map([...sessions, [key, "<run>"]]);
}

function ownEffects(effects: readonly Effect[], names: Placeholders): Effect[] {
  const own = [...names.keys()].filter((name) => name !== "");
  return effects.filter(({ text }) => own.some((name) => text.includes(name)));
}

/** A run's end as text. */
function endOf(outcome: Outcome, effects: readonly Effect[]): string {
  const { normalise = (value: unknown) => value } = outcome.example;
  const names = namesOf(outcome);
  const finals = new Map(
    [...outcome.finals].map(([label, final]) => {
      const { output, state, messages } = final;
      const shown = { output: normalise(output), state: normalise(state), messages: normalise(messages) };
      return [label, { ...final, ...shown } as typeof final];
    }),
  );
  return `${inspectEnd(finals, names)}\neffects:\n${inspectEffects(ownEffects(effects, names), names)}`;
}
