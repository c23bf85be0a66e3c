// The colours of programs, by the library that VS Code itself uses; YAML's own grammar is a small stand-in.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";

const require = createRequire(import.meta.url);
const oniguruma = require("vscode-oniguruma");
const textmate = require("vscode-textmate");

const YAML = {
  scopeName: "source.yaml",
  patterns: [
    { match: "#.*$", name: "comment.line.yaml" },
    { begin: '"', end: '"', name: "string.quoted.double.yaml", patterns: [{ match: "\\\\.", name: "constant.character.escape.yaml" }] },
    { match: "^\\s*[\\w-]+(?=:)", name: "entity.name.tag.yaml" },
    { match: "[^\\s\"#{}:,\\[\\]$][^\"#{}:,\\[\\]$]*", name: "string.unquoted.yaml" },
  ],
};

const url = new URL("../syntaxes/lmprog.injection.json", import.meta.url);
const injected = textmate.parseRawGrammar(await readFile(url, "utf8"), "lmprog.injection.json");
await oniguruma.loadWASM(await readFile(require.resolve("vscode-oniguruma/release/onig.wasm")));
const registry = new textmate.Registry({
  onigLib: Promise.resolve({
    createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
    createOnigString: (text) => new oniguruma.OnigString(text),
  }),
  loadGrammar: async (scope) => (scope === "source.yaml" ? YAML : scope === injected.scopeName ? injected : null),
  getInjections: (scope) => (scope === "source.yaml" ? [injected.scopeName] : []),
});
const grammar = await registry.loadGrammar("source.yaml");

/** Return the last scope of each token of some lines, by the token's text. */
function scopes(...lines) {
  const found = {};
  let state = textmate.INITIAL;
  for (const line of lines) {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, state);
    state = ruleStack;
    for (const token of tokens) {
      found[line.slice(token.startIndex, token.endIndex).trim()] = token.scopes.at(-1);
    }
  }
  return found;
}

test("an expression has roots, fields and functions", () => {
  const found = scopes("label: ${{ default(steps.ask.label, 'none') }}");
  assert.equal(found["${{"], "punctuation.section.embedded.begin.lmprog");
  assert.equal(found["steps"], "variable.language.root.lmprog");
  assert.equal(found["label"], "variable.other.property.lmprog");
  assert.equal(found["default"], "support.function.lmprog");
  assert.equal(found["'none'"], "string.quoted.lmprog");
  assert.equal(found["}}"], "punctuation.section.embedded.end.lmprog");
});

test("an expression within quotes is one too", () => {
  const found = scopes('with: {text: "${{ inputs.text + 1 }}"} # ${{ not.here }}');
  assert.equal(found["inputs"], "variable.language.root.lmprog");
  assert.equal(found["1"], "constant.numeric.lmprog");
  assert.match(found["# ${{ not.here }}"], /comment/);
});

test("a template has holes, filters and statements over lines", () => {
  const found = scopes("  user: |", "    {% for part in parts %}", "    Say {{ part | upper }} {# no", "    word #}", "    {% endfor %}");
  assert.equal(found["for"], "keyword.control.jinja.lmprog");
  assert.equal(found["in"], "keyword.operator.logical.lmprog");
  assert.equal(found["parts"], "variable.other.readwrite.lmprog");
  assert.equal(found["upper"], "support.function.filter.lmprog");
  assert.equal(found["word"], "comment.block.jinja.lmprog");
  assert.equal(found["endfor"], "keyword.control.jinja.lmprog");
});

test("the braces of YAML are left alone", () => {
  const found = scopes("inputs: {text: str, more: {a: b}}");
  assert.ok(Object.values(found).every((scope) => !scope.includes("lmprog")));
});
