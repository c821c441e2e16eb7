/**
 * Shows how far the matrix is: a bar where it can be redrawn, a line now and then elsewhere.
 */
import type { Screen } from "#sdk/harness/screen.js";

/** Lines of log for one kind of run, problems apart. */
const LINES_MAX = 20;
const BAR_CHARS = 40;

/** The progress of one kind of run at a time. */
export class Progress {
  private what = "";
  private total = 0;
  private finished = 0;
  private problems = 0;
  private startedMs = Date.now();
  private readonly now = new Set<string>();

  constructor(private readonly screen: Screen) {}

  begin(what: string, total: number): void {
    this.what = what;
    this.total = total;
    this.finished = 0;
    this.problems = 0;
    this.startedMs = Date.now();
    this.screen.live((width) => this.draw(width));
  }

  started(name: string): void {
    this.now.add(name);
  }

  done(name: string, problem: string): void {
    this.now.delete(name);
    this.finished += 1;
    if (problem !== "") {
      this.problems += 1;
      this.screen.say(`${name}: ${problem}`);
    }
    const every = Math.max(1, Math.ceil(this.total / LINES_MAX));
    if (!this.screen.redraws && (this.finished % every === 0 || this.finished === this.total))
      this.screen.say(this.line());
  }

  end(): void {
    if (this.screen.redraws) this.screen.say(this.line());
    this.screen.live(undefined);
  }

  /** The bar and what runs now. */
  draw(width: number): string[] {
    const filled = this.total === 0 ? 0 : Math.round((this.finished / this.total) * BAR_CHARS);
    const bar = `[${"#".repeat(filled)}${".".repeat(BAR_CHARS - filled)}] ${this.line()}`;
    return [bar, ...[...this.now].map((name) => `  ${name}`)].map((text) => text.slice(0, width));
  }

  private line(): string {
    const seconds = (Date.now() - this.startedMs) / 1_000;
    const left =
      this.finished === 0 ? "" : `, ${Math.round((seconds / this.finished) * (this.total - this.finished))} s left`;
    const problems = this.problems === 0 ? "" : `, ${this.problems} with a problem`;
    return `${this.finished}/${this.total} ${this.what} runs in ${seconds.toFixed(0)} s${this.finished < this.total ? left : ""}${problems}`;
  }
}
