/**
 * The page's script, without the page: reads the stream, keeps what is to be shown, sends messages.
 *
 * Invariant: what is shown is a function of the stream alone, so reloading, losing the connection and sending twice
 * cannot make it differ from what was recorded.
 */

/** One line of the chat. */
export interface Line {
  from: "user" | "assistant";
  /** Zone that streams it; empty: a message. */
  zone: string;
  text: string;
  /** False while it may still be taken back. */
  final: boolean;
}

/** What is kept over a reload. */
interface Kept {
  offset: string;
  lines: Line[];
}

interface Frame {
  type: string;
  lastEventId: string;
  data: string;
}

/** What the browser gives. */
export interface Browser {
  EventSource: new (
    url: string,
  ) => { addEventListener(type: string, listener: (frame: Frame) => void): void; close(): void };
  fetch(url: string, init: { method: string; body: string }): Promise<{ ok: boolean; status: number }>;
  storage: { getItem(name: string): string | null; setItem(name: string, value: string): void };
  show(lines: readonly Line[]): void;
}

interface Item {
  type: string;
  zoneKey?: string;
  text?: string;
  event?: { kind: string; name?: string; stepKey?: string; value?: unknown };
}

const KEPT = "chat";
const TYPES = ["event", "tokens", "reset", "end"];

export class ChatPage {
  readonly lines: Line[];
  private offset: string;
  private readonly source;

  constructor(
    private readonly browser: Browser,
    private readonly site = "",
  ) {
    const kept = browser.storage.getItem(KEPT);
    const { offset, lines }: Kept = kept === null ? { offset: "", lines: [] } : JSON.parse(kept);
    this.offset = offset;
    this.lines = lines;
    this.source = new browser.EventSource(`${site}/stream?lastEventId=${encodeURIComponent(offset)}`);
    for (const type of TYPES) this.source.addEventListener(type, (frame) => this.take(frame));
    browser.show(lines);
  }

  /** Sends a message; `id` makes sending it again harmless. */
  async send(text: string, id: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        const body = JSON.stringify({ id, text });
        const { ok, status } = await this.browser.fetch(`${this.site}/messages`, { method: "POST", body });
        if (ok) return;
        if (status !== 503 || tries >= 100) throw new Error(`the message was refused (${status})`);
      } catch (error) {
        // A lost answer says nothing of the message: the same again.
        if (tries >= 100 || !(error instanceof TypeError)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Keeps what is shown for the next load. */
  leave(): void {
    this.source.close();
    this.browser.storage.setItem(KEPT, JSON.stringify({ offset: this.offset, lines: this.lines } satisfies Kept));
  }

  private take(frame: Frame): void {
    this.offset = frame.lastEventId;
    const item = JSON.parse(frame.data) as Item;
    const { zoneKey = "", event } = item;
    if (item.type === "tokens") this.line(zoneKey).text += item.text;
    else if (item.type === "reset") this.line(zoneKey).text = "";
    else if (item.type === "end") this.source.close();
    else if (event?.kind === "zoneCommitted") this.line(event.stepKey ?? "").final = true;
    else if (event?.kind === "signalReceived" && event.name === "message") {
      this.lines.push({ from: "user", zone: "", text: String(event.value), final: true });
    }
    this.browser.show(this.lines);
  }

  private line(zone: string): Line {
    const known = this.lines.find((line) => line.zone === zone);
    if (known !== undefined) return known;
    const line: Line = { from: "assistant", zone, text: "", final: false };
    this.lines.push(line);
    return line;
  }
}
