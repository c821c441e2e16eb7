/**
 * The model of this example: it works through the code base as a model would, and answers in turn `RESEARCH_TURNS` (200).
 *
 * Which turn it is says the call's name, not the conversation: a compacted one does not show all of it. From the prompt it
 * takes what only a prompt can tell: handles to read something back, and the word that the user wants in the report.
 */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";
import { pathOf } from "./library.js";

const TURNS = Number(process.env.RESEARCH_TURNS ?? 200);
const THOUGHT =
  "What I read so far says that a lease is renewed before its epoch is over, and that nothing is begun while that is in doubt. ";

export default function script(request: ScriptedRequest): ScriptedReply {
  const turn = Number(/#(\d+)$/.exec(request.call)?.[1] ?? 1);
  const prompt = JSON.stringify(request.messages);
  if (turn >= TURNS) return { content: report(prompt) };
  return { content: THOUGHT.repeat(1 + (turn % 3)), toolCalls: [{ id: `call-${turn}`, ...callOf(turn, prompt) }] };
}

function callOf(turn: number, prompt: string): { name: string; arguments: Record<string, unknown> } {
  const handle = /§\d+/.exec(prompt)?.[0];
  // Now and then something that was left out is wanted after all.
  if (handle !== undefined && turn % 40 === 37) return { name: "ccs_fetch", arguments: { handle } };
  if (handle !== undefined && turn % 40 === 17) return { name: "ccs_search", arguments: { query: "renew lease" } };
  switch (turn % 10) {
    case 1:
      return { name: "search_sources", arguments: { word: ["lease", "epoch", "frame", "quota"][(turn / 10) & 3] } };
    case 4: {
      const text = `## Section ${turn}\n\n${THOUGHT.repeat(14)}`;
      return { name: "write_section", arguments: { name: `part-${Math.floor(turn / 30)}`, text } };
    }
    case 5:
    case 9:
      return { name: "run_check", arguments: { name: "leases", round: Math.floor(turn / 20) } };
    default:
      return { name: "read_source", arguments: { path: pathOf((turn * 7) % 25) } };
  }
}

/** Signed with the word that the user asked for in the first message. */
function report(prompt: string): string {
  const word = /sign it with the word (\w+)/.exec(prompt)?.[1] ?? "(nobody told me how to sign)";
  return `Leases are renewed in time; see the sections. Signed: ${word}`;
}
