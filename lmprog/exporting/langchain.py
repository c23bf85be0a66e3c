"""A program's modules as LangChain prompts (langchain-core), without lmprog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import Optional
from lmprog.exporting.exported import ExportedModule
from lmprog.exporting.form import call, docstring, format_code, free, head, literal, text_literal, wiring
from lmprog.exporting.plain_jinja import Text
from lmprog.exporting.python import JINJA, commented, content_code, images_code, template_name, templates

_CLASSES = {"system": "SystemMessage", "user": "HumanMessage", "assistant": "AIMessage"}


def source(plan: Plan, modules: Sequence[ExportedModule]) -> str:
    """Return the text of a Python file that has, for each module, a LangChain prompt, as NAME in capitals, and the other
    fields of its requests, as NAME_FIELDS."""
    bodies = ["".join(_module(module)) for module in modules]
    code = "".join(bodies)
    runs = "RunnableLambda" in code
    classes = sorted(name for name in ("ChatMessage", *_CLASSES.values()) if f"{name}(" in code)
    prompts = ["ChatPromptTemplate", *(["MessagesPlaceholder"] if "MessagesPlaceholder(" in code else [])]
    standard = ["import json" if "_JINJA" in code else "", "from typing import Any" if runs else ""]
    imports = [
        "import jinja2" if "_JINJA" in code else "",
        f"from langchain_core.messages import {', '.join(classes)}" if classes else "",
        f"from langchain_core.prompts import {', '.join(prompts)}",
        "from langchain_core.runnables import RunnableLambda" if runs else "",
    ]
    parts = [
        docstring(
            [
                f"Prompts of {plan.name} for LangChain: `NAME.invoke(inputs).to_messages()` are the messages of a module,",
                "and NAME_FIELDS are the other fields of its request.",
                "",
                *head(plan, modules, "langchain"),
            ]
        ),
        "from __future__ import annotations\n",
        "\n".join(line for line in standard if line) + "\n" if any(standard) else "",
        "\n".join(line for line in imports if line) + "\n",
        commented(wiring(plan)),
        JINJA if "_JINJA" in code else "",
    ]
    return "\n".join(part for part in parts if part) + "".join(f"\n{body}" for body in bodies)


def _module(module: ExportedModule) -> Iterator[str]:
    name = module.name.upper()
    yield from templates(module)
    function = f"_{module.name}_values"
    absent, computed = _absent(module), list(_computed(module))
    if absent or computed:
        start = f"{{**{literal(absent, 4)}, **inputs}}" if absent else "dict(inputs)"
        yield f"\n\ndef {function}(inputs: dict[str, Any]) -> dict[str, Any]:\n    values = {start}\n"
        yield from (f"    {line}\n" for line in computed)
        yield "    return values\n\n\n"
    before = f"RunnableLambda({function}) | " if absent or computed else ""
    yield f"{name} = {before}ChatPromptTemplate.from_messages([\n"
    yield from (f"    {part},\n" for part in _parts(module))
    yield f"])\n{name}_FIELDS = {literal(dict(module.fields), 0)}\n"


def _absent(module: ExportedModule) -> dict[str, Any]:
    """Return the defaults of the inputs that may be left out, by name."""
    return {
        name: field.default
        for name, field in module.inputs.items()
        if field.has_default or isinstance(field.type, Optional)
    }


def _computed(module: ExportedModule) -> Iterator[str]:
    """Yield the lines of code that compute the values for which a prompt of LangChain has no notation."""
    for name in module.earlier:
        if isinstance(module.inputs[name].type, Optional):
            yield f'values["{name}"] = values["{name}"] or []'
    key, system = _key(module, "turn"), _key(module, "system")
    if module.system is not None and module.system.fixed is None:
        yield f"said = {_rendered(module, module.system)}"
        yield f'values["{system}"] = [{{"role": "system", "content": said}}] if said else []'
    if _is_placed(module):
        yield f"said = {_rendered(module, module.user)}"
        content = "said"
        if module.images:
            yield "images = " + images_code(module, 'values["{}"]')
            content = content_code("said", "images")
        turn = f'[{{"role": "user", "content": {content}}}]'
        if module.leaves_user_out:
            turns = " or ".join(f'values["{name}"]' for name in module.earlier)
            images = " or images" if module.images else ""
            turn += f" if said.strip(){images} or not ({turns}) else []"
        yield f'values["{key}"] = {turn}'
    elif module.user.pieces is None:
        yield f'values["{key}"] = {_rendered(module, module.user)}'


def _is_placed(module: ExportedModule) -> bool:
    """Return whether Python code makes the user's message, since it has images or may be left out; else a template does."""
    return bool(module.images) or module.leaves_user_out


def _parts(module: ExportedModule) -> Iterator[str]:
    """Yield the Python code of each message, or placeholder of messages, of a module's prompt."""
    key, system = _key(module, "turn"), _key(module, "system")
    if module.system is not None and module.system.fixed is not None:
        yield call("SystemMessage", module.system.fixed, 4)
    elif module.system is not None:
        yield f'MessagesPlaceholder("{system}")'
    for turn in module.demos:
        yield _demo(turn)
    yield from (f'MessagesPlaceholder("{name}")' for name in module.earlier)
    if _is_placed(module):
        yield f'MessagesPlaceholder("{key}")'
    elif module.user.fixed is not None:
        yield call("HumanMessage", module.user.fixed, 4)
    elif module.user.pieces is None:
        yield f'("human", "{{{key}}}")'
    else:
        yield f'("human", {text_literal([format_code(piece) for piece in module.user.pieces], 4)})'


def _demo(turn: Mapping[str, Any]) -> str:
    """Return the Python code of a message of a demo, whose content is a text or a list of parts."""
    role, content = turn["role"], turn["content"]
    if role in _CLASSES:
        return call(_CLASSES[role], content, 4)
    return f"ChatMessage(role={literal(role, 4)}, content={literal(content, 4)})"


def _key(module: ExportedModule, name: str) -> str:
    """Return a name for a computed value of a prompt that no input of the module has."""
    return free(name, module.inputs)


def _rendered(module: ExportedModule, text: Text) -> str:
    """Return the Python expression of a text, which reads the inputs from `values`."""
    if text.fixed is not None:
        return literal(text.fixed, 4)
    if text.pieces is None:
        return f"{template_name(module, text)}.render(values)"
    return f"{text_literal([format_code(piece) for piece in text.pieces], 4)}.format(**values)"
