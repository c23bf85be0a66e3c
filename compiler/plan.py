"""The plan that the compiler passes to the runtime: frozen and resolved, with nothing left to look up.

A plan holds no secret: `api_key` and the like stay expressions, evaluated against the environment when an LM is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmprog.compiler.lm_plan import BATCH_SHARE as BATCH_SHARE
from lmprog.compiler.lm_plan import LM as LM
from lmprog.compiler.lm_plan import AdapterReference as AdapterReference
from lmprog.compiler.lm_plan import AdapterStore as AdapterStore
from lmprog.compiler.lm_plan import Cache as Cache
from lmprog.compiler.lm_plan import Fleet as Fleet
from lmprog.compiler.lm_plan import Limits as Limits
from lmprog.compiler.lm_plan import Load as Load
from lmprog.compiler.spec_tests import ExampleTest, GateTest
from lmprog.compiler.types.lattice import Type
from lmprog.compiler.types.python_reference import PythonReference

if TYPE_CHECKING:
    from lmprog.compiler.expressions.compiled import Expression
    from lmprog.compiler.templates.compiled import Template


@dataclass(frozen=True)
class Field:
    """A named, typed value: an input or output of a program or module, or a variable of a loop.

    `about` describes it (None: nothing), `default` stands in for it where `has_default`, `private` values may not reach an
    untrusted LM, tool or file, and `declassify` is the reason why an output of a module made of private values does not
    count as private (None: it does).
    """

    type: Type
    about: str | None = None
    private: bool = False
    default: Any = None
    has_default: bool = False
    declassify: str | None = None
    schema: Mapping[str, Any] | None = field(default=None, compare=False)
    """The JSON schema that an argument of a tool was described by, with bounds and formats beyond its type; None where
    there is none."""


@dataclass(frozen=True)
class Tool:
    """A tool as the spec declares it: its id, its kind (`python`, `http`, ...), parameters, the name and type of its
    result, and its limits.

    `python` is the function that it calls (None for other kinds), `settings` are the options of its kind, with
    expressions where they read `env`. Its results are text from outside unless `trusted`; with `effects` `write` it may
    change something, and with `cache` equal calls share a result. `timeout` is in seconds (None: no limit of its own),
    `answer_mb` in megabytes.
    """

    id: str
    kind: str
    """The key of its kind in the spec (`lmprog/compiler/tools/kinds.py`)."""
    python: PythonReference | None
    settings: Mapping[str, Any]
    result: str
    """The name of its one output."""
    type: Type
    parameters: Mapping[str, Field]
    trusted: bool = True
    effects: Literal["read", "write"] = "read"
    timeout: float | None = None
    answer_mb: float = 16.0
    """The longest answer of a server that is read, decoded, in millions of bytes."""
    cache: bool = False
    about: str | None = None
    """The description of the tool that an agent is shown; None where there is none."""
    open: bool = False
    """True if the tool may accept arguments beside `parameters`, because not all of them are known."""


@dataclass(frozen=True)
class Layout:
    """The templates of a module's messages, one a role: `system` (None: no system message), `user`, and `assistant` for
    the replies of demos (None: demos show replies as `format` says).

    `demos_inline`: a template mentions `demos` itself, so that demos get no messages of their own.
    """

    system: Template | None
    user: Template
    assistant: Template | None
    demos_inline: bool = False


@dataclass(frozen=True)
class Module:
    """A prompt with typed inputs and outputs and the id of its LM: the unit that optimizers tune. Steps call it.

    `instructions` are the author's (None: none), `layout` has the templates of its messages, `format` and `decoding`
    say how replies are written and sampled, `retry` how often an unreadable one is asked for again. `nearest` is the
    number of demos that a call is shown, those nearest to its inputs (None: all). `tools` are the ids of an agent's
    tools, and `max_turns` is the most replies of its LM in one call. `adapter` is its own adapter (None: that of the
    LM).
    """

    id: str
    lm: str
    inputs: Mapping[str, Field]
    outputs: Mapping[str, Field]
    layout: Layout
    instructions: str | None = None
    demos: tuple[Mapping[str, Any], ...] = ()
    nearest: int | None = None
    """The number of demos shown to a call, the nearest to its inputs; None for all."""
    format: Literal["text", "fields", "json"] = "text"
    decoding: Literal["free", "constrained"] = "free"
    tools: tuple[str, ...] = ()
    max_turns: int = 1
    retry: int = 0
    adapter: AdapterReference | None = None


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """The action of a step that calls the module of the id `module`; `arguments` are expressions by input."""

    module: str
    arguments: Mapping[str, Expression]


@dataclass(frozen=True, eq=False)
class ToolCall:
    """The action of a step that calls the tool of the id `tool`; `arguments` are expressions by parameter."""

    tool: str
    arguments: Mapping[str, Expression]


@dataclass(frozen=True, eq=False)
class ProgramCall:
    """The action of a step that runs another program, `plan`; `arguments` are expressions by input.

    With `answers` (a member of an ensemble) its outputs are one value, `answer`, which is null where the program fails
    by itself.
    """

    plan: Plan
    arguments: Mapping[str, Expression]
    answers: bool = False
    """True: the outputs are one value, `answer`, which is null where the program fails by itself."""


@dataclass(frozen=True, eq=False)
class Value:
    """The action of a step that only computes an expression."""

    expression: Expression


@dataclass(frozen=True, eq=False)
class Update:
    """An entry of a loop's `next:`: by `verb` the value of `expression` sets a state variable, is appended to it, or is
    a list that extends it; append and extend do nothing for null."""

    verb: Literal["set", "append", "extend"]
    expression: Expression


@dataclass(frozen=True, eq=False)
class Repeat:
    """The action of a step that repeats inner steps, at most as often as `at_most`, an expression over `vars`, says;
    `until` is tested after each turn on the new state (None: all turns are made).

    `start` has the first values of the variables in `state`, `next` their changes after each turn.
    """

    at_most: Expression
    until: Expression | None
    state: Mapping[str, Field]
    start: Mapping[str, Expression]
    steps: tuple[Step, ...]
    next: Mapping[str, Update]


@dataclass(frozen=True, eq=False)
class Foreach:
    """The `foreach` of a step: the list over whose items the step runs, and the most items (`at_most`, None: no limit;
    with more the step fails) and items at a time (`max_parallel`, None: no limit).

    `known` is the most items that the data has (None: not known).
    """

    items: Expression
    at_most: int | None = None
    max_parallel: int | None = None
    known: int | None = None
    """The most items for any row of the data, where the list is made of inputs and the rows are known."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step of the program: its id, its action, and when it runs.

    `after` has the ids of the steps of its level that must end before it starts; `foreach` is the list that it runs for
    (None: once), `when` its condition (None: always), `otherwise` its outputs where that is false (null for each that
    it lacks), `timeout` the most seconds of one try (None: no limit), `retry` the number of further tries, and
    `on_error` its outputs where all tries fail (None: the run fails).
    """

    id: str
    path: str
    """Ids from the top, joined by dots, as `research.query`."""
    action: ModuleCall | ToolCall | ProgramCall | Value | Repeat
    after: frozenset[str] = frozenset()
    when: Expression | None = None
    otherwise: Mapping[str, Expression] = field(default_factory=dict)
    """The values of `else`, by field; empty where the step has none."""
    outputs: Mapping[str, Type] = field(default_factory=dict)
    """The fields that `steps.<id>` has, as others read them (lists under `foreach`, `T?` where it may be skipped)."""
    foreach: Foreach | None = None
    retry: int = 0
    timeout: float | None = None
    on_error: Mapping[str, Expression] | None = None
    """Values by field that stand in for the outputs of a step that failed; None lets the failure end the run."""


@dataclass(frozen=True)
class HubRows:
    """The split `split` of the data set `hf` on the Hugging Face hub (`owner/name`), as data or as the passages of a
    search."""

    hf: str
    split: str


@dataclass(frozen=True)
class Split:
    """A data split, `train`, `dev` or `test`: the file or hub data set of its rows (`source`), and which are taken.

    `columns` has the file's column for a name in the program, `limit` is the most rows (None: all), `private` are the
    private columns, `where` has values that rows must have, `share` is the part of the shuffled rows (by `seed`) that
    is taken, from and to as fractions of 1 (None: all), and the columns `texts` are not read as numbers. `feedback` is
    True where rows have the columns of feedback on earlier runs.
    """

    name: str
    source: Path | HubRows
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name in the program -> column of the file."""
    limit: int | None = None
    private: frozenset[str] = frozenset()
    where: Mapping[str, Any] = field(default_factory=dict)
    """Column of the file -> its value, or a list of values, in the rows that are taken."""
    share: tuple[float, float] | None = None
    """With `part` or `data.fractions`: this split is the part of the shuffled rows between these two fractions."""
    seed: int = 0
    texts: frozenset[str] = frozenset()
    """Columns of the file that the program declares as text: digits in them are no numbers."""
    feedback: bool = False
    """True if the rows have the columns of feedback that `lmprog rows` writes."""

    @property
    def path(self) -> Path | None:
        """The file that holds the rows; None for rows of the hub."""
        return self.source if isinstance(self.source, Path) else None


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric as the spec declares it: its id, the function, judge program or expression that computes it (None: it
    has a finding), and the least and greatest score (`range`).

    `arguments` are the expressions passed to the function or judge; `on_error` is the score where it fails (None: an
    error).
    """

    id: str
    computed_by: PythonReference | Plan | Expression | None
    """A Python function, a program that judges, or an expression; None where it has a finding."""
    arguments: Mapping[str, Expression] = field(default_factory=dict)
    range: tuple[float, float] = (0.0, 1.0)
    on_error: float | None = None

    @property
    def kind(self) -> Literal["python", "program", "value"]:
        """The way in which the score is computed: a Python function (`python`), a judge program (`program`), or an
        expression (`value`, which also stands for a metric with a finding)."""
        if isinstance(self.computed_by, PythonReference):
            return "python"
        return "program" if isinstance(self.computed_by, Plan) else "value"

    @property
    def judge(self) -> Plan | None:
        """The plan of the judge program; None for other kinds of metrics."""
        return self.computed_by if isinstance(self.computed_by, Plan) else None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions of the metric, over a run, its row and other metrics: its arguments, and the one that computes it."""
        by = self.computed_by
        return (*self.arguments.values(), *([] if by is None or isinstance(by, PythonReference | Plan) else [by]))

    @property
    def metrics(self) -> frozenset[str]:
        """The ids of the metrics that its expressions read, not those that these read in turn."""
        read = (path for expression in self.expressions for path in expression.references)
        return frozenset(path[1] for path in read if path[0] == "metrics" and len(path) > 1)


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage of the optimization: the optimizer's name and its options as written (empty: none are). The rounds of an
    `alternate` are stages of their own."""

    optimizer: str
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Optimize:
    """The `optimize:` block: what may change, the rows and metric to measure it by, and the stages.

    `train` and `validate` name splits, `tune` has the parts to tune by module, `budget` has the limits by name (`usd`,
    `minutes`, ...; empty: no limit), `seed` decides all random draws, `proposer` is the id of an LM (None: none),
    `accept` the rule of acceptance, `adapters` says whether an LM's modules share one, `instructions` has instructions
    to try by module, `reward` is the metric that training follows (None: `metric`), and `teachers` are plans by
    path.
    """

    metric: str
    train: str
    validate: str
    tune: Mapping[str, frozenset[str]]
    """Module id -> which of `instructions`, `demos`, `weights`."""
    stages: tuple[Stage, ...]
    budget: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    proposer: str | None = None
    adapters: Literal["per_lm", "per_module"] = "per_lm"
    accept: Literal["composition", "stage", "point"] = "composition"
    """The test on the confirming dev rows: of the program after the last stage, of each stage, or of nothing."""
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reward: str | None = None
    """The metric that training follows; None for `metric`."""
    rewards: Mapping[str, str] = field(default_factory=dict)
    """Module id -> the metric that its training follows, where it is another."""
    teachers: Mapping[str, Plan] = field(default_factory=dict)
    """The programs that stages name as teachers, by the paths as they are written."""
    declassify: str | None = None
    """The reason why demos made of private rows may be in the overlay."""
    report_to: tuple[str, ...] = ()
    """The experiment trackers that follow the optimization."""
    batch: bool = False
    """True if the scorings of whole splits wait for batches of the provider."""


@dataclass(frozen=True, eq=False)
class Export:
    """The `export:` block: the kind of destination of traces (`key`, as `otlp`), and its options."""

    key: str
    """The key of its kind (`lmprog/compiler/exporters.py`)."""
    settings: Mapping[str, Any]
    """The options of its kind, with expressions where the spec uses `env`."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled program: everything resolved and typed, by id, under the names of the spec's blocks. Steps are in an
    order that respects `after`.

    `outputs` are expressions over inputs and steps. `optimize`, `export`, `tuned` (what an overlay says of its making)
    and `description` are None where the spec has none.
    """

    name: str
    path: Path
    inputs: Mapping[str, Field]
    outputs: Mapping[str, Expression]
    output_types: Mapping[str, Type]
    vars: Mapping[str, Any]
    lms: Mapping[str, LM]
    tools: Mapping[str, Tool]
    modules: Mapping[str, Module]
    steps: tuple[Step, ...]
    data: Mapping[str, Split] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    optimize: Optimize | None = None
    tests: tuple[ExampleTest | GateTest, ...] = ()
    export: Export | None = None
    tuned: Mapping[str, Any] | None = None
    members: tuple[Plan, ...] = ()
    """The programs of an ensemble, which differ in their words alone; its steps run them."""
    description: str | None = None
    digest: str = ""
    """The SHA-256 of `meaning`, by which a changed program is told from an equal one."""
    meaning: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The program as one resolved document of plain values, without data, metrics, tests, optimize and tuned."""
    files: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False)
    """Paths that the document may name (Python files of metrics too), by the key that names each, whether they exist or
    not."""
