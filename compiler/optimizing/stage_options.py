"""The check of a stage's options against what its optimizer declares: a pydantic Config, or its JSON schema."""

from __future__ import annotations

from collections.abc import Mapping as Map
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.fitting import fit
from lmprog.compiler.optimizing.contract import Facts, facts_of
from lmprog.compiler.schema.option_schema import shape_of
from lmprog.compiler.shape import Record
from lmprog.compiler.yaml.source import Mapping, Place


def check_options(draft: Draft, name: str, place: Place, options: Mapping | None) -> None:
    """Report an optimizer `name` that is not installed (LMP103), and options or values that it does not take (LMP101).

    `options` None: the stage is written without options, so that only required ones are missed. `place` is that of the
    stage's name. Options that leave nothing to compare have a finding of another check, and are passed over. Called only
    where the draft has `stage_configs`.
    """
    assert draft.options.stage_configs is not None
    config = draft.options.stage_configs(name)
    if config is None:
        fix = suggestion(name, draft.options.stage_names(), "optimizers")
        draft.report.add("LMP103", place, f"there is no optimizer `{name}`", fix=fix)
        return
    kept = options.copy() if options is not None else Mapping(place.source, place.line, place.column, {}, {})
    for key, value in list(kept.entries.items()):
        if varies_nothing(facts_of(draft, name), key, value.plain()):
            del kept.entries[key]
    failed = len(draft.report.findings)
    shape = shape_of(_schema(config))
    if isinstance(shape, Record):
        fit(shape, kept, draft.report, f"stage `{name}`")
    if len(draft.report.findings) == failed and not isinstance(config, Map):
        _validate(draft, config, name, place, kept)


def _schema(config: Any) -> Map[str, Any]:
    """Return the JSON schema of a stage's options, from a schema or a pydantic class."""
    schema: Map[str, Any] = config if isinstance(config, Map) else config.model_json_schema()
    return schema


def _validate(draft: Draft, config: Any, name: str, place: Place, options: Mapping) -> None:
    """Report options that the pydantic class `config` refuses, by rules that its schema does not express."""
    from pydantic import ValidationError

    try:
        config.model_validate(options.plain())
    except ValidationError as error:
        for problem in error.errors():
            key = problem["loc"][0] if problem["loc"] else ""
            at = options.entries[key].place if isinstance(key, str) and key in options.entries else place
            where = ".".join(str(part) for part in problem["loc"]) or "options"
            draft.report.add("LMP101", at, f"`{where}` of stage `{name}`: {problem['msg']}")


def defaults(config: Any) -> dict[str, Any]:
    """Return the default values of a stage's options by key, from the optimizer's pydantic class or JSON schema; empty for
    None. A schema gives only the options with a default; of a class a required option has `PydanticUndefined`, and so
    has one whose default a function makes."""
    if config is None:
        return {}
    if isinstance(config, Map):
        return {key: part["default"] for key, part in config.get("properties", {}).items() if "default" in part}
    return {key: field.default for key, field in config.model_fields.items()}


def varies_nothing(facts: Facts, key: str, value: Any) -> bool:
    """Return whether the value of the option `key` leaves a stage without differing runs: `temperature` 0 or `rollouts` 1
    of an optimizer that compares runs of a row. Finding LMP702 reports it."""
    if not facts.compares_runs:
        return False
    return (key == "temperature" and value == 0) or (key == "rollouts" and value == 1)
