/** Versions of installed npm packages, read from where Node finds them. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const MODULES = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "node_modules");

/** Folder of an installed package; undefined: it is not installed. */
export function packageFolder(name: string): string | undefined {
  const folder = join(MODULES, name);
  return existsSync(join(folder, "package.json")) ? folder : undefined;
}

/** Version of an installed package. */
export function packageVersion(name: string): string {
  const folder = packageFolder(name);
  if (folder === undefined) return "absent";
  return (
    JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      version: string;
    }
  ).version;
}
