"""The shapes of the whole language, key by key, with the sentences that an editor shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from lmprog.compiler.optimizing.language import ARGUMENTS, DATA, EXPORT, METRIC, OPTIMIZE, TESTS, VALUE
from lmprog.compiler.shape import (
    Anything,
    Boolean,
    Choice,
    Either,
    Expr,
    Lazy,
    ListOf,
    MapOf,
    Number,
    Record,
    Shape,
    Text,
)
from lmprog.compiler.tools.kinds import BUILT_IN, OTHERS
from lmprog.compiler.types.shapes import TYPE, TYPED

VERSION = 1

ADAPTER = Either(
    scalar=Text(),
    mapping=Record(
        {
            "path": Text(about="A folder, or hf://repo@commit."),
            "sha256": Text(about="Digest of the adapter's weights."),
            "base": Text(about="The base model it was trained on."),
            "base_sha256": Text(about="Digest of the base model's weights."),
        },
        required=("path",),
    ),
    about="The LoRA adapter: a path, or {path, sha256, base, base_sha256}.",
)

LM = Record(
    {
        "model": Text(about="embedded/smollm2-135m, hf/<repo or folder>, or any litellm model string."),
        "params": MapOf(
            Anything(), "parameter", free=True, about="temperature, max_tokens, top_p, ... for running and scoring."
        ),
        "trusted": Boolean(about="Whether private values may reach it; models in this process are, others are not."),
        "api_key": Anything(about="${{ env.NAME }}: a key is never written into the file."),
        "api_base": Anything(about="The server's address, or ${{ env.NAME }}."),
        "adapter": ADAPTER,
        "weights": Text(
            about="What a server of vLLM (hosted_vllm/...) serves, as hf/<repo or folder>: it is trained here, sampled there."
        ),
        "context": Number(whole=True, least=1, about="Context window in tokens."),
        "price": Record(
            {
                "input": Number(least=0, about="US dollars for a million prompt tokens."),
                "output": Number(least=0, about="US dollars for a million completion tokens."),
                "cached": Number(
                    least=0,
                    about="US dollars for a million prompt tokens that the provider had kept; as input if left out.",
                ),
            },
            about="Prices in US dollars for a million tokens.",
        ),
        "speed": Record(
            {
                "input": Number(least=0, about="Prompt tokens that it reads in a second."),
                "output": Number(least=0, about="Tokens that it writes in a second, all replies together."),
            },
            required=("input", "output"),
            about="How fast a model is in this process, for the time that `optimize --dry-run` estimates.",
        ),
        "headers": MapOf(
            Anything(), "header", free=True, about="Sent with each request; ${{ env.NAME }} for a secret."
        ),
        "limits": Record(
            {
                "concurrency": Number(whole=True, least=1, about="Calls in flight."),
                "requests_per_minute": Number(least=1),
                "tokens_per_minute": Number(least=1, about="Of prompts and replies together."),
                "timeout": Number(above=0, about="Seconds of one try.", default="120"),
                "tries": Number(whole=True, least=1, about="Tries of one call.", default="8"),
                "reply_mb": Number(
                    least=0, about="The longest body of a reply that is read, in millions of bytes; 32."
                ),
            },
            about="How hard an LM behind an API is pressed, and how patiently it is asked.",
        ),
        "tool_protocol": Choice(
            ("native", "text"), about="How agents call tools: as the API has it (the default there), or in words."
        ),
        "cache": Either(
            scalar=Boolean(),
            mapping=Record(
                {
                    "shared": Boolean(about="Whether others can read what is cached."),
                    "folder": Text(about="Where it is kept, beside this file; else in the user's own cache."),
                }
            ),
            about="Whether answers are kept; {shared: true, folder: ...} is a sink of private data.",
        ),
    },
    required=("model",),
)

TOOL = Record(
    {
        **{kind.key: kind.shape for kind in BUILT_IN.values()},
        "result": Text(about="The name of the tool's output.", default="result"),
        "about": Text(about="What it does, as an agent is told; else its docstring or description."),
        "trusted": Boolean(about="Whether private values may reach it."),
        "effects": Choice(
            ("read", "write"),
            about="write: it changes something outside.",
            default="write for HTTP methods other than GET and HEAD, and for MCP tools not marked readOnlyHint; else read",
        ),
        "timeout": Number(above=0, about="Seconds of one call.", default="120"),
        "answer_mb": Number(
            above=0, about="The longest answer that is read, decoded, in millions of bytes.", default="16"
        ),
        "cache": Boolean(about="Whether equal calls are answered from memory, where it only reads.", default="false"),
    },
    one_of=tuple(BUILT_IN),
    only={"answer_mb": tuple(kind.key for kind in BUILT_IN.values() if kind.remote)},
    others=OTHERS,
)

PROMPT = Record(
    {
        "system": Text(about="Jinja template of the system message."),
        "user": Text(about="Jinja template of the user's turn, for demos and for the current row."),
        "assistant": Text(about="Jinja template of the reply in a demo; it sees the outputs."),
    },
    required=("user",),
    about="The fixed layout; leave it out for the standard one.",
)

DEMOS = ListOf(MapOf(Anything(), "field"), about="Example rows: inputs and outputs.")
MODULE = Record(
    {
        "lm": Text(about="The id of its LM."),
        "inputs": TYPED,
        "outputs": TYPED,
        "instructions": Text(about="Plain text, the only words that an optimizer may write."),
        "prompt": PROMPT,
        "demos": Either(
            sequence=DEMOS,
            mapping=Record(
                {
                    "nearest": Number(whole=True, least=1, about="How many of them a call is shown."),
                    "of": DEMOS,
                },
                required=("nearest", "of"),
                about="Rows of which a call is shown those nearest to its inputs, by BM25.",
            ),
            about="Example rows: inputs and outputs.",
        ),
        "format": Choice(
            ("text", "fields", "json"),
            about="How outputs are read from the reply.",
            default="text for one output, else fields",
        ),
        "decoding": Choice(("free", "constrained"), about="constrained: the type is guaranteed.", default="free"),
        "tools": ListOf(Text(), about="Tools that the LM may call."),
        "max_turns": Number(whole=True, least=1, about="Most turns of an agent.", default="8 with tools, else 1"),
        "retry": Number(whole=True, least=0, about="How often an unreadable reply is asked again.", default="0"),
        "adapter": ADAPTER,
    },
    required=("inputs", "outputs"),
)

_CALLS = ("module", "tool", "program")
STEPS = Lazy(lambda: _STEPS, "steps")
STEP = Record(
    {
        "module": Text(about="Call a module."),
        "tool": Text(about="Call a tool."),
        "program": Text(about="Run another program file."),
        "value": Anything(about="One expression; read as steps.<id>.value."),
        "repeat": Either(
            scalar=Expr(),
            mapping=Record({"until": Expr(about="Stops after a turn when true."), "at_most": Expr(about="The bound.")}),
            about="A bounded loop: N, or {until, at_most}.",
        ),
        "with": ARGUMENTS,
        "lms": MapOf(Text(), "model", about="Rebinds the models of a sub-program: its id -> an id of this one."),
        "foreach": Expr(about="${{ list }}: one call for each item."),
        "at_most": Number(whole=True, least=1, about="Most items of foreach."),
        "max_parallel": Number(whole=True, least=1, about="Most calls of foreach at the same time."),
        "state": MapOf(
            Record({"type": TYPE, "start": VALUE, "about": Text()}, required=("type", "start")),
            "state variable",
        ),
        "steps": STEPS,
        "next": MapOf(
            Record(
                {"set": VALUE, "append": VALUE, "extend": VALUE},
                one_of=("set", "append", "extend"),
                instead="write {set: ...}",
            ),
            "state variable",
            about="How each turn changes the state.",
        ),
        "when": Expr(about="The step runs only if this is true."),
        "else": ARGUMENTS,
        "needs": ListOf(Text(), about="Order without data."),
        "retry": Number(whole=True, least=0, about="Further tries after a failure.", default="0"),
        "timeout": Number(above=0, about="Seconds."),
        "on_error": ARGUMENTS,
    },
    one_of=("module", "tool", "program", "value", "repeat"),
    only={
        **dict.fromkeys(("with", "foreach", "at_most", "max_parallel"), _CALLS),
        **dict.fromkeys(("state", "steps", "next"), ("repeat",)),
        "lms": ("program",),
    },
)
_STEPS: Shape = MapOf(STEP, "step", about="The graph; references between steps make its edges.")

ENSEMBLE = Record(
    {
        "members": ListOf(
            MapOf(
                Record({key: MODULE.keys[key] for key in ("instructions", "prompt", "demos")}),
                "module",
            ),
            2,
            about="The programs, each by the modules in which it differs from this one; {} is this one.",
        ),
        "vote": Text(about="The output whose most common value wins; of several the first member's."),
        "judge": Text(about="The LM that picks the best answer."),
    },
    required=("members",),
    one_of=("vote", "judge"),
    about="One program of several with other words, that answers as most of them do, or as a judge finds best.",
)

PROGRAM = Record(
    {
        "lmprog": Number(whole=True, about="The version of the language: 1."),
        "name": Text(r"^[^/\\\s]+$", "a word without spaces or slashes", about="The program's name."),
        "description": Text(),
        "extends": Text(about="A base program; this file holds only what differs."),
        "inputs": TYPED,
        "outputs": ARGUMENTS,
        "vars": MapOf(Anything(), "var", about="Constants; {file: labels.txt} is the list of the file's lines."),
        "lms": MapOf(LM, "LM", about="The language models, by id."),
        "tools": MapOf(TOOL, "tool", about="The tools, by id."),
        "modules": MapOf(MODULE, "module", about="The prompts, by id."),
        "steps": STEPS,
        "data": DATA,
        "metrics": MapOf(METRIC, "metric", about="The metrics, by id."),
        "ensemble": ENSEMBLE,
        "optimize": OPTIMIZE,
        "tests": TESTS,
        "export": EXPORT,
        "tuned": MapOf(Anything(), "entry", free=True, about="In an overlay: where it came from."),
    },
)


@cache
def exclusive() -> tuple[Record, ...]:
    """Return the records of the language in which exactly one of some keys stands, each once."""
    found: dict[tuple[str, ...], Record] = {}
    for record in _records():
        if record.choices:
            found.setdefault(record.choices, record)
    return tuple(found.values())


@cache
def words() -> frozenset[str]:
    """Return the keys that any record of the language has."""
    return frozenset(key for record in _records() for key in record.keys)


@cache
def _records() -> tuple[Record, ...]:
    found: list[Record] = []
    seen: set[str] = set()

    def walk(part: object) -> None:
        if isinstance(part, Lazy):
            if part.name not in seen:
                seen.add(part.name)
                walk(part.shape())
            return
        if isinstance(part, Record):
            found.append(part)
        if isinstance(part, Mapping):
            for inner in part.values():
                walk(inner)
        elif isinstance(part, Shape):
            for inner in vars(part).values():
                walk(inner)

    walk(PROGRAM)
    return tuple(found)
