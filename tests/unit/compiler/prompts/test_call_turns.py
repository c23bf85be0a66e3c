"""Demos of agents with their tool calls, as turns of the prompt: natively, in words, and in a layout of the author's own."""

from __future__ import annotations

from typing import Any

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.prompts.messages import builder_of, message_text

SPEC = """
lmprog: 1
lms: {{m: {{model: openai/none, tool_protocol: {protocol}}}}}
tools:
  find: {{http: {{url: "https://x.example.com/{{order}}", inputs: {{order: str}}, output: {{days: int}}}}}}
  note: {{http: {{url: "https://x.example.com/note/{{order}}", inputs: {{order: str}}, output: str}}}}
modules:
  ask:
    inputs: {{q: str}}
    outputs: {{a: str}}
    instructions: Answer.
    tools: [find, note]
    demos:
      - q: Where are A1 and B2?
        tool_calls:
          - - {{tool: find, arguments: {{order: A1}}, result: {{days: 2}}}}
            - {{tool: note, arguments: {{order: B2}}, result: late}}
          - {{tool: gone, arguments: {{}}, error: there is no tool 'gone'}}
        a: A1 comes in 2 days.
      - {{q: Hello?, a: Hello.}}
{more}
"""


def messages(write, protocol: str, more: str = "") -> list[dict[str, Any]]:
    compiled = compile_file(write(SPEC.format(protocol=protocol, more=more)))
    assert compiled.plan is not None, compiled.findings
    module = compiled.plan.modules["ask"]
    return list(builder_of(compiled.plan, module).build({"q": "And C3?"}).messages)


def test_natively(write) -> None:
    system, *turns = messages(write, "native")
    assert system == {"role": "system", "content": "Answer."}
    asked = [
        {"id": "demo0_0_0", "type": "function", "function": {"name": "find", "arguments": '{"order": "A1"}'}},
        {"id": "demo0_0_1", "type": "function", "function": {"name": "note", "arguments": '{"order": "B2"}'}},
    ]
    gone = {"id": "demo0_1_0", "type": "function", "function": {"name": "gone", "arguments": "{}"}}
    assert turns == [
        {"role": "user", "content": "Where are A1 and B2?"},
        {"role": "assistant", "content": None, "tool_calls": asked},
        {"role": "tool", "tool_call_id": "demo0_0_0", "content": '{"days": 2}'},
        {"role": "tool", "tool_call_id": "demo0_0_1", "content": "late"},
        {"role": "assistant", "content": None, "tool_calls": [gone]},
        {"role": "tool", "tool_call_id": "demo0_1_0", "content": "error: there is no tool 'gone'"},
        {"role": "assistant", "content": "A1 comes in 2 days."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And C3?"},
    ]
    assert message_text(turns[1]) == 'find({"order": "A1"})\nnote({"order": "B2"})'


@pytest.mark.parametrize("more", ["", '    prompt: {system: "{{ instructions }}", user: "{{ q }}"}'])
def test_in_words(write, more: str) -> None:
    system, *turns = messages(write, "text", more)
    assert system["content"].startswith("Answer.\n\nYou can call tools")
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("user", "Where are A1 and B2?"),
        (
            "assistant",
            '<call>{"tool": "find", "arguments": {"order": "A1"}}</call>\n'
            '<call>{"tool": "note", "arguments": {"order": "B2"}}</call>',
        ),
        ("user", '<result tool="find">{"days": 2}</result>\n<result tool="note">late</result>'),
        ("assistant", '<call>{"tool": "gone", "arguments": {}}</call>'),
        ("user", "<error tool=\"gone\">there is no tool 'gone'</error>"),
        ("assistant", "A1 comes in 2 days."),
        ("user", "Hello?"),
        ("assistant", "Hello."),
        ("user", "And C3?"),
    ]


def test_a_layout_that_shows_demos_itself_has_no_turns_of_calls(write) -> None:
    more = '    prompt: {system: "{% for demo in demos %}{{ demo.q }}{% endfor %}", user: "{{ q }}"}'
    assert [turn["role"] for turn in messages(write, "native", more)] == ["system", "user"]
