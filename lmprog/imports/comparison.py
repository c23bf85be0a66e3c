"""The comparison of a converted prompt with its original: both are rendered on the same values, and compared by message."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler import compile_file
from lmprog.compiler.prompts.messages import PromptBuilder, content_text
from lmprog.compiler.templates.compiled import RenderError
from lmprog.compiler.types.lattice import FLOAT, INT, JSON, STR, Type
from lmprog.compiler.types.samples import combinations, samples
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.compiler.yaml.writer import dump, unwritable
from lmprog.imports.original import Message, NotRendered, Original

_MAX_TRIALS = 6
"""The most sets of made-up values on which one prompt is compared."""
_SHOWN = 40
"""The characters of a prompt that a note shows from the first difference on."""


@dataclass(frozen=True)
class Trial:
    """The values for one comparison of a converted prompt with its original: `theirs` by the variables of the original,
    `ours` by the inputs of the converted module, where some have other names or are JSON texts.
    """

    theirs: Mapping[str, Any]
    ours: Mapping[str, Any]


def made_up(types: Mapping[str, Type], *, escaped: bool = False) -> Iterator[dict[str, Any]]:
    """Yield at most 6 mappings of made-up values by name, with these types: first ordinary values, then others (empty,
    false, absent) that take other branches of a template. Texts are never empty.

    With `escaped`, for a template that writes JSON, texts have characters that Jinja escapes there.
    """
    choices: dict[str, Sequence[Any]] = {}
    for name, kind in types.items():
        values = samples(kind) or [""]
        if kind == JSON and escaped:
            values.insert(0, {"b": "T", "a": 1})  # Jinja sorts the keys, too.
        values = values[:1] if kind in (STR, INT, FLOAT) else values[:3]
        choices[name] = [_worded(value, escaped) for value in values]
    for chosen in combinations(choices, _MAX_TRIALS):
        yield copy.deepcopy(chosen)


def _worded(value: Any, escaped: bool) -> Any:
    """Return a value with `T` in place of each empty text, since other tools leave out a message that is empty; with
    `escaped` all its texts end with characters that Jinja escapes in JSON.
    """
    if isinstance(value, dict):
        return {name: _worded(item, escaped) for name, item in value.items()}
    if isinstance(value, list):
        return [_worded(item, escaped) for item in value]
    return value if not isinstance(value, str) else f"{value or 'T'} <é>" if escaped else value or "T"


def difference(id: str, module: Mapping[str, Any], original: Original, trials: Sequence[Trial]) -> str | None:
    """Return a sentence on the first difference between the messages (roles and texts, without images) of a converted module
    and those of the original, or on the failure to render one of the two; None where they are equal in all `trials`.

    `id` and `module` are the module's name and its entry in the spec. None too where `check` finds errors in the module,
    which the check of the whole program reports.
    """
    builder = _builder(id, module)
    if builder is None:
        return None
    defaults = {name: field.default for name, field in builder.module.inputs.items() if field.has_default}
    for trial in trials:
        try:
            theirs = original.messages(trial.theirs)
        except NotRendered as error:
            return f"the original could not be rendered to compare: {error}"
        try:
            built = builder.build({**defaults, **trial.ours}).messages
        except (RenderError, KeyError, TypeError) as error:
            return f"it could not be rendered to compare: {error}"
        ours = [(str(message["role"]), _text_alone(message["content"])) for message in built]
        if ours != theirs:
            return _in_words(theirs, ours)
    return None


def _text_alone(content: Any) -> str:
    """Return the text of a message's content, without its images: the original's text has none either."""
    return content_text([part for part in content if "text" in part] if isinstance(content, list) else content)


def _builder(id: str, module: Mapping[str, Any]) -> PromptBuilder | None:
    """Return the builder of the prompts of the module `id`, compiled in a program of its own without running user code; None
    where it has errors.
    """
    program = {
        "lmprog": 1,
        "name": id,
        "lms": {str(module["lm"]): {"model": "openai/none"}},
        "modules": {id: dict(module)},
    }
    if unwritable(program) is not None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.yaml"
        write_whole(path, dump(program))
        plan = compile_file(path, imports=False).plan
    try:
        return PromptBuilder(plan.modules[id], plan.vars) if plan is not None else None
    except RenderError:
        return None


def _in_words(theirs: list[Message], ours: list[Message]) -> str:
    """Return a sentence on the first difference between two unequal lists of messages: their roles, else the place in a
    text.
    """
    if [role for role, _ in theirs] != [role for role, _ in ours]:
        there, here = (", ".join(role for role, _ in sent) or "none" for sent in (theirs, ours))
        return f"the original sends the messages {there}; this sends {here}"
    number = next(place for place, (one, other) in enumerate(zip(theirs, ours, strict=True)) if one != other)
    (role, there), (_, here) = theirs[number], ours[number]
    place = next(
        (at for at, (one, other) in enumerate(zip(there, here, strict=False)) if one != other),
        min(len(there), len(here)),
    )
    line, column = there.count("\n", 0, place) + 1, place - (there.rfind("\n", 0, place) + 1) + 1
    shown = " and here ".join(_shown(text, place) for text in (there, here))
    return f"message {number + 1} ({role}) first differs in line {line}, column {column}: there {shown}"


def _shown(text: str, place: int) -> str:
    """Return the piece of a text that begins at `place`, quoted; the words `its end` where nothing is left there."""
    piece = text[place : place + _SHOWN]
    return f"{piece!a}{'...' if len(text) > place + _SHOWN else ''}" if piece else "its end"
