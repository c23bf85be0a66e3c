"""Messages: the standard layout, an author's layout, demos, earlier turns, and what of them is the same for every row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.compiler import compile_file
from lmprog.compiler.plan import Field, Layout, Module
from lmprog.compiler.prompts.messages import PromptBuilder, standard_layout
from lmprog.compiler.templates.compiled import RenderError, Template
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    JSON,
    MESSAGES,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
)

LABEL = Field(Enum(("x", "y")))


def module(inputs: dict[str, Type], layout: Layout | None = None, **more: Any) -> Module:
    fields = {name: kind if isinstance(kind, Field) else Field(kind) for name, kind in inputs.items()}
    outputs = more.pop("outputs", {"label": LABEL})
    format = more.pop("format", "text")
    layout = layout or standard_layout(fields, outputs, format)
    return Module("m", "lm", fields, outputs, layout, format=format, **more)


def messages(made: Module, inputs: dict[str, Any], **vars: Any) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in PromptBuilder(made, vars).build(inputs).messages]


SAYS = "Reply with the label and nothing else: one of x, y."


def test_one_input_stands_as_it_is() -> None:
    made = module({"text": STR}, instructions="Sort it.\n")
    assert messages(made, {"text": "{{ a }}\n"}) == [("system", f"Sort it.\n\n{SAYS}"), ("user", "{{ a }}\n")]


def test_several_inputs_stand_in_sections() -> None:
    kinds = {"text": STR, "tags": ListOf(STR), "n": INT, "ok": BOOL, "any": JSON, "maybe": Optional(FLOAT)}
    made = module(kinds, instructions="Go.")
    row = {"text": "t", "tags": ["a", "b"], "n": 3, "ok": False, "any": {"é": ['"']}, "maybe": None}
    assert messages(made, row)[1][1] == (
        "<text>t</text>\n<tags>\n- a\n- b\n</tags>\n<n>3</n>\n<ok>false</ok>\n"
        '<any>{"é": ["\\""]}</any>\n<maybe></maybe>'
    )
    assert messages(made, row | {"maybe": 0.5})[1][1].endswith("<maybe>0.5</maybe>")


def test_words_about_inputs_and_outputs_are_said_as_they_are() -> None:
    about = "curly {{ braces }} {% raw %} and 'quotes'"
    outputs = {"reply": Field(STR, about="what {we} say.")}
    made = module({"text": Field(STR, about=about)}, outputs=outputs, instructions="Go.")
    assert messages(made, {"text": "t"})[0] == (
        "system",
        f"Go.\n\ntext: {about}\n\nReply with the reply and nothing else (what {{we}} say).",
    )


def test_without_anything_to_say_there_is_no_system_message() -> None:
    made = module({"text": STR}, outputs={"reply": Field(STR)})
    assert messages(made, {"text": "t"}) == [("user", "t")]


@pytest.mark.parametrize(("format", "answer"), [("fields", "<label>x</label>"), ("json", '{"label": "x"}')])
def test_demos_are_earlier_turns_written_as_the_format_says(format: str, answer: str) -> None:
    made = module({"text": STR}, format=format, demos=({"text": "one", "label": "x"},))
    turns = messages(made, {"text": "two"})
    assert turns[-3:] == [("user", "one"), ("assistant", answer), ("user", "two")]


def test_instructions_and_demos_are_values_and_no_templates() -> None:
    made = module({"text": STR}, instructions="{{ text }}", demos=({"text": "{% x %}", "label": "x"},))
    assert messages(made, {"text": "t"}) == [
        ("system", f"{{{{ text }}}}\n\n{SAYS}"),
        ("user", "{% x %}"),
        ("assistant", "x"),
        ("user", "t"),
    ]


def test_earlier_turns_stand_before_the_row() -> None:
    made = module({"history": MESSAGES, "text": STR}, demos=({"text": "d", "label": "x"},))
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    prompt = PromptBuilder(made, {}).build({"history": history, "text": "t"})
    assert [turn["content"] for turn in prompt.messages] == [SAYS, "d", "x", "a", "b", "t"]
    assert prompt.constant == (3, 0)
    assert PromptBuilder(made, {}).build({"history": [], "text": "t"}).constant == (3, 0)


def test_earlier_turns_end_what_is_constant() -> None:
    layout = Layout(None, Template("Sort: {{ text }}", frozenset({"text"})), None)
    builder = PromptBuilder(module({"history": MESSAGES, "text": STR}, layout), {})
    assert builder.build({"history": [], "text": "t"}).constant == (0, len("Sort: "))
    assert builder.build({"history": [{"role": "user", "content": "a"}], "text": "t"}).constant == (0, 0)


LAYOUT = """
lmprog: 1
inputs: {text: str}
vars: {house: Acme}
lms: {lm: {model: openai/none}}
modules:
  m:
    lm: lm
    inputs: {text: str}
    outputs: {reason: str, label: {enum: [x, y]}}
    instructions: Sort.
    demos: [{text: one, reason: since, label: x}]
    prompt:
      system: "{{ vars.house }}: {{ instructions }}"
      user: "Text: {{ text | upper }}"
      assistant: "{{ reason }} => <label>{{ label }}</label>"
