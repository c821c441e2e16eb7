/**
 * A clone of the repository at one commit.
 *
 * Owns: a folder below the working folder, made when it is first needed, so that replaying a finished run clones
 * nothing. Never: gives its path away: what a step returns must mean the same on another machine.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NonRetryableError } from "@cellaflow/sdk";

/** How many files are looked into, and how much of each, in bytes. */
const SCANNED_FILES_MAX = 400;
const SCANNED_BYTES_MAX = 64 * 1024;
/** How many files the model gets to choose from. */
const LISTED_FILES_MAX = 25;
/** How much of a file the model gets to read. */
const READ_LINES_MAX = 200;
const READ_CHARS_MAX = 8_000;

const SOURCE = /\.(c|cc|cpp|cs|go|h|hpp|java|js|jsx|kt|mjs|php|proto|py|rb|rs|scala|sh|sql|swift|ts|tsx)$/;
const GENERATED = /(^|\/)(gen|generated|node_modules|vendor|dist)\//;
/** What often deserves a second look. */
const MARK = /\b(TODO|FIXME|HACK|XXX|unwrap\(\)|unsafe|eval\(|panic!|console\.log|catch \{\s*\}|any\b)/g;

/** A file the model may choose. */
export interface ScannedFile {
  path: string;
  lines: number;
  /** Places that often deserve a second look. */
  marks: number;
}

/** One replacement in one file. */
export interface Edit {
  file: string;
  find: string;
  replace: string;
}

/** Returns the commit that a repository's HEAD names now. */
export async function headOf(repository: string, step: { signal: AbortSignal }): Promise<string> {
  const answer = await git(["ls-remote", "--", repository, "HEAD"], { signal: step.signal });
  const commit = /^[0-9a-f]{40,64}/.exec(answer)?.[0];
  if (commit === undefined)
    throw new NonRetryableError(`the repository ${repository} has no HEAD`, { code: "no_head" });
  return commit;
}

/** A clone. */
export class Checkout implements AsyncDisposable {
  private cloned: Promise<string> | undefined;

  constructor(
    private readonly repository: string,
    private readonly commit: string,
  ) {}

  /** Lists source files, those with the most marks first. */
  async scan(): Promise<ScannedFile[]> {
    const paths = (await this.paths()).filter((path) => SOURCE.test(path) && !GENERATED.test(path));
    const files = await Promise.all(paths.slice(0, SCANNED_FILES_MAX).map((path) => this.look(path)));
    const worst = files.sort((a, b) => b.marks - a.marks || a.path.localeCompare(b.path, "en"));
    return worst.slice(0, LISTED_FILES_MAX);
  }

  /** Returns the beginning of a file. */
  async read(path: string): Promise<string> {
    const lines = (await this.text(path)).split("\n").slice(0, READ_LINES_MAX).join("\n");
    return lines.slice(0, READ_CHARS_MAX);
  }

  /** Makes a patch of an edit and leaves the clone as it was. `git apply --check` accepts the patch. */
  async patch(edit: Edit): Promise<string> {
    const text = await this.text(edit.file);
    const [before, ...after] = text.split(edit.find);
    if (edit.find === "" || before === undefined || after.length !== 1) {
      throw unfit(`"find" occurs ${edit.find === "" ? 0 : after.length} times in ${edit.file}, not once`);
    }
    const folder = await this.folder();
    const file = join(folder, edit.file);
    await writeFile(file, before + edit.replace + after.join(""));
    try {
      const patch = await git(["diff", "--no-color", "--no-ext-diff", "--", edit.file], { cwd: folder });
      if (patch === "") throw unfit("it changes nothing");
      await writeFile(file, text);
      await git(["apply", "--check", "-"], { cwd: folder, input: patch });
      return patch;
    } finally {
      await writeFile(file, text);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const folder = await this.cloned?.catch(() => undefined);
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }

  private folder(): Promise<string> {
    this.cloned ??= this.clone().catch((error: unknown) => {
      this.cloned = undefined;
      throw error;
    });
    return this.cloned;
  }

  private async clone(): Promise<string> {
    const folder = await mkdtemp(join(process.cwd(), "checkout-"));
    await git(["clone", "--quiet", "--no-checkout", "--", this.repository, folder], {});
    await git(["-c", "advice.detachedHead=false", "checkout", "--quiet", this.commit], { cwd: folder });
    return folder;
  }

  private async paths(): Promise<string[]> {
    const list = await git(["ls-files", "-z"], { cwd: await this.folder() });
    return list.split("\0").filter((path) => path !== "");
  }

  private async look(path: string): Promise<ScannedFile> {
    const text = (await this.text(path)).slice(0, SCANNED_BYTES_MAX);
    return { path, lines: text.split("\n").length, marks: text.match(MARK)?.length ?? 0 };
  }

  /** Only what git knows is read: a model's path may point anywhere. */
  private async text(path: string): Promise<string> {
    if (!(await this.known()).has(path)) throw unfit(`there is no file ${path}`);
    return readFile(join(await this.folder(), path), "utf8");
  }

  private tracked: Promise<Set<string>> | undefined;

  private known(): Promise<Set<string>> {
    this.tracked ??= this.paths().then((paths) => new Set(paths));
    return this.tracked;
  }
}

function unfit(problem: string): NonRetryableError {
  return new NonRetryableError(problem, { code: "unfit_edit" });
}

function git(args: string[], options: { cwd?: string; input?: string; signal?: AbortSignal }): Promise<string> {
  const { input, ...rest } = options;
  return new Promise((resolve, reject) => {
    const child = execFile("git", args, { ...rest, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      // The message must not hold the clone's path: it may end up in the ledger.
      if (error === null) resolve(stdout);
      else
        reject(new Error(`git ${args[0]} failed: ${stderr.trim().split("\n").at(-1)?.replaceAll(process.cwd(), ".")}`));
    });
    if (input !== undefined) child.stdin?.end(input);
  });
}
