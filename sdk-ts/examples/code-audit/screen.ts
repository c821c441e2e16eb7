/**
 * What the agent shows: one line per outcome as it is delivered, or JSON lines for programs.
 *
 * A line says whether the outcome was journaled now or replayed from the ledger, what it cost, and the token bill so
 * far. A replayed outcome costs nothing again: the bill counts what was paid, once.
 */
import type { DeliveredStep, FinishedReplay, RunObserver, SessionResult } from "@cellaflow/sdk";

const WIDTHS = [34, 10, 9, 8, 11, 22] as const;
const HEAD = ["step", "journaled", "replayed", "tokens", "cost", "bill so far"];

let onText: (text: string) => void = () => undefined;

/** Shows a piece of an answer that is being streamed. */
export function show(text: string): void {
  onText(text);
}

/** Draws one run. */
export class Screen implements RunObserver {
  private tokens = 0;
  private costNanos = 0;
  private column = 0;

  constructor(private readonly json: boolean) {
    if (json) return;
    this.row(HEAD);
    if (process.stdout.isTTY) onText = (text) => this.text(text);
  }

  stepDelivered(step: DeliveredStep): void {
    const tokens = step.usage.reduce((sum, one) => sum + one.inputTokens + one.cachedReadTokens + one.outputTokens, 0);
    const cost = step.usage.reduce((sum, one) => sum + (one.costNanos ?? 0), 0);
    this.tokens += tokens;
    this.costNanos += cost;
    if (this.json)
      return this.line({ step: step.stepKey, seq: step.seq, replayed: step.replayed, tokens, costNanos: cost });
    this.row([
      step.stepKey,
      step.replayed ? "" : "yes",
      step.replayed ? "yes" : "",
      tokens === 0 ? "-" : String(tokens),
      tokens === 0 ? "-" : dollars(cost),
      `${this.tokens} tokens ${dollars(this.costNanos)}`,
    ]);
  }

  replayFinished({ outcomes, replayMs }: FinishedReplay): void {
    if (this.json) this.line({ replayed: outcomes, replayMs });
    else if (outcomes > 0) this.say(`replayed ${outcomes} outcomes in ${replayMs.toFixed(1)} ms, without running them`);
  }

  /** Says how the run ended. */
  result(result: SessionResult): void {
    const shown = result.status === "failed" ? { ...result, failure: result.failure.toFailure() } : result;
    if (this.json) this.line({ result: shown });
    else this.say(`\n${JSON.stringify(shown, null, 2)}`);
  }

  /** Says a sentence. */
  say(text: string): void {
    if (!this.json) this.write(`${this.column > 0 ? "\n" : ""}${text}\n`);
  }

  private row(cells: readonly string[]): void {
    const padded = cells.map((cell, at) => (at === 0 ? cell.padEnd(WIDTHS[at] ?? 0) : cell.padStart(WIDTHS[at] ?? 0)));
    this.say(padded.join(" "));
  }

  private text(text: string): void {
    this.write(`\u001b[2m${text}\u001b[0m`);
    this.column = text.endsWith("\n") ? 0 : 1;
  }

  private line(value: object): void {
    this.write(`${JSON.stringify(value)}\n`);
  }

  private write(text: string): void {
    process.stdout.write(text);
    this.column = 0;
  }
}

function dollars(nanos: number): string {
  return `$${(nanos / 1e9).toFixed(6)}`;
}
