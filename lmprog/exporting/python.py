"""A program's modules as Python functions that return the body of a request, without lmprog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    without_none,
)
from lmprog.exporting.exported import ExportedModule
from lmprog.exporting.form import call, docstring, format_code, free, head, literal, named, text_literal, wiring
from lmprog.exporting.plain_jinja import Hole, Text

_IMPORTED = ("json", "jinja2", "Any")
_SIMPLE: dict[Type, str] = {STR: "str", INT: "int", FLOAT: "float", BOOL: "bool", IMAGE: "str"}
JINJA = (
    "_JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)\n"
    '_JINJA.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)\n'
)
"""Python code that makes the Jinja environment of the exported templates."""


def source(plan: Plan, modules: Sequence[ExportedModule]) -> str:
    """Return the text of a Python file that has, for each module, a function of its inputs (by keyword) that returns the body
    of a request; it needs jinja2 where a template has more than texts and inputs."""
    jinja = any(text.pieces is None for module in modules for text in module.texts)
    parts = [
        docstring(
            [
                f"Prompts of {plan.name}: each function returns the body of a request for a chat completion.",
                "",
                *head(plan, modules, "python"),
            ]
        ),
        "from __future__ import annotations\n",
        ("import json\n" if jinja else "") + "from typing import Any\n" + ("\nimport jinja2\n" if jinja else ""),
        commented(wiring(plan)),
        JINJA if jinja else "",
    ]
    functions = ("".join(_function(module)) for module in modules)
    return "\n".join(part for part in parts if part) + "".join(f"\n\n{code}" for code in functions)


def commented(lines: Iterator[str]) -> str:
    """Return lines as Python comments, with a line break at the end; empty for no lines."""
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def templates(module: ExportedModule) -> Iterator[str]:
    """Yield, for each text of a module that has more than texts and inputs, the Python statement that makes a Jinja template of
    it, with a line break."""
    for text in module.texts:
        if text.pieces is None:
            made = call("_JINJA.from_string", text.template, 0)
            yield f"{template_name(module, text)} = {made}\n"


def template_name(module: ExportedModule, text: Text) -> str:
    """Return the Python name of the template of a module's system or user text (`text`, one of these two objects)."""
    return f"_{module.name.upper()}_{'SYSTEM' if text is module.system else 'USER'}"


def images_code(module: ExportedModule, value: str) -> str:
    """Return a Python expression for the list of the addresses of all images of a module; `value` is the code that reads an
    input, with `{}` for its name."""
    parts = []
    for name in module.images:
        kind, read = module.inputs[name].type, value.format(name)
        if isinstance(without_none(kind), ListOf):
            parts.append(f"*({read} or [])" if isinstance(kind, Optional) else f"*{read}")
        else:
            parts.append(f"*([] if {read} is None else [{read}])" if isinstance(kind, Optional) else read)
    return f"[{', '.join(parts)}]"


def content_code(said: str, images: str) -> str:
    """Return a Python expression for the content of a message with a text and images: a list of parts, or without images the
    text; `said` and `images` are the names of the variables that hold them."""
    return (
        f'[*([{{"type": "text", "text": {said}}}] if {said}.strip() else []), '
        f'*({{"type": "image_url", "image_url": {{"url": url}}}} for url in {images})] if {images} else {said}'
    )


def _function(module: ExportedModule) -> Iterator[str]:
    yield from templates(module)
    if any(text.pieces is None for text in module.texts):
        yield "\n\n"
    parameters = ", ".join(_parameter(module, name) for name in module.inputs)
    yield f"def {named(module.name, _IMPORTED)}({'*, ' if parameters else ''}{parameters}) -> dict[str, Any]:\n"
    yield f'    """Return the request of the module `{module.name}`. {module.reply()}"""\n'
    messages, said, images = (free(name, module.inputs) for name in ("messages", "said", "images"))
    varying = module.system is not None and module.system.fixed is None
    first: list[str] = []
    if varying:
        yield f"    {said} = {_text(module, module.system)}\n"  # type: ignore[arg-type]
        first.append(f'*([{{"role": "system", "content": {said}}}] if {said} else [])')
    elif module.system is not None:
        first.append(_message("system", _text(module, module.system)))
    first += [literal(dict(turn), 8) for turn in module.demos]
    first += [f"*({named(name)}{' or []' if _may_be_none(module, name) else ''})" for name in module.earlier]
    whole = not module.images and not module.leaves_user_out
    if whole:
        first.append(_message("user", _text(module, module.user)))
    yield f"    {messages}: list[Any] = [\n" + "".join(f"        {part},\n" for part in first) + "    ]\n"
    if not whole:
        yield f"    {said} = {_text(module, module.user)}\n"
        content = said
        if module.images:
            yield f"    {images} = {images_code(module, '{}')}\n"
            content = content_code(said, images)
        turn = f'{messages}.append({{"role": "user", "content": {content}}})\n'
        if module.leaves_user_out:
            asked = [f"{said}.strip()", *([images] if module.images else []), f"not ({_any_turn(module)})"]
            yield f"    if {' or '.join(asked)}:\n        {turn}"
        else:
            yield f"    {turn}"
    yield from _request(module, messages)


def _request(module: ExportedModule, messages: str) -> Iterator[str]:
    fields = dict(module.fields)
    yield f'    return {{\n        "model": {literal(fields.pop("model"), 8)},\n        "messages": {messages},\n'
    for name, value in fields.items():
        yield f"        {literal(name, 8)}: {literal(value, 8)},\n"
    yield "    }\n"


def _any_turn(module: ExportedModule) -> str:
    return " or ".join(map(named, module.earlier))


def _parameter(module: ExportedModule, name: str) -> str:
    field = module.inputs[name]
    default = ""
    if field.has_default or isinstance(field.type, Optional):
        default = f" = {literal(field.default, 0)}"
    return f"{named(name)}: {_annotation(field.type)}{default}"


def _annotation(kind: Type) -> str:
    """Return a type of the language as a Python annotation."""
    if isinstance(kind, Optional):
        return f"{_annotation(kind.inner)} | None"
    if isinstance(kind, ListOf):
        return f"list[{_annotation(kind.item)}]"
    if isinstance(kind, Object):
        return "dict[str, Any]"
    return "str" if isinstance(kind, Enum) else _SIMPLE.get(kind, "Any")


def _may_be_none(module: ExportedModule, name: str) -> bool:
    return isinstance(module.inputs[name].type, Optional)


def _message(role: str, content: str) -> str:
    return f'{{"role": "{role}", "content": {content}}}'


def _text(module: ExportedModule, text: Text) -> str:
    """Return the Python expression of a text, which reads the inputs as variables."""
    if text.fixed is not None:
        return literal(text.fixed, 8)
    if text.pieces is None:
        given = ", ".join(f'"{name}": {named(name)}' for name in module.inputs if name in text.names)
        return f"{template_name(module, text)}.render({{{given}}})"
    holes = [Hole(named(piece.name)) if isinstance(piece, Hole) else piece for piece in text.pieces]
    return text_literal([format_code(piece) for piece in holes], 8, "f")
