/**
 * Shows a long run of ours to a person: a table that is drawn over itself in a terminal, plain lines elsewhere.
 *
 * Owns: standard output. Invariant: with `--json` nothing but the last line is written to it.
 */

/** Where the demo writes. */
export interface Output {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** How often a terminal is redrawn, in ms. */
const REDRAW_MS = 200;

/** Prints lines, and below them the table where it can be redrawn. */
export class Screen {
  private drawn = 0;
  private timer: NodeJS.Timeout | undefined;
  private draw: ((width: number) => string[]) | undefined;

  /**
   * @param quiet with it only {@link last} writes
   * @param name what every line starts with
   */
  constructor(
    private readonly output: Output,
    private quiet: boolean,
    private readonly name = "demo",
  ) {}

  /** Prints a line that stays. */
  say(line: string): void {
    if (this.quiet) return;
    this.erase();
    this.output.write(`${this.name}: ${line}\n`);
    this.redraw();
  }

  /** Whether something can be kept below the lines and drawn over. */
  get redraws(): boolean {
    return !this.quiet && this.output.isTTY === true;
  }

  /** Keeps this table below the lines, where the output is a terminal; undefined: nothing any more. */
  live(draw: ((width: number) => string[]) | undefined): void {
    if (!this.redraws) return;
    if (draw === undefined) this.erase();
    this.draw = draw;
    this.timer ??= setInterval(() => {
      this.erase();
      this.redraw();
    }, REDRAW_MS).unref();
  }

  /** Prints nothing any more: somebody asked to stop. */
  hush(): void {
    clearInterval(this.timer);
    this.quiet = true;
    this.draw = undefined;
  }

  /** Stops redrawing and prints the table a last time, as lines that stay. */
  settle(lines: readonly string[]): void {
    clearInterval(this.timer);
    this.erase();
    this.draw = undefined;
    if (this.quiet) return;
    this.output.write(`\n${lines.join("\n")}\n\n`);
  }

  /** Prints the machine's line. */
  last(line: string): void {
    clearInterval(this.timer);
    this.erase();
    this.draw = undefined;
    this.output.write(`${line}\n`);
  }

  private erase(): void {
    if (this.drawn === 0) return;
    this.output.write(`\u001b[${this.drawn}A\u001b[0J`);
    this.drawn = 0;
  }

  private redraw(): void {
    if (this.draw === undefined) return;
    const lines = this.draw(Math.max(40, (this.output.columns || 100) - 1));
    this.output.write(`${lines.join("\n")}\n`);
    this.drawn = lines.length;
  }
}
