"""Random well-typed programs: what passes check runs on fakes, with no error of a name, a type or a template.

`LMPROG_PROGRAMS=5000` sets how many are tried.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import compile_file
from lmprog.compiler.types.samples import samples
from lmprog.lms.fake import FakeLM
from lmprog.runtime.program import Program
from lmprog.runtime.resources import Resources

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("LMPROG_PROGRAMS", "200"))
PARTS = 4
TYPES: list[Any] = [
    "str", "int", "float", "bool", "json", "list[str]", "list[int]", "str?", "int?", "list[str?]", "list[str]?", "messages",
    {"enum": ["a", "b"]}, {"title": "str", "about": "str?", "count": "int"}, "list[{k: str, n: int}]",
]  # fmt: skip
NUMBERS = ("int", "float")
OBJECT, LISTED = str(TYPES[-2]), TYPES[-1]
EXPRESSIONS: dict[str, tuple[str, ...]] = {
    "any": ("IT", "[IT, IT]", "json(INNER)", "{'a': INNER}", "IT == OTHER", "IT if TEST else OTHER", "default(IT, OTHER)"),
    "str": ("len(IT)", "IT[0]", "IT + OTHER", "int(IT, 0)", "float(IT)", "split(IT, OTHER)", "split(IT)", "IT in OTHER",
            "IT[:2]"),
    "int": ("IT + OTHER", "6 / IT", "IT // OTHER", "6 // IT if IT else 0", "inputs.text[IT]", "str(IT)", "round(IT)", "-IT",
            "vars.words[IT]", "IT % 2 == 0 and IT > OTHER"),
    "float": ("IT + OTHER", "round(IT, 1)", "IT / OTHER if OTHER else IT", "int(IT)"),
    "bool": ("not IT", "IT and OTHER", "1 if IT else 0"),
    "json": ("IT.title", "IT['a']['b']", "'a' in IT", "IT.a == 1", "str(IT.a)", "IT[0]"),
    "list[str]": ("len(IT)", "IT[0]", "first(IT)", "join(IT, ', ')", "IT[0] if IT else 'none'", "IT + OTHER", "min(IT)",
                  "sorted(IT)[-1]", "IT[1] if len(IT) > 1 else ''", "unique(IT)"),
    "list[int]": ("sum(IT)", "min(IT)", "max(IT) if IT else 0", "sum(IT) / len(IT)", "6 // IT[0] if IT and IT[0] else 0"),
    "str?": ("IT or 'none'", "default(IT, 'a')", "len(IT) if IT != null else 0", "IT + 'a'"),
    "int?": ("default(IT, 0) + 1", "IT + 1 if IT != null else 0", "6 // IT if IT else 0"),
    "list[str?]": ("compact(IT)", "first(compact(IT))", "IT[0]"),
    "list[str]?": ("len(IT or [])", "IT[0] if IT else 'none'", "IT == null or IT[0] == 'a'"),
    "messages": ("IT[0].content", "len(IT)", "IT[0].role if len(IT) > 0 else 'none'"),
    OBJECT: ("IT.title + 'a'", "IT.about or 'none'", "6 // IT.count if IT.count else 0", "IT['title']"),
    LISTED: ("IT[0].k", "IT[0].n if IT else 0", "len(IT)", "first(IT)"),
}  # fmt: skip
TEMPLATES: dict[str, tuple[str, ...]] = {
    "any": ("{{ IT|tojson }}", "{{ IT|string|upper }}", "{% set a = IT %}{{ a|tojson }}", "{{ IT|default('x', true) }}",
            "{% if IT == OTHER %}same{% endif %}", "{% if IT > OTHER %}more{% endif %}",
            "{% if IT %}{{ IT|tojson }}{% endif %}"),
    "str": ("{{ IT }}", "{{ IT[0] }}", "{{ IT.split(OTHER)|join }}", "{{ IT.split()|first }}", "{{ IT + OTHER }}",
            "{% if IT %}{{ IT|first }}{% endif %}", "{{ IT|int + 1 }}", "{{ IT|wordwrap(9) }}",
            "{% if 'a' in IT %}a{% endif %}"),
    "int": ("{{ IT }}", "{{ 6 // IT }}", "{% if IT %}{{ 6 // IT }}{% endif %}", "{{ range(IT)|join }}", "{{ IT|round(1) }}"),
    "float": ("{{ IT }}", "{{ IT|round(2) }}", "{{ 1 / IT if IT else 0 }}", "{{ IT|int }}"),
    "bool": ("{{ 'yes' if IT else 'no' }}", "{{ IT }}"),
    "json": ("{{ IT.a|tojson }}", "{% for key in IT %}{{ key }}{% endfor %}",
             "{% if IT.a is defined %}{{ IT.a|tojson }}{% endif %}"),
    "list[str]": ("{{ IT|join(', ') }}", "{{ IT[0] }}", "{% if IT %}{{ IT[0] }}{% endif %}", "{{ IT|map('upper')|join }}",
                  "{% for x in IT %}{{ loop.index }}: {{ x }}{% endfor %}", "{{ IT|sort|last }}", "{{ IT|sum }}"),
    "list[int]": ("{{ IT|sum }}", "{{ IT|max }}", "{% if IT %}{{ IT|min }}{% endif %}", "{{ 1 / IT|length }}"),
    "str?": ("{% if IT %}{{ IT }}{% endif %}", "{{ IT or 'none' }}", "{{ IT }}", "{{ IT|length }}"),
    "int?": ("{% if IT is not none %}{{ IT + 1 }}{% endif %}", "{{ 6 // IT if IT else 0 }}"),
    "list[str?]": ("{% for x in IT if x %}{{ x }}{% endfor %}", "{{ IT|select|join }}"),
    "list[str]?": ("{% if IT %}{{ IT[0] }}{% endif %}", "{{ IT|join }}"),
    OBJECT: ("{{ IT.title }}{% if IT.about %}{{ IT.about }}{% endif %}", "{{ IT.about or 'none' }}", "{{ 6 // IT.count }}",
             "{% for k, v in IT|items %}{{ k }}{% endfor %}"),
    LISTED: ("{% for x in IT %}{{ x.k }}{{ x.n + 1 }}{% endfor %}", "{{ IT|map(attribute='k')|join }}", "{{ IT[0].k }}",
             "{{ IT|selectattr('n')|list|length }}", "{{ IT|sum(attribute='n') }}"),
}  # fmt: skip
"""Forms with IT, OTHER (of the same type as a rule), INNER and TEST to be filled in; some of them are wrong."""
STARTS: dict[str, Any] = {"said": [], "last": "a", "count": 0}


class Writer:
    """Writes one program. `reads` holds what an expression may read at the place, by its type as it is written."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = itertools.count()

    def program(self) -> dict[str, Any]:
        inputs = {f"i{number}": self.rng.choice(TYPES) for number in range(self.rng.randint(2, 5))}
        inputs |= {"text": "str", "number": "int"}
        self.modules: dict[str, Any] = {}
        reads = [(f"inputs.{name}", kind) for name, kind in inputs.items()]
        reads += [("vars.words", "list[str]"), ("vars.three", "int")]
        steps = self.steps(reads, self.rng.randint(1, 5), depth=0)
        outputs = {f"o{number}": f"${{{{ {self.rng.choice(reads)[0]} }}}}" for number in range(2)}
        found = {
            "lmprog": 1, "name": "random", "inputs": inputs, "vars": {"words": ["a", "b"], "three": 3},
            "lms": {"m": {"model": "openai/none", "api_base": "http://localhost:9/v1"}}, "steps": steps, "outputs": outputs,
        }  # fmt: skip
        return found | ({"modules": self.modules} if self.modules else {})

    def steps(self, reads: list[tuple[str, Any]], count: int, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for _ in range(count):
            id = f"s{next(self.numbers)}"
            kind = self.rng.choice(["value", "value", "module", "module", "each", "loop" if depth < 2 else "value"])
            step, fields = getattr(self, f"_{kind}")(reads, depth)
            if self.rng.random() < 0.3:
                step["when"] = self.condition(reads)
                fields = [(name, "unknown") for name, _ in fields]
            made[id] = step
            reads += [(f"steps.{id}.{name}", kind) for name, kind in fields]
        return made

    def _value(self, reads: list[tuple[str, Any]], depth: int) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        return {"value": self.expression(reads)}, [("value", "unknown")]

    def _module(self, reads: list[tuple[str, Any]], depth: int) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        id = f"m{next(self.numbers)}"
        given = {f"a{number}": self.rng.choice(reads) for number in range(self.rng.randint(1, 3))}
        inputs = {name: "str" if kind == "unknown" else kind for name, (_, kind) in given.items()}
        outputs = {name: self.rng.choice([kind for kind in TYPES if kind != "messages"]) for name in ("x", "y")}
        self.modules[id] = {"lm": "m", "inputs": inputs, "outputs": outputs, "instructions": "Do it."}
        if self.rng.random() < 0.6:
            self.modules[id]["prompt"] = {"user": self.template(inputs)}
        return {
            "module": id, "with": {name: f"${{{{ {read} }}}}" for name, (read, _) in given.items()}
        }, list(outputs.items())  # fmt: skip

    def _each(self, reads: list[tuple[str, Any]], depth: int) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        lists = [read for read in reads if read[1] in ("list[str]", "list[int]")]
        over, kind = self.rng.choice(lists)
        step, fields = self._module([*reads, ("item", kind[5:-1]), ("loop.index0", "int")], depth)
        step |= {"foreach": f"${{{{ {over} }}}}", "at_most": 4}
        return step, [(name, f"list[{kind}]" if kind in ("str", "int") else "unknown") for name, kind in fields]

    def _loop(self, reads: list[tuple[str, Any]], depth: int) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        state = {"said": "list[str]", "last": "str", "count": "int"}
        inner = [*reads, *((f"state.{name}", kind) for name, kind in state.items()), ("loop.index0", "int")]
        body = self.steps(inner, self.rng.randint(1, 2), depth + 1)
        texts = [read for read, kind in inner if kind == "str"]
        step = {
            "repeat": self.rng.choice([2, "vars.three", {"at_most": 3, "until": self.condition(inner)}]),
            "state": {name: {"type": kind, "start": STARTS[name]} for name, kind in state.items()},
            "steps": body,
            "next": {
                "said": {"append": f"${{{{ {self.rng.choice(texts)} }}}}"},
                "last": {"set": f"${{{{ {self.rng.choice(texts)} }}}}"},
                "count": {"set": "${{ state.count + 1 }}"},
            },
        }  # fmt: skip
        return step, list(state.items())

    def condition(self, reads: list[tuple[str, Any]]) -> str:
        read, kind = self.rng.choice(reads)
        if isinstance(kind, str) and kind.endswith("?"):
            return f"{read} != null"
        if kind in NUMBERS:
            return f"{read} > 0"
        if kind in ("str", "list[str]", "list[int]"):
            return self.rng.choice([f"len({read}) > 0", f"len({read}) > 1 and inputs.number != 0"])
        return "inputs.number > 0" if kind != "bool" else read

    def expression(self, reads: list[tuple[str, Any]], depth: int = 0) -> str:
        read, kind = self.rng.choice(reads)
        if depth > 2 or self.rng.random() < 0.2:
            return read
        text = self.rng.choice(EXPRESSIONS["any"] + 2 * EXPRESSIONS.get(str(kind), ()))
        like = (
            [name for name, other in reads if other == kind] if self.rng.random() < 0.8 else [self.rng.choice(reads)[0]]
        )
        text = text.replace("INNER", self.expression(reads, depth + 1)).replace("TEST", self.condition(reads))
        return text.replace("OTHER", self.rng.choice(like)).replace("IT", read)

    def template(self, inputs: dict[str, Any]) -> str:
        parts = []
        for name, kind in inputs.items():
            text = self.rng.choice(TEMPLATES["any"] + 2 * TEMPLATES.get(str(kind), ()))
            parts.append(text.replace("OTHER", self.rng.choice(list(inputs))).replace("IT", name))
        return " ".join(parts)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmprog.lms.making.make_lm", lambda declared: FakeLM())


def random_inputs(plan: Any, rng: random.Random) -> dict[str, Any]:
    return {name: rng.choice(samples(field.type)) for name, field in plan.inputs.items()}


@pytest.mark.parametrize("part", range(PARTS))
def test_a_program_that_passes_check_runs(part: int, tmp_path: Path, faked: None) -> None:
    path = tmp_path / "random.yaml"
    passed = ran = 0
    for seed in range(part, 1_000_000, PARTS):
        writer = Writer(seed)
        path.write_text(yaml.safe_dump(writer.program(), sort_keys=False), encoding="utf-8")
        compiled = compile_file(path)
        plan = compiled.plan
        if plan is None:
            continue
        passed += 1
        warned = any(finding.code == "LMP208" for finding in compiled.findings)
        program = Program(plan, {id: FakeLM() for id in plan.lms}, lambda change: plan, Resources(dry_run=True))  # noqa: B023
        for _ in range(3 if not warned else 0):
            result = asyncio.run(program.run(random_inputs(plan, writer.rng)))
            assert result.error is None, f"seed {seed}: {result.error} for:\n{path.read_text()}"
        ran += not warned
        if passed >= COUNT // PARTS:
            break
    assert ran > passed * 0.3
