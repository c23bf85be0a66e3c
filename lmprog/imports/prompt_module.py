"""The conversion of a prompt of another tool to a module that sends the same messages where that is possible."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import nodes

from lmprog.compiler.prompts.layout import RESERVED
from lmprog.compiler.templates.expressions import Expressions
from lmprog.compiler.templates.types import TemplateTyper
from lmprog.compiler.types.lattice import BOOL, IMAGE, JSON, MESSAGES, STR, ListOf, Object, Optional, Type
from lmprog.imports import jinja_text, roles
from lmprog.imports.comparison import Trial, difference, made_up
from lmprog.imports.original import NotRendered, Original, rendered
from lmprog.imports.shapes import Use, chosen, uses
from lmprog.imports.values import fitted

EARLIER = "earlier"
"""The name of the module's input for the turns that the original has as fixed text."""


@dataclass(frozen=True)
class PromptModule:
    """A converted prompt: `layout`, the entries `instructions` and `prompt` of its module, `types` of its variables by their
    original names, and `names`, the new names of those that had to be renamed.

    `turns` are the variables that hold earlier messages, `earlier` the messages without variables before the last one.
    """

    layout: Mapping[str, Any]
    types: Mapping[str, Type]
    names: Mapping[str, str]
    turns: tuple[str, ...]
    earlier: tuple[Mapping[str, str], ...]
    differs: str | None
    """A sentence on the first difference from the messages of the original; None where they are equal."""

    def name(self, variable: str) -> str:
        """Return the name of the module's input for a variable of the original: the variable's own, unless it was renamed."""
        return self.names.get(variable, variable)

    def inputs(self) -> dict[str, Any]:
        """Return the `inputs` of the module as the spec writes them, types by name; with fixed earlier turns also the input
        EARLIER, of which they are the default.
        """
        fixed = (
            {EARLIER: {"type": "messages", "default": [dict(turn) for turn in self.earlier]}} if self.earlier else {}
        )
        return {**{self.name(name): str(kind) for name, kind in self.types.items()}, **fixed}


@dataclass(frozen=True)
class KnownInputs:
    """The facts known about a prompt's variables, by their original names: the types that its file declares
    (`declared`, as the language writes them; None: none), sample `values`, those passed as JSON text (`as_json`), and
    those that are `images`.

    `fixed` are variables whose parts the template reads and whose value another node gives: their type is `json`, or
    `list[json]` where a list is declared.
    """

    declared: Mapping[str, str | None]
    values: Mapping[str, Any]
    as_json: AbstractSet[str] = frozenset()
    fixed: AbstractSet[str] = frozenset()
    images: Sequence[str] = ()


def prompt_module(
    id: str, original: Original, prompt: roles.RolePrompt, given: KnownInputs, outputs: Mapping[str, Any]
) -> PromptModule:
    """Return the module for a prompt: with the user's text as it is or, if only that sends the messages of the original
    (tried on the samples and on made-up values), with the blanks around it removed. Where neither does, `differs` of
    the module says how the first one differs; else it is None.

    `id` is the module's name, `prompt` the original split into parts, `given` what is known of its variables, and
    `outputs` the outputs of the module as the spec writes them. Variables that have the name of an output, or one with
    a meaning of its own in templates, are renamed.
    """
    used = uses("\n".join(part for part in (prompt.system, prompt.user) if part))
    types: dict[str, Type] = {}
    for name in sorted(prompt.variables):
        if name in given.as_json:
            types[name] = STR
        elif name in given.fixed:
            types[name] = ListOf(JSON) if str(given.declared.get(name)).startswith("list[") else JSON
        else:
            types[name] = chosen(given.declared.get(name), given.values.get(name), used.get(name, Use()))
    types |= dict.fromkeys(prompt.turns, MESSAGES) | dict.fromkeys(given.images, IMAGE)
    taken = {*types, *outputs, EARLIER}
    names = {name: _free(name, taken) for name in types if name in RESERVED or name in outputs or name == EARLIER}
    written = prompt.changed(lambda text: _written(text, original, names, types))
    module = PromptModule(written.layout(), types, names, prompt.turns, prompt.earlier, None)
    trials = _trials(module, prompt, given, used, trims=original.trims)
    differs: str | None = None
    for user in (written.user, f"{{% filter trim %}}{written.user}{{% endfilter %}}"):
        layout = replace(written, user=user).layout()
        found = difference(
            id, {"lm": "model", "inputs": module.inputs(), "outputs": outputs, **layout}, original, trials
        )
        if found is None:
            return replace(module, layout=layout)
        differs = differs or found
    return replace(module, differs=differs)


def turn_messages(loop: str, name: str, value: Any, *, trims: bool) -> list[dict[str, str]]:
    """Return the messages (`role`, `content`), in order, that the template `loop` writes for the value of its variable
    `name`, without empty ones. With `trims` line breaks after blocks are dropped, as the original does. Raises
    NotRendered where the template cannot be rendered for the value.
    """
    text = rendered(loop, {name: value}, trims=trims)
    return [{"role": role, "content": content} for role, content in roles.messages(text, "user")]


