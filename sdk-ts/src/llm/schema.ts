/**
 * Schemas of tools and outputs: what the provider is told and how values are checked.
 *
 * Owns: JSON Schema out of a schema library's schema, validation. Never: knows a schema library.
 */
import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import { MisuseError } from "../errors.js";
import type { JsonObject } from "./types.js";

/** A schema library's schema, or JSON Schema. */
export type AnySchema = StandardSchemaV1 | JsonObject;

/** The result of a validation. */
export type Checked<T> = { ok: true; value: T } | { ok: false; issues: string[] };

/** Returns the JSON Schema of what goes into a schema. */
export function jsonSchemaOf(schema: AnySchema, what: string): JsonObject {
  if (!isStandard(schema)) return schema;
  const { jsonSchema, vendor } = schema["~standard"] as Partial<StandardJSONSchemaV1.Props> & { vendor: string };
  if (jsonSchema === undefined) {
    throw new MisuseError(
      "no_json_schema",
      `the schema of ${what} is made with ${vendor}, which gives no JSON Schema`,
      "use a version of the library that implements Standard JSON Schema, or pass JSON Schema instead",
    );
  }
  const { $schema: _, ...rest } = jsonSchema.input({ target: "draft-2020-12" });
  return rest;
}

/**
 * Returns the JSON Schema an output is asked for with. A library's objects are closed: what they do not name they drop
 * anyway, and only closed ones can be enforced by providers.
 */
export function outputSchemaOf(schema: AnySchema): JsonObject {
  const json = jsonSchemaOf(schema, "the output");
  return isStandard(schema) ? (closed(json) as JsonObject) : json;
}

function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  return copy.type === "object" && "properties" in copy ? { additionalProperties: false, ...copy } : copy;
}

/** Checks a value; JSON Schema is the provider's business and checks nothing here. */
export async function check<T>(schema: AnySchema, value: unknown): Promise<Checked<T>> {
  if (!isStandard(schema)) return { ok: true, value: value as T };
  const result = await schema["~standard"].validate(value);
  if (result.issues === undefined) return { ok: true, value: result.value as T };
  return { ok: false, issues: result.issues.map(issueText) };
}

/**
 * Says whether a JSON Schema is of the strict kind that providers can enforce: every object lists all its properties
 * as required and allows no others.
 */
export function isStrict(schema: unknown): boolean {
  if (Array.isArray(schema)) return schema.every(isStrict);
  if (typeof schema !== "object" || schema === null) return true;
  const { properties, required, additionalProperties, ...rest } = schema as Record<string, unknown>;
  if (properties !== undefined || rest.type === "object") {
    const names = Object.keys((properties ?? {}) as object);
    const demanded = new Set(Array.isArray(required) ? required : []);
    if (additionalProperties !== false || !names.every((name) => demanded.has(name))) return false;
  }
  return [...Object.values((properties ?? {}) as object), ...Object.values(rest)].every(isStrict);
}

function isStandard(schema: AnySchema): schema is StandardSchemaV1 {
  return "~standard" in schema;
}

function issueText(issue: StandardSchemaV1.Issue): string {
  const path = (issue.path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".");
  return path === "" ? issue.message : `${path}: ${issue.message}`;
}
