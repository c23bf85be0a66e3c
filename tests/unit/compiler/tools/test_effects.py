"""What a tool is taken to do to the world, and how often a run can do it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.plan import Plan
from lmprog.errors import UsageError
from lmprog.runtime.writes import refuse_writes, writes

HTTP = 'http: {url: "https://example.org/x", method: METHOD, inputs: {a: str}}'
OPENAPI = """\
openapi: 3.0.0
paths:
  /x:
    get: {operationId: read}
    post: {operationId: send}
    head: {operationId: peek}
    delete: {operationId: drop}
servers: [{url: "https://example.org"}]
"""


@pytest.fixture
def effects(write: Callable[..., Path]) -> Callable[[str], str]:
    def effects(tool: str) -> str:
        write(OPENAPI, "api.yaml")
        for name, marks in (("reads", {"readOnlyHint": True}), ("may", {"readOnlyHint": "yes"}), ("bare", None)):
            described = {"name": "t", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}}}
            write(json.dumps(described | ({"annotations": marks} if marks else {})), f"{name}.json")
        write("def f(a: str) -> str:\n    return a\n", "t.py")
        spec = write(f"lmprog: 1\nname: p\nvars: {{}}\ntools: {{t: {{{tool}}}}}\n")
        text = 'steps: {s: {tool: t, with: WITH}}\noutputs: {o: "${{ steps.s.result }}"}\n'
        given = (
            "{a: x}"
            if ("openapi" not in tool and "schema" in tool) or "http: {url" in tool or "python" in tool
            else "{}"
        )
        spec.write_text(spec.read_text() + text.replace("WITH", given))
        plan = compile_file(spec).plan
        assert plan is not None
        return plan.tools["t"].effects

    return effects


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        *[(HTTP.replace("METHOD", method), "read") for method in ("GET", "HEAD")],
        *[(HTTP.replace("METHOD", method), "write") for method in ("POST", "PUT", "PATCH", "DELETE")],
        (HTTP.replace(", method: METHOD", ""), "read"),
        (HTTP.replace("METHOD", "POST") + ", effects: read", "read"),
        (HTTP.replace("METHOD", "GET") + ", effects: write", "write"),
        *[(f"http: {{openapi: api.yaml, operation: {name}}}", "read") for name in ("read", "peek")],
        *[(f"http: {{openapi: api.yaml, operation: {name}}}", "write") for name in ("send", "drop")],
        ("mcp: {command: x, tool: t, schema: reads.json}", "read"),
        ("mcp: {command: x, tool: t, schema: may.json}", "write"),
        ("mcp: {command: x, tool: t, schema: bare.json}", "write"),
        ("mcp: {command: x, tool: t}", "write"),
        ("mcp: {command: x, tool: t}, effects: read", "read"),
        ('python: "./t.py:f"', "read"),
        ('python: "./t.py:f", effects: write', "write"),
    ],
)
def test_table(effects: Callable[[str], str], tool: str, expected: str) -> None:
    assert effects(tool) == expected


@pytest.fixture
def plan(write: Callable[..., Path]) -> Plan:
    write("def f(a: str) -> str:\n    return a\n", "t.py")
    inner = """
        lmprog: 1
        name: inner
        inputs: {a: str}
        tools: {w: {python: "./t.py:f", effects: write}}
        steps: {s: {tool: w, with: {a: "${{ inputs.a }}"}, retry: 5}}
        outputs: {o: "${{ steps.s.result }}"}
    """
    write(inner, "inner.yaml")
    spec = write("""
        lmprog: 1
        name: outer
        inputs: {a: str}
        lms: {lm: {model: openai/x}}
        tools: {w: {python: "./t.py:f", effects: write}, r: {python: "./t.py:f", effects: read}}
        modules: {ask: {lm: lm, inputs: {a: str}, outputs: {b: str}, tools: [w, r], max_turns: 4}}
        steps:
          each: {program: inner.yaml, foreach: "${{ split(inputs.a) }}", at_most: 5, with: {a: "${{ item }}"}}
          loop:
            repeat: 3
            state: {n: {type: str, start: x}}
            steps: {ask: {module: ask, with: {a: "${{ state.n }}"}}}
            next: {n: {set: "${{ steps.ask.b }}"}}
          read: {tool: r, with: {a: "${{ inputs.a }}"}}
        outputs: {o: "${{ join(steps.each.o, ' ') + steps.loop.n + steps.read.result }}"}
    """)
    plan = compile_file(spec).plan
    assert plan is not None
    return plan


def test_how_often_a_run_writes(plan: Plan) -> None:
    assert writes(plan) == {"each.w": 5, "w": 9}
    with pytest.raises(UsageError, match=r"w at most 9 times in a run of outer, 90 in all"):
        refuse_writes([(plan, 10)], allowed=False)
    refuse_writes([(plan, 10)], allowed=True)


@pytest.mark.parametrize(
    ("effects", "ignored", "codes", "written"),
    [
        ("", "", ["LMP406"], {"w": 6}),
        ("", "  # lmprog: ignore LMP404 the text is public", ["LMP406", "LMP202"], {"w": 6}),
        ("", "  # lmprog: ignore LMP406 not known yet", [], {"w": 6}),
        (", effects: read", "", [], {}),
        (", effects: write", "", [], {"w": 6}),
    ],
)
def test_a_python_tool_of_an_agent_counts_as_writing_until_it_says_what_it_does(
    write: Callable[..., Path], effects: str, ignored: str, codes: list[str], written: dict[str, int]
) -> None:
    write('def f(a: str) -> str:\n    """Return a."""\n    return a\n', "t.py")
    spec = write(f"""
        lmprog: 1
        name: p
        inputs: {{a: str}}
        lms: {{lm: {{model: openai/x}}}}
        tools: {{w: {{python: "./t.py:f"{effects}}}, other: {{python: "./t.py:f"}}}}
        modules:
          ask:
            lm: lm
            inputs: {{a: str}}
            outputs: {{b: str}}
            max_turns: 3
            tools: [w]{ignored}
        steps:
          ask: {{module: ask, with: {{a: "${{{{ inputs.a }}}}"}}, retry: 2}}
          other: {{tool: other, with: {{a: "${{{{ steps.ask.b }}}}"}}}}
        outputs: {{o: "${{{{ steps.other.result }}}}"}}
    """)
    compiled = compile_file(spec)
    assert [finding.code for finding in compiled.findings] == codes
    assert compiled.plan is not None
    assert writes(compiled.plan) == written
    assert compiled.plan.tools["other"].effects == "read"  # steps alone call it
