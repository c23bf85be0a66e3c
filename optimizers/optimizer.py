"""The interface of optimizers, and their discovery: the whole contract with an optimizer of another package.

A package offers an optimizer by an entry point of the group `lmprog.optimizers`, with the name that `stages` uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from lmprog.compiler.optimizing.contract import FILE as OPTIONS
from lmprog.compiler.optimizing.contract import GROUP, built_in, declared
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.errors import LmprogError, UsageError
from lmprog.extras import missing

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

    from lmprog.compiler.plan import Plan
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.finalists import Finalists
    from lmprog.optimizers.journal.files import Journal
    from lmprog.runtime.program import Program
    from lmprog.spending.budget import Budget

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """The input of an optimizer. The test split is not in it.

    `program` is the best so far, and its LM calls are charged to `budget`; an optimizer that calls an LM by itself must
    wrap it by `budget.meter`. What may be tuned is in `program.plan.optimize`. `train` rows are for learning, `dev`
    rows (those that choose, `staged/dev_split.py`) for choosing between candidates by `metric`. All random draws
    follow from `seed`. `screened` are all dev rows of the spec, which instructions must not quote; an optimizer that
    runs them makes the test of its choice worthless. Files are written under `journal.folder`. `finalists` returns the
    programs that earlier stages have scored, for `ensemble` (None: the task was made by hand, outside of a run of stages).
    """

    program: Program
    train: Sequence[Row]
    dev: Sequence[Row]
    metric: str
    budget: Budget
    journal: Journal
    seed: int
    screened: Sequence[Row] = ()
    finalists: Callable[[], Finalists] | None = None

    def tell_spending(self) -> None:
        """Send the amounts spent and the limits to the listeners of the journal, which show them beside the next
        event."""
        self.journal.tell("spending", spent=self.budget.spent.as_json(), limits=dict(self.budget.limits))


@runtime_checkable
class Optimizer(Protocol):
    """The interface of an optimizer, made with its `Config`: the options that a spec gives its stage.

    An optimizer may also have these methods and attributes, by which its cost is bounded:

    - `other_runs(program)`: the plans of other programs that it runs, each with the largest number of its runs; their calls
      are part of `most_calls`.
    - `results(program)`: changes to the program that stand for the candidates that it tries, where a run of a candidate may
      make more calls than one of the program (ensembles). Each is scored on all choosing rows at most once, and the last
      has the most calls.
    - `most_proposals(program, train, dev)`: how many of `most_calls` are the proposer's at most; the others are then
      counted as calls of whole runs of the program. Without it `--dry-run` gives each call, but those of the runs that
      `runs` counts, the price of the program's dearest call.
    - `fees(program, run, train)`: what providers are paid for training, where `run` bounds the LM calls of one run.
    - `packages`: the packages that it needs, by import name, or a static method that returns them for a plan.

    It may declare these facts, by which `lmprog check` checks a stage and its cost (those of built-in optimizers are in
    OPTIONS):

    - `tunes`: the parts of modules that it changes, of instructions, demos, layout and weights. `optimize.tune` must name
      weights, if it tunes them, and one of the other parts, if it tunes any of these.
    - `needs_proposer`: True if it cannot work without `optimize.proposer`.
    - `takes_teachers`: True if its option `teachers` is a list of programs, as of `grpo`; their plans are then in
      `plan.optimize.teachers`.
    - `compares_runs`: True if it learns from the differences between the runs of a row. Those of its options that are named
      as options of `grpo` or `sft` then mean the same, and are checked as those are.
    - `finetunes`: the names of its options that apply where a provider trains the weights (`Backend.finetunes`), among them
      `job`, the settings of the fine-tuning job. Without them it trains in this process alone.
    - `runs(options, train, dev)`, a static method: the most runs of the program for so many rows; `options` are those in
      the spec, with defaults for the others.
    - `lm_calls(plan, options, train, dev)`, a static method: the most LM calls, those of teachers and of the proposer included,
      which `most_calls` of built-in optimizers returns too. Without it `lmprog check` counts the calls of `runs` alone.
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any) -> None: ...

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """Return the largest number of LM calls that `optimize` can make with `train` train rows and `dev` choosing dev rows,
        judges, teachers and proposers included, for `--dry-run`."""
        ...

    def optimize(self, task: Task) -> Candidate:
        """Return the change to `task.program` with the best score on `task.dev`; an empty Candidate where none is better.

        Called in a thread without an event loop. The caller tests, on other rows, whether the change is a gain. Raises
        BudgetExceeded where a spent budget leaves it without a result, as before any candidate was scored: the stage
        then changes nothing. Any other exception ends the optimization.
        """
        ...


