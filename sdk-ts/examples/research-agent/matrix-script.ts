/** The model in the kill matrix: the same, but done in six turns. */
process.env.RESEARCH_TURNS = "6";
export const { default: script } = await import("./script.js");
export default script;
