/** Certificates as an operator has them from an authority: made with `openssl`, put into place as renewals are. */
import { execFileSync } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DAYS = "30";
const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const SETTINGS = `[req]
prompt = no
distinguished_name = name
[name]
CN = example
[authority]
basicConstraints = critical, CA:TRUE
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
extendedKeyUsage = clientAuth
`;

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** An authority whose files lie in a folder. */
export class Authority {
  private readonly settings: string;

  constructor(
    private readonly folder: string,
    private readonly name: string,
  ) {
    this.settings = join(folder, "openssl.cnf");
    writeFileSync(this.settings, SETTINGS);
    const files = ["-keyout", join(folder, `${name}.key`), "-out", this.file];
    openssl("req", "-x509", ...KEY, ...files, "-days", DAYS, "-config", this.settings, "-extensions", "authority");
  }

  /** Its certificate: what whoever trusts it is given. */
  get file(): string {
    return join(this.folder, `${this.name}.pem`);
  }

  /** Writes `<as>.pem` and `<as>.key` beside it: whole files, renamed into place. */
  issue(as: string, usage: "server" | "client"): { cert: string; key: string } {
    const [cert, key, request] = ["pem", "key", "csr"].map((end) => join(this.folder, `${as}.${end}`)) as Files;
    openssl("req", ...KEY, "-keyout", `${key}.new`, "-out", request, "-config", this.settings);
    const by = ["-CA", this.file, "-CAkey", join(this.folder, `${this.name}.key`), "-set_serial", String(Date.now())];
    const extensions = ["-extfile", this.settings, "-extensions", usage];
    openssl("x509", "-req", "-in", request, "-out", `${cert}.new`, "-days", DAYS, ...by, ...extensions);
    for (const file of [key, cert]) renameSync(`${file}.new`, file);
    return { cert, key };
  }
}

type Files = [cert: string, key: string, request: string];

/** Both authorities in one file: for the time in which certificates of either are met. */
export function bundle(file: string, ...authorities: readonly Authority[]): string {
  writeFileSync(file, authorities.map((one) => readFileSync(one.file, "utf8")).join(""));
  return file;
}