BUILT_IN = {
    "bootstrap": "lmprog.optimizers.bootstrap:Bootstrap",
    "ensemble": "lmprog.optimizers.ensemble:Ensemble",
    "fast_slow": "lmprog.optimizers.fast_slow:FastSlow",
    "gepa": "lmprog.optimizers.gepa:GEPA",
    "prompt_search": "lmprog.optimizers.prompt_search:PromptSearch",
    "grpo": "lmprog.optimizers.grpo:GRPO",
    "sft": "lmprog.optimizers.sft:SFT",
}
"""The built-in optimizers by name, as `module:class`; listed here, since a scan of installed entry points would be a good
part of the time of `lmprog check`."""


def installed() -> dict[str, EntryPoint]:
    """Return the entry points of all optimizers by name, those of other packages included; nothing is imported. An optimizer
    of another package cannot take the name of a built-in one."""
    from importlib.metadata import EntryPoint

    return _of_other_packages() | {name: EntryPoint(name, home, GROUP) for name, home in BUILT_IN.items()}


@cache
def _of_other_packages() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def find(name: str) -> type[Optimizer]:
    """Return the class of the optimizer that `stages` calls `name`; its module is imported.

    Raises UsageError where none of this name is installed, MissingExtra (a UsageError) where one of another package needs an
    extra of lmprog, and LmprogError where its import fails otherwise.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        built_in: type[Optimizer] = getattr(import_module(module), attribute)
        return built_in
    known = installed()
    if name not in known:
        raise UsageError(f"there is no optimizer {name!r}; installed are {', '.join(sorted(known))}")
    return _loaded(known[name])


def packages_of(name: str, plan: Plan) -> Sequence[str]:
    """Return the packages, by import name, that the optimizer `name` needs to work on a plan; empty where it names
    none. Raises the errors of `find`.
    """
    packages = getattr(find(name), "packages", ())
    found: Sequence[str] = packages(plan) if callable(packages) else packages
    return found


def options_of(name: str) -> Mapping[str, Any] | type[BaseModel] | None:
    """Return the options of an optimizer for the compiler: the JSON schema (a dictionary) of a built-in one's Config,
    or the Config class of one of another package.

    None where it is not installed, or lacks an extra. The schemas of built-in ones are kept in the file OPTIONS: building
    the model takes as long as all the rest of a check. Raises LmprogError where one of another package cannot be imported.
    """
    if name in BUILT_IN and name in built_in():
        kept: Mapping[str, Any] = built_in()[name].options
        return kept
    try:
        return find(name).Config
    except UsageError:
        return None


def written_options() -> str:
    """Return the text of the file OPTIONS, made from the classes; `python -m lmprog.optimizers.optimizer` writes it."""
    return json.dumps({name: _written(find(name)) for name in sorted(BUILT_IN)}, indent=1) + "\n"


def _written(optimizer: type[Optimizer]) -> dict[str, Any]:
    facts = declared(optimizer)
    return {
        **vars(facts),
        "options": optimizer.Config.model_json_schema(),
        "tunes": sorted(facts.tunes or ()),
        "finetunes": sorted(facts.finetunes),
        "runs": _place(facts.runs),
        "lm_calls": _place(facts.lm_calls),
    }


def _place(function: Any) -> str | None:
    return f"{function.__module__}:{function.__qualname__}" if callable(function) else None


def _loaded(point: EntryPoint) -> type[Optimizer]:
    """Import and return the optimizer of an entry point. Raises MissingExtra where an extra of lmprog is missing for it, and
    LmprogError where the import fails otherwise, or gives something without a `Config`."""
    try:
        made: type[Optimizer] = point.load()
    except ImportError as error:
        user = f"the optimizer {point.name!r}"
        raise missing(error, user) or LmprogError(
            f"{user} cannot be imported ({error}); install what it needs"
        ) from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise LmprogError(f"the optimizer {point.name!r} cannot be imported ({what}); repair or remove it") from error
    if not hasattr(made, "Config"):
        raise LmprogError(f"the optimizer {point.name!r} ({point.value}) has no `Config`; repair or remove it")
    return made


if __name__ == "__main__":
    write_whole(OPTIONS, written_options())
