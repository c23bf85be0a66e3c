"""Random programs with a private value in them, for the test that looks for it where it may not be.

`write(folder, seed)` writes a program with the files it names. The same seed writes the same program. Names are the same in
all: the inputs `secret` (private), `pub` and `items`; the LMs `local` (trusted) and `remote` (not).
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOCAL, REMOTE, CLEANER = "embedded/smollm2-135m", "openai/remote", "hf/cleaner"
SENT: list[str] = []
"""What the untrusted tool of the programs was given."""
TOOLS = """
import lmprog
from tests.functional.random_programs import SENT

def read(q: str) -> str:
    return q

def send(q: str) -> str:
    SENT.append(q)
    return q

def score(a: str, g: str) -> lmprog.Score:
    return lmprog.Score(0.5, f"wanted {g}, found {a}")

def long(a: str, g: str) -> lmprog.Score:
    return lmprog.Score(min(len(a) / 9999, 1.0), f"wanted {g}, found {a}")
"""
_LMS = {
    "local": {"model": LOCAL},
    "remote": {"model": REMOTE, "api_key": "none"},
    "cleaner": {"model": CLEANER},
}
OPTIMIZED = 0.25
"""Share of the programs that have `optimize`. Of these check refuses two in three."""
_TEXT = {"user": "{{ t }}"}
_MODULES: dict[str, Any] = {
    "ask": {"lm": "remote", "inputs": {"t": "str"}, "outputs": {"answer": "str"}, "prompt": _TEXT},
    "loc": {"lm": "local", "inputs": {"t": "str"}, "outputs": {"answer": "str"}, "prompt": _TEXT},
    "pair": {
        "lm": "local",
        "inputs": {"t": "str"},
        "outputs": {"one": "str", "two": "str"},
        "format": "json",
        "prompt": _TEXT,
    },
    "clean": {
        "lm": "cleaner",
        "inputs": {"t": "str"},
        "outputs": {"answer": {"type": "str", "declassify": "its LM writes the same whatever it reads"}},
        "prompt": _TEXT,
    },
    "agent": {
        "lm": "local",
        "inputs": {"t": "str"},
        "outputs": {"answer": "str"},
        "tools": ["read"],
        "prompt": _TEXT,
    },
}
_TOOLS = {
    "read": {"python": "./t.py:read", "result": "r"},
    "send": {"python": "./t.py:send", "result": "r", "trusted": False},
}


@dataclass
class _Names:
    """What an expression at one place can read, by type, and how much of it is known to be public."""

    texts: list[str]
    lists: list[str]
    numbers: list[str] = field(default_factory=list)

    def inner(self) -> _Names:
        return _Names(list(self.texts), list(self.lists), list(self.numbers))


class _Writer:
    def __init__(self, seed: int, subs: list[str]) -> None:
        self.draw = random.Random(seed)
        self.subs = subs
        self.count = 0
        self.public = 0.75
        """How often what goes to a sink is taken from the public names alone: else nearly every program is refused."""

    def id(self, letter: str = "s") -> str:
        self.count += 1
        return f"{letter}{self.count}"

    # expressions

    def text(self, names: _Names, public: bool = False) -> str:
        draw = self.draw
        pool = [name for name in names.texts if "secret" not in name] if public else names.texts
        one = draw.choice(pool or ["'k'"])
        other = draw.choice([*pool, "'k'"])
        lists = [name for name in names.lists if not public or "secret" not in name] or ["['k']"]
        kinds = [
            one, one, one, f"upper({one})", f"{one} + ' ' + {other}", f"replace({one}, 'zz', 'y')", "'k'",
            f"join([{one}, {other}], ' ')", f"json({one})", f"{one} if len({other}) > 4 else {other}",
            f"str(len({draw.choice([one, *lists])}))", f"join({draw.choice(lists)}, ' ')",
            f"default(first(split({one})), 'k')", f"{one} if {other} == 'k' else 'k'",
        ]  # fmt: skip
        if names.numbers:
            kinds.append(f"str({draw.choice(names.numbers)})")
        return draw.choice(kinds)

    def list(self, names: _Names) -> str:
        draw = self.draw
        one, other = draw.choice(names.texts), draw.choice(names.texts)
        return draw.choice([*names.lists, f"split({one})", f"[{one}, {other}]", f"[{one}]"])

    def condition(self, names: _Names, public: bool = False) -> str:
        one = self.text(names, public)
        kinds = [f"len({one}) > {self.draw.randrange(3, 30)}", f"({one}) != 'k'", f"'q' in ({one})"]
        return self.draw.choice(kinds)

    def argument(self, names: _Names, sink: bool) -> str:
        return "${{ " + self.text(names, sink and self.draw.random() < self.public) + " }}"

    # steps

    def steps(self, names: _Names, depth: int, most: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self.draw.randint(1, most)):
            id, step = self.step(names, depth)
            found[id] = step
        return found

    def step(self, names: _Names, depth: int) -> tuple[str, dict[str, Any]]:
        draw, id = self.draw, self.id()
        kind = draw.choices(
            ["ask", "loc", "pair", "clean", "agent", "send", "read", "value", "program", "repeat"],
            [5, 4, 1, 2 if depth == 0 else 0, 1, 2, 1, 3, 3 if self.subs else 0, (6, 12, 0)[depth]],
        )[0]
        if kind == "repeat":
            return id, self.loop(id, names, depth)
        if kind == "value":
            step: dict[str, Any] = {"value": self.text(names)}
            if step["value"] != "'k'":
                self.guard(step, names, ["value"])
            names.texts.append(f"steps.{id}.value")
            return id, step
        inner = names.inner()
        step = {}
        many = kind in ("ask", "loc", "send", "read", "program") and draw.random() < 0.2
        if many:
            step["foreach"] = "${{ " + self.list(names) + " }}"
            step["at_most"] = draw.choice([4, 20])
            inner.texts += ["item"] * 2
        if kind in ("read", "send"):
            step |= {"tool": kind, "with": {"q": self.argument(inner, kind == "send")}}
            outputs = ["r"]
        elif kind == "program":
            step |= {"program": f"./{draw.choice(self.subs)}.yaml"}
            step["with"] = {"x": self.argument(inner, True), "y": self.argument(inner, draw.random() < 0.6)}
            if draw.random() < 0.4:
                step["lms"] = {"local": draw.choice(["local", "remote"])}
            outputs = ["a", "b"]
        else:
            step |= {"module": kind, "with": {"t": self.argument(inner, kind == "ask")}}
            outputs = list(_MODULES[kind]["outputs"])
        self.guard(step, names, outputs, many)
        (names.lists if many else names.texts).extend(f"steps.{id}.{name}" for name in outputs)
        return id, step

    def guard(self, step: dict[str, Any], names: _Names, outputs: list[str], many: bool = False) -> None:
        """Add `when` with `else`, or `on_error`, to some of the steps."""
        draw = self.draw
        instead: Any = ["none"] if many else "none"
        if draw.random() < 0.2:
            step["when"] = self.condition(names, draw.random() < 0.6)
            values = {name: "${{ " + self.text(names) + " }}" for name in outputs}
            step["else"] = dict.fromkeys(outputs, instead) if many or draw.random() < 0.5 else values
        if draw.random() < 0.15:
            step["on_error"] = dict.fromkeys(outputs, instead)

    def loop(self, id: str, names: _Names, depth: int) -> dict[str, Any]:
        draw = self.draw
        state = [f"{id}{letter}" for letter in "ab"[: draw.randint(1, 2)]]
        outer = [name for name in names.texts if not name.startswith("state.")]
        around = [name for name in names.texts if name.startswith("state.")]
        # What a loop is about is its state, and what a loop inside it begins with is the state around.
        first = _Names([*names.texts, *around * 3], names.lists, names.numbers)
        start = {name: {"type": "str", "start": "${{ " + self.text(first) + " }}"} for name in state}
        inner = _Names([*outer, *[f"state.{name}" for name in state] * 3], list(names.lists))
        count = f"{id}n"
        with_count = draw.random() < 0.4
        if with_count:
            start[count] = {"type": "int", "start": 0}
            inner.numbers = [f"state.{count}"]
        body = self.steps(inner, depth + 1, 3)
        changed = {name: {"set": "${{ (" + self.text(inner) + ") + ' n' }}"} for name in state}
        step: dict[str, Any] = {"repeat": draw.randint(1, 3), "state": start, "steps": body, "next": changed}
        if with_count:
            changed[count] = {"set": f"${{{{ state.{count} + 1 }}}}"}
            limit = f"len({self.text(outer_names(names), draw.random() < 0.5)}) % 4"
            step["repeat"] = {"until": f"state.{count} > {limit}", "at_most": 4}
            names.numbers.append(f"steps.{id}.{count}")
        names.texts += [f"steps.{id}.{name}" for name in state]
        return step


def outer_names(names: _Names) -> _Names:
    """The names without those of the loop around."""
    return _Names([name for name in names.texts if not name.startswith(("state.", "item"))], list(names.lists))


def _program(
    writer: _Writer, name: str, inputs: dict[str, Any], names: _Names, outputs: str, depth: int
) -> dict[str, Any]:
    steps = writer.steps(names, depth, 5)
    given = {output: "${{ " + writer.text(names) + " }}" for output in outputs.split()}
    # Someone has to watch what is declassified.
    watched = {
        f"clean_{id}": f"${{{{ steps.{id}.answer }}}}" for id, step in steps.items() if step.get("module") == "clean"
    }
    modules = {id: _MODULES[id] for id in _named(steps, "module")}
    tools = {id: _TOOLS[id] for id in [*_named(steps, "tool"), *(("read",) if "agent" in modules else ())]}
    return {
        "lmprog": 1,
        "name": name,
        "inputs": inputs,
        "outputs": given | watched,
        "lms": _LMS,
        "tools": tools,
        "modules": modules,
        "steps": steps,
        "metrics": {
            f"watch_{output}": {"python": "./t.py:score", "with": {"a": f"${{{{ outputs.{output} }}}}", "g": "k"}}
            for output in watched
        },
    }


def _named(steps: dict[str, Any], verb: str) -> dict[str, None]:
    """The modules or tools that the steps name, those in loops too."""
    found = {step[verb]: None for step in steps.values() if verb in step}
    for step in steps.values():
        found |= _named(step.get("steps", {}), verb)
    return found


def _write(path: Path, document: dict[str, Any]) -> None:
    # JSON is YAML, and is written in a tenth of the time.
    path.write_text(json.dumps(document, indent=1))


def write(folder: Path, seed: int) -> Path:
    """Write a random program into the folder, and return its path."""
    draw = random.Random(seed)
    (folder / "t.py").write_text(TOOLS)
    subs: list[str] = []
    for name in ["low", "high"][: draw.choice([0, 1, 1, 2])]:
        writer = _Writer(draw.randrange(2**32), list(subs))
        inputs: dict[str, Any] = {"x": "str", "y": "str"}
        if draw.random() < 0.3:
            inputs["y"] = {"type": "str", "private": True}
        document = _program(writer, name, inputs, _Names(["inputs.x", "inputs.y"], []), "a b", 1)
        _write(folder / f"{name}.yaml", document)
        subs.append(name)
    writer = _Writer(draw.randrange(2**32), subs)
    inputs = {"secret": {"type": "str", "private": True}, "pub": "str", "items": "list[str]"}
    names = _Names(["inputs.secret", "inputs.pub", "inputs.pub"], ["inputs.items"])
    document = _program(writer, "main", inputs, names, "answer", 0)
    if draw.random() < 0.4:
        _judged(folder, draw, document)
    if draw.random() < OPTIMIZED:
        _optimized(folder, draw, document)
    path = folder / "main.yaml"
    _write(path, document)
    return path


def _judged(folder: Path, draw: random.Random, document: dict[str, Any]) -> None:
    """Give the program data, a judge, and a metric that reads all declassified outputs."""
    judge = {
        "lmprog": 1,
        "name": "judge",
        "inputs": {"a": "str", "n": "str"},
        "outputs": {"score": "${{ steps.rate.score }}"},
        "lms": _LMS,
        "modules": {
            "rate": {
                "lm": draw.choice(["remote", "remote", "local"]),
                "inputs": {"t": "str"},
                "outputs": {"score": "float"},
                "prompt": _TEXT,
            },
        },
        "steps": {"rate": {"module": "rate", "with": {"t": "${{ inputs.a + ' ' + inputs.n }}"}}},
    }
    _write(folder / "judge.yaml", judge)
    given = [
        "outputs.answer",
        "inputs.pub",
        "row.note",
        "'k'",
        "row.gold",
        "inputs.secret",
        "row.copy",
        "str(metrics.acc)",
    ]
    chosen = draw.choices(given, [4, 4, 3, 3, 1, 1, 1, 1], k=2)
    split: dict[str, Any] = {"path": "rows.jsonl", "columns": {"pub": "pub", "copy": "pub"}}
    document["data"] = {"dev": split | ({"private": ["gold"]} if draw.random() < 0.7 else {})}
    document["metrics"] |= {
        "acc": {"python": "./t.py:score", "with": {"a": "${{ outputs.answer }}", "g": "${{ row.gold }}"}},
        "judged": {"program": "./judge.yaml", "with": {"a": f"${{{{ {chosen[0]} }}}}", "n": f"${{{{ {chosen[1]} }}}}"}},
    }


def _optimized(folder: Path, draw: random.Random, document: dict[str, Any]) -> None:
    """Give the program train and dev rows, a module that the rows label, and a short optimization.

    A private value is `zqhidden` or `zqgold` as elsewhere; in half of the programs the label alone can be private, since
    a private input keeps every untrusted proposer out.
    """
    if draw.random() < 0.5:
        document["inputs"]["secret"] = "str"
    hidden = "zqhidden" if isinstance(document["inputs"]["secret"], dict) else "plain"
    document.setdefault("data", {})
    for split in ("train", "dev"):
        given = document["data"].setdefault(
            split, {"columns": {"pub": "pub", "copy": draw.choice(["pub", "pub", "gold"])}}
        )
        if split == "train" and draw.random() < 0.4:
            given["private"] = draw.choices([["gold"], ["note"], ["copy"]], [4, 1, 1])[0]
        given["columns"]["gold"] = "gold"
        given["path"] = f"{split}.jsonl"
        private = {given["columns"].get(name, name) for name in given.get("private", ())}
        lines = []
        for n in range(4):
            row = rows(hidden, "zqgold" if "gold" in private else "fine")[0]
            lines.append(row | {name: f"zqgold {n}" for name in private} | {"n": n})
        (folder / given["path"]).write_text("".join(json.dumps(row) + "\n" for row in lines))
    label = draw.choice(["gold", "note", "copy"])
    input = draw.choice(["pub", "pub", "secret"])
    lm = draw.choice(["remote", "remote", "local"])
    document["modules"]["lab"] = {"lm": lm, "inputs": {input: "str"}, "outputs": {label: "str"}}
    written = [{input: "so", label: "it is"}, {input: "or", label: "it was"}]
    if draw.random() < 0.3:
        document["modules"]["lab"]["demos"] = draw.choice([written, {"nearest": 1, "of": written}])
    document["steps"]["lab"] = {"module": "lab", "with": {input: f"${{{{ inputs.{input} }}}}"}}
    document["outputs"]["lab"] = f"${{{{ steps.lab.{label} }}}}"
    stage = draw.choice(["prompt_search", "prompt_search", "bootstrap", "gepa"])
    judged = "judged" in document["metrics"] and draw.random() < 0.3
    wanted = draw.choices(["row.gold", "row.note", "'k'"], [2, 1, 2])[0]
    document["metrics"]["aim"] = {
        # Of LMs that repeat their prompt the candidate that says more is kept.
        "python": "./t.py:long",
        "with": {"a": f"${{{{ outputs.{draw.choice(['lab', 'lab', 'answer'])} }}}}", "g": f"${{{{ {wanted} }}}}"},
    }
    parts = [["demos"]] if stage == "bootstrap" else [["instructions"], ["instructions", "demos"], ["demos"]]
    # The prompts of the other modules are their authors' own, and show no instructions.
    shown = {id: module for id, module in document["modules"].items() if id == "lab" or draw.random() < 0.3}
    for id, module in shown.items():
        if "prompt" in module and draw.random() < 0.8:
            document["modules"][id] = {key: value for key, value in module.items() if key != "prompt"}
    tuned = {id: ["demos"] if "prompt" in document["modules"][id] else draw.choice(parts) for id in shown}
    if stage == "gepa":
        tuned["lab"] = ["instructions"]
    optimize: dict[str, Any] = {
        "metric": "judged" if judged else "aim",
        "tune": tuned,
        "accept": "point",
        "stages": [{stage: _STAGES[stage]}],
    }
    if any("instructions" in parts for parts in tuned.values()):
        optimize["proposer"] = draw.choice(["remote", "local"])
    if draw.random() < 0.15:
        optimize["declassify"] = "the rows are of a public data set"
        if stage != "gepa" and draw.random() < 0.7:
            # Demos alone, of an LM that is not trusted perhaps: a reason for the overlay is none for that LM.
            optimize["tune"] = {"lab": ["demos"]}
            optimize.pop("proposer", None)
    document["optimize"] = optimize


_STAGES: dict[str, Any] = {
    "prompt_search": {
        "trials": 2, "minibatch": 2, "demos": [2], "bootstrap_rows": 2, "proposals": 2, "demo_sets": 2, "finalists": 1,
        "at_least": "best",
    },
    "bootstrap": {"sets": 2, "demos": 2, "labelled": 1, "rows": 2, "finalists": 1, "at_least": "best"},
    "gepa": {"max_metric_calls": 12, "minibatch": 2, "pareto_rows": 2, "merges": 0, "finalists": 1},
}  # fmt: skip


def rows(secret: str, gold: str) -> list[dict[str, Any]]:
    """One row of data for the programs."""
    return [{"secret": secret, "pub": "open day", "items": ["u v", "w"], "note": "fair", "gold": gold}]


def write_rows(folder: Path, secret: str, gold: str) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(secret, gold)))
