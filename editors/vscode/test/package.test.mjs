// The JSON of the package: what VS Code reads of it is there, and names files that exist.
import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";

const Ajv = createRequire(import.meta.url)("ajv").default;
const root = new URL("../", import.meta.url);
const read = async (name) => JSON.parse(await readFile(new URL(name, root), "utf8"));
const text = { type: "string", minLength: 1 };
const closed = (properties, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

const SETTING = closed(
  {
    type: { enum: ["string", "array", "boolean"] },
    default: {},
    scope: { enum: ["application", "machine", "machine-overridable", "window", "resource"] },
    items: { type: "object" },
    enum: { type: "array", items: text },
    description: text,
    markdownDescription: text,
  },
  ["type", "default", "scope"],
);
const PACKAGE = {
  type: "object",
  properties: {
    name: { type: "string", pattern: "^[a-z0-9-]+$" },
    version: { type: "string", pattern: "^\\d+\\.\\d+\\.\\d+$" },
    publisher: text,
    engines: { type: "object", properties: { vscode: { type: "string", pattern: "^\\^\\d+\\.\\d+\\.\\d+$" } }, required: ["vscode"] },
    main: text,
    activationEvents: { type: "array", items: { type: "string", pattern: "^onLanguage:" }, minItems: 1 },
    contributes: closed({
      configuration: closed({ title: text, properties: { type: "object", additionalProperties: SETTING } }),
      commands: { type: "array", items: closed({ command: text, title: text, category: text }) },
      grammars: {
        type: "array",
        items: closed({
          scopeName: text,
          path: text,
          injectTo: { type: "array", items: text },
          embeddedLanguages: { type: "object", additionalProperties: text },
        }),
      },
    }),
  },
  required: ["name", "version", "publisher", "engines", "main", "activationEvents", "contributes"],
};
const RULE = {
  type: "object",
  properties: {
    ...Object.fromEntries(["match", "begin", "end", "name", "include"].map((key) => [key, text])),
    patterns: { type: "array", items: { $ref: "#/$defs/rule" } },
    ...Object.fromEntries(
      ["captures", "beginCaptures", "endCaptures"].map((key) => [key, { type: "object", additionalProperties: closed({ name: text }) }]),
    ),
  },
  additionalProperties: false,
  dependentRequired: { begin: ["end"], end: ["begin"] },
};
const GRAMMAR = {
  $defs: { rule: RULE },
  ...closed({
    scopeName: text,
    injectionSelector: text,
    patterns: RULE.properties.patterns,
    repository: { type: "object", additionalProperties: { $ref: "#/$defs/rule" } },
  }),
};

function fits(schema, value) {
  const ajv = new Ajv({ strict: false, allErrors: true });
  assert.ok(ajv.validate(schema, value), JSON.stringify(ajv.errors, null, 2));
}

test("package.json is as VS Code reads it", async () => {
  const found = await read("package.json");
  fits(PACKAGE, found);
  for (const grammar of found.contributes.grammars) {
    await access(new URL(grammar.path, root));
  }
  const source = await readFile(new URL("src/extension.js", root), "utf8");
  for (const { command } of found.contributes.commands) {
    assert.ok(source.includes(`"${command}"`), `no code registers ${command}`);
  }
  for (const setting of ["command", "arguments"]) {
    assert.ok(source.includes(`get("${setting}")`) && `lmprog.${setting}` in found.contributes.configuration.properties);
  }
});

test("the grammar is one of TextMate, and all that it includes is there", async () => {
  const grammar = await read("syntaxes/lmprog.injection.json");
  fits(GRAMMAR, grammar);
  for (const [, name] of JSON.stringify(grammar).matchAll(/"include":"#([^"]+)"/g)) {
    assert.ok(name in grammar.repository, name);
  }
});