def without_images(text: str, images: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Return a template without the marks of the image inputs `images` (`![...]({{ name }})`, or `{{ name }}` alone on a line),
    and the names of those that it had, in the order of `images`. lmprog sends an image beside the text of the user's
    message.
    """
    found = []
    for name in images:
        hole = rf"\{{\{{-?\s*{name}\s*-?\}}\}}"
        text, count = re.subn(rf"!\[[^\]]*\]\({hole}\)|^[ \t]*{hole}[ \t]*$", "", text, flags=re.MULTILINE)
        found += [name] if count else []
    return text, tuple(found)


def _free(name: str, taken: set[str]) -> str:
    """Return a new name made from `name`, `NAME_input` or more, that is not in `taken`, and add it there."""
    found = f"{name}_input"
    while found in taken:
        found += "_"
    taken.add(found)
    return found


def _written(text: str, original: Original, names: Mapping[str, str], types: Mapping[str, Type]) -> str:
    """Return a template of the original as lmprog's templates write it: blanks kept, variables renamed by `names`, values
    printed by their `types` (by original name).
    """
    text = jinja_text.with_blanks_kept(text, trims=original.trims)
    text = jinja_text.renamed(jinja_text.respelled(text), names)
    return _printing_well(text, {names.get(name, name): kind for name, kind in types.items()})


@dataclass
class _Printed(Expressions):
    """A typer of a template's expressions that keeps the type of each printed value in `kinds`, in the order of the text
    (None: nothing is printed).
    """

    kinds: list[Type] | None = None

    def printed(self, node: nodes.Node, kind: Type) -> None:
        """Append the type of a printed value to `kinds`; the typer calls this for each. A filter block prints none of
        its own.
        """
        if not isinstance(node, nodes.FilterBlock):
            self.kinds = [*(self.kinds or ()), kind]


def _printing_well(text: str, types: Mapping[str, Type]) -> str:
    """Return a template with its printed values written so that `check` accepts them: a truth value as Python prints it, one
    that may be absent as nothing, and one with parts as JSON. `types` are those of its variables; unchanged where not every
    printed value has a type.
    """
    typer = TemplateTyper(text, types)
    typer.expressions = printed = _Printed(text, types)
    typer.check()
    kinds = printed.kinds or []
    if len(kinds) != len(list(jinja_text.outputs(text))):
        return text
    changes = {number: change for number, kind in enumerate(kinds) if (change := _change(kind)) is not None}
    return jinja_text.with_outputs(text, changes)


def _change(kind: Type) -> Callable[[str], str] | None:
    """Return a function from the expression of a printed value of this type to the one to write; None where it stays."""
    if isinstance(kind, Optional):
        inner = _change(kind.inner)
        if inner is None:
            return lambda written: f"{written} | default('', true)"
        return lambda written: f"({inner(written)}) if {written} is not none else ''"
    if kind == BOOL:
        return lambda written: f"'True' if {written} else 'False'"
    if kind in (JSON, MESSAGES) or isinstance(kind, ListOf | Object):
        return lambda written: f"{written} | tojson"
    return None


def _trials(
    module: PromptModule, prompt: roles.RolePrompt, given: KnownInputs, used: Mapping[str, Use], *, trims: bool
) -> list[Trial]:
    """Return the values on which the module is compared with the original: the given samples, with made-up values of the
    variables that have none. Values for which the original's loops cannot be rendered are left out.
    """
    kinds = {name: JSON if name in given.as_json else kind for name, kind in module.types.items()}
    kinds |= {name: used[name].type() for name in given.fixed & kinds.keys() if name in used}
    for name, loop in prompt.loops.items():
        kinds[name] = uses(loop).get(name, Use()).type()
    lacking = {name: kind for name, kind in kinds.items() if name not in given.values}
    found = []
    for invented in made_up(lacking, escaped=any(use.writes_json for use in used.values())):
        theirs = {name: invented[name] if name in lacking else given.values[name] for name in kinds}
        theirs |= {name: _with_roles(theirs[name]) for name in prompt.loops}
        ours = {module.name(name): fitted(value, module.types[name]) for name, value in theirs.items()}
        for name in given.as_json & kinds.keys():
            ours[module.name(name)] = json.dumps(theirs[name], ensure_ascii=False)
        try:
            for name in module.turns:
                ours[module.name(name)] = _turns(prompt.loops.get(name), name, theirs, trims=trims)
        except NotRendered:
            continue
        found.append(Trial(theirs, ours))
    return found


def _turns(loop: str | None, name: str, theirs: dict[str, Any], *, trims: bool) -> Sequence[Mapping[str, str]]:
    """Return the messages of the variable `name`: those that the template `loop` writes for its value in `theirs`. Without a
    loop (None) the value itself has the messages, and is replaced in `theirs` by their text with role lines. Raises
    NotRendered.
    """
    if loop is not None:
        return turn_messages(loop, name, theirs[name], trims=trims)
    turns: list[dict[str, str]] = [dict(turn) for turn in theirs[name]]
    theirs[name] = "".join(f"{turn['role']}:\n{turn['content']}\n\n" for turn in turns)
    return turns


def _with_roles(value: Any) -> Any:
    """Return a made-up value in which each field `role` has a known role, `user` in place of anything else."""
    if isinstance(value, list):
        return [_with_roles(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    known = ("system", "user", "assistant")
    return {key: "user" if key == "role" and item not in known else _with_roles(item) for key, item in value.items()}
