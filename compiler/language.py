"""The shapes of the whole language, key by key, with what editors and docs/reference/ show of each.

Each key has its meaning (`about`), its value where it is left out (`default`) and an example, which
`tests/unit/compiler/schema/test_keys.py` puts into a program and checks.
"""

from __future__ import annotations

from dataclasses import replace

from lmprog.compiler.lm_shape import ADAPTER, LM
from lmprog.compiler.optimizing.language import ARGUMENTS, DATA, EXPORT, METRIC, OPTIMIZE, TESTS
from lmprog.compiler.shape import (
    Anything,
    Choice,
    Either,
    ListOf,
    MapOf,
    Number,
    Record,
    Text,
)
from lmprog.compiler.steps.language import STEPS
from lmprog.compiler.tools.language import TOOL
from lmprog.compiler.types.shapes import TYPED

VERSION = 1

PROMPT = Record(
    {
        "system": Text(
            about="Jinja template of the system message.",
            default="no system message",
            example='"{{ instructions }}"',
        ),
        "user": Text(
            about="Jinja template of the user's turn, for demos and for the current row.",
            example='"Message: {{ text }}"',
        ),
        "assistant": Text(
            about="Jinja template of the reply in a demo; it sees the outputs.",
            default="the outputs as `format` would have them written",
            example='"{{ label }}"',
        ),
    },
    required=("user",),
    about="The fixed layout: Jinja templates of `system`, `user` and `assistant`.",
    default="the standard layout",
    example='{system: "{{ instructions }}", user: "Message: {{ text }}"}',
)

DEMOS = ListOf(MapOf(Anything(), "field"))
MODULE = Record(
    {
        "lm": Text(about="The id of its LM.", default="the program's only LM", example="student"),
        "inputs": replace(TYPED, about="Its inputs: names with their types.", example="{text: str}"),
        "outputs": replace(
            TYPED, about="Its outputs: names with their types.", example="{label: {enum: [refund, delivery, other]}}"
        ),
        "instructions": Text(
            about="Plain text, the only words that an optimizer may write.",
            default="none",
            example="Say what the customer's message is about.",
        ),
        "prompt": PROMPT,
        "demos": Either(
            sequence=DEMOS,
            mapping=Record(
                {
                    "nearest": Number(whole=True, least=1, about="How many of them a call is shown.", example="4"),
                    "of": replace(
                        DEMOS,
                        about="The rows that they are taken from.",
                        example="[{text: The parcel is late, label: delivery}, {text: I want my money back, label: refund}]",
                    ),
                },
                required=("nearest", "of"),
                about="Rows of which a call is shown those nearest to its inputs, by BM25.",
            ),
            about="Example rows with inputs and outputs, and `tool_calls` of an agent: all of them, or {nearest, of}, those "
            "nearest to the inputs.",
            default="none",
            example="[{text: The parcel is late, label: delivery}]",
        ),
        "format": Choice(
            ("text", "fields", "json"),
            about="How outputs are read from the reply: its whole text, named sections, or one JSON object.",
            default="text for one output, else fields",
            example="json",
        ),
        "decoding": Choice(
            ("free", "constrained"),
            about="constrained: a model in this process can write values of the type alone.",
            default="free",
            example="constrained",
        ),
        "tools": ListOf(
            Text(), about="Tools that the LM may call: the module is an agent.", default="none", example="[find]"
        ),
        "max_turns": Number(
            whole=True, least=1, about="Most turns of an agent.", default="8 with tools, else 1", example="4"
        ),
        "retry": Number(
            whole=True,
            least=0,
            about="How often an unreadable reply is asked again.",
            default="0",
            example="1",
        ),
        "adapter": replace(ADAPTER, default="that of its LM"),
    },
    required=("inputs", "outputs"),
)

ENSEMBLE = Record(
    {
        "members": ListOf(
            MapOf(
                Record({key: MODULE.keys[key] for key in ("instructions", "prompt", "demos")}),
                "module",
            ),
            2,
            about="The programs, each by the modules in which it differs from this one; {} is this one.",
            example="[{}, {classify: {instructions: Name the topic.}}]",
        ),
        "vote": Text(about="The output whose most common value wins; of several the first member's.", example="label"),
        "judge": Text(about="The LM that picks the best answer.", example="student"),
    },
    required=("members",),
    one_of=("vote", "judge"),
    about="One program of several with other words, that answers as most of them do, or as a judge finds best.",
    default="none",
    example="{vote: label, members: [{}, {classify: {instructions: Name the topic.}}]}",
)

_LM = "{student: {model: embedded/smollm2-135m}}"
_MODULE = "{classify: {inputs: {text: str}, outputs: {label: str}}}"
PROGRAM = Record(
    {
        "lmprog": Number(whole=True, about="The version of the language: 1. It is the first key.", example="1"),
        "name": Text(
            r"^[^/\\\s]+$",
            "a word without spaces or slashes",
            about="The program's name: a word.",
            default="the name of the file",
            example="triage",
        ),
        "description": Text(
            about="What the program does.", default="none", example="Says what a customer's message is about."
        ),
        "extends": Text(
            about="A base program; this file holds only what differs.", default="none", example="./base.yaml"
        ),
        "inputs": replace(
            TYPED,
            about="The program's inputs: names with their types.",
            default="those of its only module",
            example="{text: str}",
        ),
        "outputs": replace(
            ARGUMENTS,
            about="The program's outputs: names with ${{ expressions }}.",
            default="those of its only module",
            example='{label: "${{ steps.classify.label }}"}',
        ),
        "vars": MapOf(
            Anything(),
            "var",
            about="Constants; {file: labels.txt} is the list of the file's lines.",
            default="none",
            example="{hops: 4, labels: {file: labels.txt}}",
        ),
        "lms": MapOf(LM, "LM", about="The language models, by id.", default="none", example=_LM),
        "tools": MapOf(
            TOOL,
            "tool",
            about="The tools, by id.",
            default="none",
            example='{find: {python: "./shop/tools.py:find"}}',
        ),
        "modules": MapOf(MODULE, "module", about="The prompts, by id.", default="none", example=_MODULE),
        "steps": replace(
            STEPS,
            about="The call sites, by id; references between steps make the edges of the graph.",
            default="one step, which calls the only module",
            example='{classify: {module: classify, with: {text: "${{ inputs.text }}"}}}',
        ),
        "data": replace(
            DATA,
            about="Rows to learn from, to choose by and to test on.",
            default="none",
            example="{train: train.jsonl, dev: dev.jsonl}",
        ),
        "metrics": MapOf(
            METRIC,
            "metric",
            about="The metrics, by id.",
            default="none",
            example='{right: {python: "./metrics.py:same", with: {found: "${{ outputs.label }}", wanted: "${{ row.label }}"}}}',
        ),
        "ensemble": ENSEMBLE,
        "optimize": replace(
            OPTIMIZE,
            about="What is to become better, by which stages.",
            default="the program cannot be optimized",
            example="{metric: right, stages: [prompt_search]}",
        ),
        "tests": TESTS,
        "export": EXPORT,
        "tuned": MapOf(
            Anything(),
            "entry",
            free=True,
            about="In an overlay, where it came from: run, seed, stages, digests and scores. `lmprog optimize` writes it.",
            default="none",
            example="{run: triage-2026-01-31, seed: 0}",
        ),
    },
)
