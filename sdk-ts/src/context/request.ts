/**
 * `ctx.context` as a journaled step.
 *
 * Owns: one use of a context, from the question to the recorded document. Never: chooses (`choose.ts`), talks to the engine
 * (`source.ts`).
 *
 * Invariants:
 * - Q1 what the code sees is made of the recorded document, live too (`prompt.ts`): a replay asks nobody.
 * - Q2 the conversation is what it was when `ctx.context` was called.
 * - Q3 nothing is waited for that cannot help: what is not committed cannot be compacted.
 */
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import {
  ContextDocumentSchema,
  type ContextUsed,
  ContextUsedSchema,
  ContextSource as StoredSource,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import type { StepCompleted } from "../gen/cellaflow/v1/event_pb.js";
import type { Attempt } from "../runtime/attempt.js";
import { documentPayload, payloadDocument } from "../runtime/payloads.js";
import type { RequestSpec } from "../runtime/request.js";
import type { Run } from "../runtime/run.js";
import { JournaledStep, type StoredOutput } from "../runtime/step.js";
import { type Artefact, type Asked, type Block, type Choice, whole, window } from "./choose.js";
import { closedEnd, leadingSystem } from "./pairs.js";
import { promptOf } from "./prompt.js";
import type { Settings } from "./settings.js";
import { sharedTokens } from "./shared.js";
import { shownContext } from "./shown.js";
import { askFor, type ContextAsk, type ContextSource } from "./source.js";
import { loadMeter } from "./tokens.js";
import { TOOL_LINES } from "./tools.js";
import type { PromptContext } from "./types.js";

const SOURCES = { raw: StoredSource.RAW, ccs: StoredSource.CCS, window: StoredSource.WINDOW } as const;
const NO_HASH = new Uint8Array(0);

interface Chosen {
  choice: Choice;
  waitedMs: number;
  fallback: boolean;
}

/** One `ctx.context`. */
export class ContextRequest extends JournaledStep<PromptContext, ContextUsed> {
  /** Q2. */
  private readonly length: number;

  constructor(
    run: Run,
    spec: RequestSpec,
    private readonly settings: Settings,
  ) {
    super(run, spec, { retry: undefined, timeoutMs: undefined, resources: undefined });
    this.length = run.conversation.length;
  }

  protected override async perform(step: Attempt): Promise<ContextUsed> {
    this.run.settings.mayBlock?.();
    const meter = await loadMeter();
    const messages = this.run.conversation.messages.slice(0, this.length);
    const asked: Asked = {
      messages,
      budget: this.settings.budget,
      meter,
      toolsTokens: meter.text(TOOL_LINES.fetch) + meter.text(TOOL_LINES.search),
      ...this.known(),
    };
    const chosen = await this.choose(asked, step.signal);
    return this.document(asked, chosen);
  }

  protected override store(used: ContextUsed): StoredOutput {
    const output = documentPayload(PayloadFormat.CONTEXT, ContextUsedSchema, used);
    return { output, bytes: Number(output.sizeBytes) };
  }

  protected override settle(output: Payload | undefined, completed: StepCompleted | undefined, seq: number) {
    if (output?.format !== PayloadFormat.CONTEXT) {
      this.reject(edited(this.spec.key));
      return [];
    }
    const used = payloadDocument(output, ContextUsedSchema);
    const { contexts, conversation } = this.run;
    const blocks = contexts.blocksOf(used);
    const isSame = contexts.isInherited(seq) || Number(used.messages) === this.length;
    if (!isSame || blocks === undefined) {
      const recorded = `a context of ${used.messages} messages under the key "${this.spec.key}"`;
      this.run.nondeterministic(recorded, `one of ${this.length} messages`, this.spec.key);
      return [];
    }
    const { messages, breakpoints } = promptOf(used, blocks, conversation.messages);
    contexts.note(seq, used, blocks, messages);
    const shown = shownContext(used);
    this.run.telling.context(this.spec.key, shown, completed !== undefined);
    const { version, tokens, rawTokens, source } = shown;
    this.resolve({ messages, breakpoints, version, tokens, rawTokens, source });
    return [];
  }

  private known(): Pick<Asked, "artefact" | "compacted" | "windowFrom"> {
    const { artefact } = this.run.contexts;
    const windowFrom = this.run.contexts.windowFrom(artefact?.hash ?? NO_HASH);
    return { artefact, compacted: artefact !== undefined, windowFrom };
  }

  private async choose(asked: Asked, signal: AbortSignal): Promise<Chosen> {
    const { source } = this;
    let choice = source === undefined ? whole(asked) : await this.ask(source, asked, {}, signal);
    if (choice !== undefined) return { choice, waitedMs: 0, fallback: false };
    const from = performance.now();
    const atLeastSeq = this.compactable(asked);
    const { patience } = this.run.contexts;
    if (source !== undefined && atLeastSeq > 0 && patience.mayWait()) {
      const { waitMs } = this.settings;
      choice = await this.ask(source, asked, { waitMs, atLeastSeq }, signal);
      patience.waited(choice !== undefined);
    }
    const waitedMs = Math.round(performance.now() - from);
    if (choice !== undefined) return { choice, waitedMs, fallback: false };
    return { choice: window(asked), waitedMs, fallback: true };
  }

  /** Asks the engine, keeps what came in `asked`, and judges. */
  private async ask(
    source: ContextSource,
    asked: Asked,
    more: Pick<ContextAsk, "waitMs" | "atLeastSeq">,
    signal: AbortSignal,
  ): Promise<Choice | undefined> {
    const { sessionId } = this.run.settings.session;
    const known = this.run.contexts.own;
    const ask: ContextAsk = { sessionId, known, budget: asked.budget, ...more };
    const { artefact, hopeless } = await askFor(source, ask, signal);
    this.hopeless = hopeless;
    // What came later in other branches may be covered by now: this prompt ends before it (Q2).
    if (artefact === undefined || artefact.coversMessages > asked.messages.length) return whole(asked);
    const isNewer = artefact.coversMessages >= (asked.artefact?.coversMessages ?? 0);
    if (isNewer && artefact !== asked.artefact && !this.run.contexts.isRestated(artefact)) {
      asked.artefact = artefact;
      asked.windowFrom = this.run.contexts.windowFrom(artefact.hash);
    }
    return whole(asked);
  }
  private hopeless = false;

  private get source(): ContextSource | undefined {
    // What only the user can read, the compactor cannot fold.
    return this.run.settings.sealed ? undefined : this.run.settings.contexts;
  }

  /** Q3. The event that a compacted context has to cover for this prompt to fit; 0: there is no use in waiting for one. */
  private compactable({ messages, budget, meter, artefact }: Asked): number {
    const { conversation } = this.run;
    if (this.hopeless || this.settings.waitMs === 0) return 0;
    const end = closedEnd(messages, conversation.durableMessages);
    if (end <= (artefact?.coversMessages ?? 0)) return 0;
    const system = leadingSystem(messages);
    const left = meter.messages(messages.slice(0, system)) + meter.messages(messages.slice(Math.max(system, end)));
    return left < budget ? conversation.durableSince(end) : 0;
  }

  private document(asked: Asked, { choice, waitedMs, fallback }: Chosen): ContextUsed {
    const { messages, meter } = asked;
    const { contexts } = this.run;
    const { artefact } = choice;
    const used = create(ContextUsedSchema, {
      source: SOURCES[choice.source],
      budgetTokens: BigInt(asked.budget),
      tokens: BigInt(choice.tokens),
      rawTokens: BigInt(meter.messages(messages)),
      baseTokens: BigInt(meter.text(this.settings.base)),
      firstMessage: BigInt(choice.first),
      messages: BigInt(messages.length),
      cuts: choice.cuts.map((cut) => ({
        message: BigInt(cut.message),
        part: cut.part,
        headBytes: BigInt(cut.headBytes),
        tailBytes: BigInt(cut.tailBytes),
      })),
      waitedMs: BigInt(waitedMs),
      fallback,
    });
    if (artefact !== undefined) name(used, artefact, contexts.seqOf(artefact.hash));
    const prompt = promptOf(used, artefact?.blocks ?? [], messages);
    used.sharedTokens = BigInt(sharedTokens(contexts.lastMessages, prompt.messages, meter));
    if (fallback) this.warn(used);
    return used;
  }

  private warn(used: ContextUsed): void {
    const { contexts, settings } = this.run;
    if (contexts.warned) return;
    contexts.warned = true;
    const { sessionId } = settings.session;
    settings.log("warn", "no compacted context was ready that fits: the model gets the newest messages only", {
      sessionId,
      stepKey: this.spec.key,
      budget: this.settings.budget,
      rawTokens: Number(used.rawTokens),
      waitedMs: Number(used.waitedMs),
    });
  }
}

/** Names a compacted context in a document, and puts it there if the ledger does not have it yet (seq 0). */
function name(used: ContextUsed, artefact: Artefact, seq: number): void {
  used.version = artefact.version;
  used.hash = artefact.hash;
  used.coversMessages = BigInt(artefact.coversMessages);
  used.coversSeq = BigInt(artefact.coversSeq);
  used.artefactSeq = BigInt(seq);
  if (seq === 0) used.artefact = create(ContextDocumentSchema, { blocks: artefact.blocks.map(storedBlock) });
}

function storedBlock({ kind, text, tokens, breakpoint }: Block) {
  return { kind, text, tokens: BigInt(tokens), breakpoint };
}

function edited(key: string): MisuseError {
  return new MisuseError(
    "context_edited",
    `the outcome of "${key}" was edited in this fork, and is no context any more`,
    "edit what the agent was told before, or the model call after it",
  );
}
