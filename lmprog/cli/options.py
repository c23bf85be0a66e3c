"""Command-line options that several verbs share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lmprog.compiler.types.lattice import Type

F = TypeVar("F", bound=Callable[..., Any])

SPEC = click.argument("spec", type=click.Path(path_type=Path))
"""The argument SPEC of a verb for one program, passed to it as `spec`."""

NO_IMPORT = click.option(
    "--no-import",
    is_flag=True,
    help="Run no user code and read nothing outside the checkout (or folder) of the file: for what nobody has looked at yet.",
)

BUDGET = click.option(
    "--budget", "budget", multiple=True, metavar="K=V", help="A limit: lm_calls, tokens, usd, minutes, ..."
)


def placed(command: F) -> F:
    """Decorate a command with `--on PLACE` and `--workers N`, which say where runs are made, passed to it as `on` and
    `workers` (None: not given; runs are then made in this process, or by one worker a CPU)."""
    on = click.option(
        "--on",
        metavar="PLACE",
        help="Make the runs elsewhere: ray (processes of this machine) or ray:ADDRESS (a Ray cluster); default: here.",
    )
    workers = click.option(
        "--workers", type=click.IntRange(1), metavar="N", help="Workers of --on; default: one a CPU."
    )
    return on(workers(command))


def _tags(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Return the values of `--tag` by name: a callback of click. Raises click.BadParameter for a name or value that no tag may
    have.
    """
    from lmprog.traces.tags import problem

    found = pairs("--tag", values)
    if wrong := problem(found):
        raise click.BadParameter(wrong)
    return found


TAGS = click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_tags,
    help="A tag of the runs in traces: session, user, or a name of your own.",
)


def overriding(command: F) -> F:
    """Decorate a command with `--lm ID=MODEL` and `--set PATH=VALUE`, passed to it as `lms` (models by LM) and `overrides`
    (values by dotted path, read as YAML); both are empty where they are not given.
    """
    return click.option(
        "--lm",
        "lms",
        multiple=True,
        metavar="ID=MODEL",
        callback=_lms,
        help="Use another model for an LM of the program, as student=openai/gpt-4.1-mini.",
    )(_setting(command))


def comparing(command: F) -> F:
    """Decorate a command with `--lm ID=MODEL,MODEL` and `--set PATH=VALUE`, passed to it as `lms` (a list of models by LM) and
    `overrides` (values by dotted path, read as YAML); both are empty where they are not given.
    """
    return click.option(
        "--lm",
        "lms",
        multiple=True,
        metavar="ID=MODEL,...",
        callback=_several_lms,
        help="Use another model for an LM of the program, as student=openai/gpt-4.1-mini; several are compared.",
    )(_setting(command))


def _setting(command: F) -> F:
    """Decorate a command with `--set PATH=VALUE`, passed to it as `overrides`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        callback=_overrides,
        help="Override any key of the program, as data.train=rows.jsonl or lms.student.params.max_tokens=64.",
    )(command)


def output_format(*choices: str) -> Callable[[F], F]:
    """Return a decorator that adds `--format`, passed to the command as `style`, with the first of `choices` as the
    default."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="json prints one JSON document on standard output, and nothing else there.",
    )


def also(*choices: str) -> Callable[[F], F]:
    """Return a decorator that adds `--also FORMAT=FILE`, passed to the command as `also`, a mapping from formats to
    files; a format that is not among `choices` is refused."""

    def files(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, Path]:
        found = pairs("--also", values)
        strange = next((name for name in found if name not in choices), None)
        if strange is not None:
            raise click.BadParameter(f"there is no format {strange!r}; it is one of {', '.join(choices)}")
        return {name: Path(file) for name, file in found.items()}

    return click.option(
        "--also",
        multiple=True,
        metavar="FORMAT=FILE",
        callback=files,
        help=f"Write the same to a file in another format too: {', '.join(choices)}.",
    )


def limits_of(values: Sequence[str]) -> dict[str, float]:
    """Return the values of `--budget` (`NAME=AMOUNT`) as limits by name. Raises click.BadParameter for an amount that is no
    number, or below 0; names are not checked.
    """
    found = {}
    for name, text in pairs("--budget", values).items():
        try:
            found[name] = float(text)
        except ValueError:
            raise click.BadParameter(f"--budget {name} wants a number, not {text!r}") from None
        if not found[name] >= 0:  # not a number is no limit either
            raise click.BadParameter(f"--budget {name} wants a number of 0 or more, not {text!r}")
    return found


def budget_of(values: Sequence[str]) -> Any:
    """Return the values of `--budget` (`NAME=AMOUNT`) as a Budget, without limits where there are none. Raises
    click.BadParameter for an amount that is none, and UsageError for an unknown name.
    """
    from lmprog.spending.budget import Budget

    return Budget(limits_of(values))


def metric_of(plan: Any, named: str | None) -> str:
    """Return the id of the metric `named` by `--metric`, which is not checked; where it is None, that of `optimize`, else the
    program's only one. Raises click.UsageError where nothing says which of several it is, or the program has none.
    """
    if named is not None:
        return named
    from lmprog.errors import UsageError
    from lmprog.scoring.data import default_metric

    try:
        return default_metric(plan)
    except UsageError:
        known = ", ".join(plan.metrics) or "the program has none"
        raise click.UsageError(f"say which metric with --metric, or several as a,b: {known}") from None


def listed(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Return the values of an option that is repeated or holds several separated by commas, each once, without blanks
    around it: a callback of click, which passes `context` and `parameter`."""
    return tuple(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """Return `NAME=VALUE` strings as a mapping; of equal names the last value counts. Raises click.BadParameter, which names
    the `option`, for a string without `=` or name.
    """
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{option} wants NAME=VALUE, not {value!r}")
        found[key] = text
    return found


def typed(kind: Type, text: str) -> Any:
    """Return the value of a type for its text on the command line: for a string or enum the text itself (None for the text
    `null`, where the value may be absent and the enum has no such value), for any other type the text read as YAML. Raises
    click.BadParameter where it is no YAML.
    """
    from lmprog.compiler.types.lattice import STR, Enum, Optional, without_none

    inner = without_none(kind)
    if inner != STR and not isinstance(inner, Enum):
        return as_value(text)
    absent = text == "null" and isinstance(kind, Optional) and not (isinstance(inner, Enum) and text in inner.values)
    return None if absent else text


def as_value(text: str) -> Any:
    """Return a value typed on the command line, read as YAML. Raises click.BadParameter where it is none."""
    from lmprog.compiler.yaml.reader import value_of

    try:
        return value_of(text, "the command line")
    except ValueError as error:
        raise click.BadParameter(f"{error}; quote it") from None


def _lms(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Return the values of `--lm` as models by LM: a callback of click. Raises click.BadParameter."""
    return pairs("--lm", values)


def _several_lms(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of `--lm` as lists of models by LM, each model once: a callback of click. Raises
    click.BadParameter.
    """
    found: dict[str, list[str]] = {}
    for value in values:
        for id, models in pairs("--lm", [value]).items():
            named = [model.strip() for model in models.split(",")]
            if not all(named):
                raise click.BadParameter(f"--lm wants NAME=MODEL or NAME=MODEL,MODEL, not {value!r}")
            found[id] = list(dict.fromkeys([*found.get(id, ()), *named]))
    return found


def _overrides(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """Return the values of `--set`, read as YAML, by dotted path: a callback of click. Raises click.BadParameter."""
    return {key: as_value(text) for key, text in pairs("--set", values).items()}


ALLOW_WRITES = click.option(
    "--allow-writes", is_flag=True, help="Let tools that write be called: they change something outside at every run."
)
