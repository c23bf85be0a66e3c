"""The options of an optimizer's stage against the pydantic Config that the optimizer declares."""

from __future__ import annotations

from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings import Edit, nearest
from lmprog.compiler.source import Mapping, Node, Place, Sequence


def check_options(draft: Draft, name: str, place: Place, options: Mapping | None) -> None:
    """Report options that the optimizer `name` does not take, and an optimizer that does not exist."""
    assert draft.options.stage_configs is not None
    config = draft.options.stage_configs(name)
    if config is None:
        draft.report.add("LMP103", place, f"there is no optimizer `{name}`", fix="lmprog optimize --help lists them")
        return
    if options is None and not any(field.is_required() for field in config.model_fields.values()):
        return
    from pydantic import ValidationError

    values = {
        key: value
        for key, value in (options.plain() if options is not None else {}).items()
        if not varies_nothing(name, key, value)
    }
    unknown = [key for key in values if key not in _names(config)]
    for key in unknown:
        assert options is not None
        at = options.key_place(key)
        close = nearest(key, _names(config))
        edit = Edit(at.line, at.column, at.column + len(key), close) if close else None
        fix = f"did you mean `{close}`?" if close else f"options: {', '.join(sorted(_names(config)))}"
        draft.report.add("LMP101", at, f"the optimizer `{name}` has no option `{key}`", fix=fix, edit=edit)
    try:
        config.model_validate({key: value for key, value in values.items() if key not in unknown})
    except ValidationError as error:
        for problem in error.errors():
            at = _place(options, problem["loc"], place)
            where = ".".join(str(part) for part in problem["loc"]) or "options"
            draft.report.add("LMP101", at, f"`{where}` of stage `{name}`: {problem['msg']}")


def varies_nothing(optimizer: str, key: str, value: Any) -> bool:
    """Whether this is one of the options that make `grpo` learn nothing: a finding of its own (702)."""
    if optimizer != "grpo":
        return False
    return (key == "temperature" and value == 0) or (key == "rollouts" and value == 1)


def _names(config: Any) -> set[str]:
    return {name for key, field in config.model_fields.items() for name in (key, field.alias) if name}


def _place(node: Node | None, where: tuple[Any, ...], otherwise: Place) -> Place:
    found = otherwise
    for part in where:
        if isinstance(node, Mapping) and isinstance(part, str) and part in node.entries:
            node = node.entries[part]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            break
        found = node.place
    return found
