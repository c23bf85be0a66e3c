"""The shape of an entry of `steps`."""

from __future__ import annotations

from dataclasses import replace

from lmprog.compiler.optimizing.language import ARGUMENTS, VALUE
from lmprog.compiler.shape import Anything, Either, Expr, Lazy, ListOf, MapOf, Number, Record, Shape, Text
from lmprog.compiler.types.shapes import TYPE

_CALLS = ("module", "tool", "program")
STEPS = Lazy(lambda: _STEPS, "steps")
_REPEAT = Either(
    scalar=Expr(),
    mapping=Record(
        {
            "until": Expr(
                about="Stops after a turn when true; it sees the new state, the steps of the turn and `loop`.",
                default="the loop makes all its turns",
                example="steps.critique.score >= 8",
            ),
            "at_most": Expr(
                about="The bound: a number, or an expression over `vars`.",
                default="a finding (LMP301)",
                example="4",
            ),
        }
    ),
    about="A bounded loop: N, or {until, at_most}.",
    example="{until: steps.critique.score >= 8, at_most: 3}",
)
_STATE = Record(
    {
        "type": Lazy(TYPE.shape, TYPE.name, about="Its type.", example='"list[str]"'),
        "start": replace(VALUE, about="Its value before the first turn.", example="[]"),
        "about": Text(about="What it is.", default="nothing is said of it", example="The notes so far."),
    },
    required=("type", "start"),
)
_NEXT = Record(
    {
        "set": replace(VALUE, about="The new value.", example="${{ steps.critique.score }}"),
        "append": replace(
            VALUE,
            about="One more item of a list; an absent one is skipped.",
            example="${{ steps.critique.note }}",
        ),
        "extend": replace(
            VALUE, about="More items of a list; an absent list is skipped.", example="${{ steps.find.titles }}"
        ),
    },
    one_of=("set", "append", "extend"),
    instead="write {set: ...}",
)
STEP = Record(
    {
        "module": Text(about="Call a module.", example="classify"),
        "tool": Text(about="Call a tool.", example="find"),
        "program": Text(about="Run another program file.", example="./critic.yaml"),
        "value": Anything(about="One expression; read as steps.<id>.value.", example="first(inputs.topics) or 'none'"),
        "repeat": _REPEAT,
        "with": replace(
            ARGUMENTS,
            about="Arguments by name: plain values or ${{ expressions }}.",
            default="none",
            example='{text: "${{ inputs.text }}"}',
        ),
        "lms": MapOf(
            Text(),
            "model",
            about="Rebinds the models of a sub-program: its id -> an id of this one.",
            default="those of the sub-program",
            example="{critic: student}",
        ),
        "foreach": Expr(
            about="A list: one call for each item, which is `item`; the outputs become lists in its order.",
            default="one call",
            example="${{ inputs.topics }}",
        ),
        "at_most": Number(
            whole=True,
            least=1,
            about="Most items of foreach; a longer list fails the step.",
            default="no bound, so that the worst case is unknown",
            example="20",
        ),
        "max_parallel": Number(
            whole=True,
            least=1,
            about="Most calls of foreach at the same time.",
            default="all of them",
            example="4",
        ),
        "state": MapOf(
            _STATE,
            "state variable",
            about="The values that go from turn to turn: the outputs of the loop.",
            default="none",
            example='{notes: {type: "list[str]", start: []}}',
        ),
        "steps": replace(
            STEPS, about="The steps of one turn.", default="none", example="{search: {tool: find, with: {query: tea}}}"
        ),
        "next": MapOf(
            _NEXT,
            "state variable",
            about="How each turn changes the state.",
            default="the state stays as it is",
            example='{notes: {append: "${{ steps.critique.note }}"}}',
        ),
        "when": Expr(
            about="The step runs only if this is true; without `else` its outputs are then absent.",
            default="it always runs",
            example="len(inputs.topics) > 1",
        ),
        "else": replace(
            ARGUMENTS, about="Its outputs where `when` is false.", default="they are absent", example="{label: other}"
        ),
        "needs": ListOf(
            Text(),
            about="Steps that must have ended before: order without data.",
            default="those that it reads",
            example="[find]",
        ),
        "retry": Number(
            whole=True,
            least=0,
            about="Further tries after a failure; none after a call of a tool that writes.",
            default="0",
            example="2",
        ),
        "timeout": Number(above=0, about="Seconds of one try of the whole step.", default="no limit", example="30"),
        "on_error": replace(
            ARGUMENTS,
            about="Its outputs where it fails, whatever the cause; `run`, `eval` and `test` count the runs that it answered.",
            default="a failure ends the run",
            example="{label: other}",
        ),
    },
    one_of=("module", "tool", "program", "value", "repeat"),
    only={
        **dict.fromkeys(("with", "foreach", "at_most", "max_parallel"), _CALLS),
        **dict.fromkeys(("state", "steps", "next"), ("repeat",)),
        "lms": ("program",),
    },
)
_STEPS: Shape = MapOf(STEP, "step", about="The graph; references between steps make its edges.")
