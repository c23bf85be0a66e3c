"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

SPEC = click.argument("spec", type=click.Path(path_type=Path))


NO_IMPORT = click.option(
    "--no-import",
    is_flag=True,
    help="Run no user code and read nothing outside the checkout (or folder) of the file: for what nobody has looked at yet.",
)

BUDGET = click.option(
    "--budget", "budget", multiple=True, metavar="K=V", help="A limit: lm_calls, tokens, usd, minutes, ..."
)


def overriding(command: F) -> F:
    """`--lm ID=MODEL` and `--set PATH=VALUE`, as `lms` and `overrides`."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        callback=_overrides,
        help="Override any key of the program, as data.train=rows.jsonl or lms.student.params.max_tokens=64.",
    )(command)
    return click.option(
        "--lm",
        "lms",
        multiple=True,
        metavar="ID=MODEL",
        callback=_lms,
        help="Use another model for an LM of the program, as student=openai/gpt-4.1-mini.",
    )(command)


def output_format(*choices: str) -> Callable[[F], F]:
    """`--format`, the first choice being the default."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="json prints one JSON document on standard output, and nothing else there.",
    )


def limits_of(values: Sequence[str]) -> dict[str, float]:
    """`--budget` as limits by name. Raises click.BadParameter."""
    found = {}
    for name, text in pairs("--budget", values).items():
        try:
            found[name] = float(text)
        except ValueError:
            raise click.BadParameter(f"--budget {name} wants a number, not {text!r}") from None
    return found


def budget_of(values: Sequence[str]) -> Any:
    """`--budget` as a Budget."""
    from lmprog.budget import Budget

    return Budget(limits_of(values))


def metric_of(plan: Any, named: str | None) -> str:
    """`--metric`, or the one that the program means. Raises click.UsageError where that is not clear."""
    if named is not None:
        return named
    if plan.optimize is not None:
        return str(plan.optimize.metric)
    if len(plan.metrics) == 1:
        return str(next(iter(plan.metrics)))
    raise click.UsageError(f"say which metric with --metric: {', '.join(plan.metrics) or 'the program has none'}")


def once(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> str | None:
    """Return the one value of an option; raise click.BadParameter where it is given more than once, and one would be lost."""
    if len(values) > 1:
        raise click.BadParameter("it is given more than once; score by one metric at a time")
    return values[0] if values else None


def pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """`k=v` strings as a mapping. Raises click.BadParameter."""
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{option} wants NAME=VALUE, not {value!r}")
        found[key] = text
    return found


def as_value(text: str) -> Any:
    """What a value on the command line is in a spec: read as YAML."""
    from lmprog.compiler.findings import Report
    from lmprog.compiler.source import Source
    from lmprog.compiler.yaml_reader import parse

    node = parse(Source(Path.cwd(), "the command line", text, Path.cwd()), Report())
    if node is None:
        raise click.BadParameter(f"{text!r} cannot be read as YAML; quote it")
    return node.plain()


def _lms(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    return pairs("--lm", values)


def _overrides(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    return {key: as_value(text) for key, text in pairs("--set", values).items()}


ALLOW_WRITES = click.option(
    "--allow-writes", is_flag=True, help="Let tools that write be called: they change something outside at every run."
)