"""


@pytest.fixture
def layout_module(write: Callable[..., Path]) -> Callable[[str], Module]:
    def make(text: str) -> Module:
        compilation = compile_file(write(text))
        assert compilation.plan is not None, compilation.findings
        return compilation.plan.modules["m"]

    return make


def test_the_authors_layout_renders_demos_and_the_row_alike(layout_module) -> None:
    assert messages(layout_module(LAYOUT), {"text": "two"}, house="Acme") == [
        ("system", "Acme: Sort."),
        ("user", "Text: ONE"),
        ("assistant", "since => <label>x</label>"),
        ("user", "Text: TWO"),
    ]


def test_a_layout_that_mentions_demos_gets_no_turns(layout_module) -> None:
    inline = LAYOUT.replace('"Text: {{ text | upper }}"', '"{% for d in demos %}{{ d.text }}; {% endfor %}{{ text }}"')
    prompt = PromptBuilder(layout_module(inline), {"house": "Acme"}).build({"text": "two"})
    assert [turn["content"] for turn in prompt.messages] == ["Acme: Sort.", "one; two"]
    assert prompt.constant == (1, len("one; "))


def test_a_template_that_cannot_be_rendered_says_so() -> None:
    layout = Layout(None, Template("{{ rows[3] }}", frozenset({"rows"})), None)
    with pytest.raises(RenderError, match="cannot render the prompt"):
        PromptBuilder(module({"rows": ListOf(STR)}, layout), {}).build({"rows": []})


SYSTEMS = st.sampled_from(
    [
        None,
        "Fixed words.",
        "  {{ instructions }}  ",
        "Head {{ text }} tail",
        " \n{{ text }}",
        "{{ instructions }} {{ text }}",
    ]
)
USERS = st.sampled_from(["{{ text }}", "Say: {{ text }}!", "{{ instructions }}{{ text }}", "{{ text }}{{ text }}"])


@given(SYSTEMS, USERS, st.sampled_from(["", " ", "Go. "]), st.lists(st.text(max_size=4), min_size=2, max_size=4))
def test_what_is_called_constant_is_the_same_for_every_row(system, user, instructions, texts) -> None:
    names = frozenset({"text", "instructions"})
    layout = Layout(
        None
        if system is None
        else Template(system, names & frozenset(system.replace("{", " ").replace("}", " ").split())),
        Template(user, names),
        None,
    )
    builder = PromptBuilder(module({"text": STR}, layout, instructions=instructions), {})
    heads = set()
    for text in texts:
        prompt = builder.build({"text": text})
        whole, characters = prompt.constant
        turns = [(turn["role"], turn["content"]) for turn in prompt.messages]
        assert characters <= len(turns[whole][1])
        heads.add((*turns[:whole], turns[whole][0] if characters else None, turns[whole][1][:characters]))
    assert len(heads) == 1


def test_the_constant_part_reaches_as_far_as_it_can() -> None:
    layout = Layout(Template("Be brief.", frozenset()), Template("Sort this: {{ text }}", frozenset({"text"})), None)
    made = module({"text": STR}, layout, demos=({"text": "d", "label": "x"},))
    assert PromptBuilder(made, {}).build({"text": "t"}).constant == (3, len("Sort this: "))


def test_demos_of_a_chat_keep_their_turns_and_a_chat_alone_gets_no_empty_turn() -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "bye"},
    ]
    for inputs, row, last in (
        ({"chat": MESSAGES}, {"chat": turns}, []),
        ({"chat": MESSAGES, "q": STR}, {"chat": turns, "q": "why"}, [{"role": "user", "content": "why"}]),
    ):
        made = module(inputs, outputs={"a": Field(STR)}, instructions="Say.", demos=({**row, "a": "so"},))
        built = PromptBuilder(made, {}).build(row).messages
        assert list(built[1:]) == [*turns, *last, {"role": "assistant", "content": "so"}, *turns, *last]


def test_an_optional_field_that_is_absent_is_null_in_a_template_and_not_shown() -> None:
    page = Object((("title", STR), ("about", Optional(STR))))
    layout = Layout(
        None,
        Template("{{ page.about }}{{ pages[0].about or '-' }} {{ page|tojson }}", frozenset({"page", "pages"})),
        None,
        False,
    )
    made = module({"page": page, "pages": ListOf(page)}, layout)
    given = {"page": {"title": "a"}, "pages": [{"title": "b"}]}
    assert messages(made, given) == [("user", 'None- {"title": "a"}')]
    wrong = Layout(None, Template("{{ page.other }}", frozenset({"page"})), None, False)
    with pytest.raises(RenderError):
        messages(module({"page": page}, wrong), {"page": {"title": "a"}})


@pytest.mark.parametrize("kind", [ListOf(IMAGE), Optional(ListOf(IMAGE)), ListOf(Optional(IMAGE))])
def test_a_list_of_images_stands_beside_the_text(kind: Type) -> None:
    made = PromptBuilder(module({"text": STR, "pictures": kind}), {})
    (_, user) = made.build({"text": "t", "pictures": ["data:image/png;base64,AA"]}).messages
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert made.build({"text": "t", "pictures": None}).messages[1]["content"] == "t"


def test_line_breaks_at_the_end_of_the_instructions_are_not_shown() -> None:
    shown = [
        PromptBuilder(module({"text": STR}, instructions=f"Sort.{end}"), {}).build({"text": "a"}).messages[0]["content"]
        for end in ("", "\n", "\n\n  \n")
    ]
    assert shown == ["Sort.\n\nReply with the label and nothing else: one of x, y."] * 3
