"""A module's messages as one Jinja template, which renders to them as JSON.

The names that the template makes for itself begin with `__`, which no template of lmprog can read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import ListOf, Optional, without_none
from lmprog.exporting.exported import ExportedModule
from lmprog.exporting.form import head
from lmprog.exporting.plain_jinja import Text, fixed_text, literal

_PARTS = (
    '[{% set __gap = joiner(",") %}{% if __text.strip() %}{{ __gap() }}{"type": "text", "text": {{ __text | tojson }}}'
    '{% endif %}{% for __image in __images %}{{ __gap() }}{"type": "image_url", "image_url": {"url": {{ __image | tojson }}}}'
    "{% endfor %}]"
)


def template(plan: Plan, module: ExportedModule) -> str:
    """Return a Jinja template that renders with a module's inputs to its messages as a JSON list, with a comment at its head
    that names the inputs, the model and the form of the reply."""
    about = [
        *head(plan, [module], "jinja"),
        f"module `{module.name}`: the messages for {module.fields['model']}, as JSON",
    ]
    about += [f"input {name}: {field.type}" for name, field in module.inputs.items()]
    about += [module.reply()]
    if any(text.writes_json for text in module.texts):
        about.append("`tojson` is Python's json.dumps(value, ensure_ascii=False) here, not the filter that Jinja has")
    comment = "\n".join(about).replace("#}", "# }")
    return f"{{# {comment} #}}\n{''.join(_absent(module))}[{{% set __comma = joiner(',') %}}\n{''.join(_messages(module))}]\n"


def _absent(module: ExportedModule) -> Iterator[str]:
    """Yield Jinja code that gives each input which may be left out its default."""
    for name, field in module.inputs.items():
        if field.has_default or isinstance(field.type, Optional):
            yield f"{{% set {name} = {literal(field.default)} if {name} is undefined else {name} %}}\n"


def _messages(module: ExportedModule) -> Iterator[str]:
    if module.system is not None:
        yield _system(module.system)
    for turn in module.demos:
        yield "{{ __comma() }}" + _demo(turn["role"], turn["content"])
    for name in module.earlier:
        yield f"{{% for __turn in {name} or [] %}}{{{{ __comma() }}}}{{{{ __turn | tojson }}}}{{% endfor %}}\n"
    yield _user(module)


def _system(text: Text) -> str:
    if text.fixed is not None:
        return _message("system", text)
    said = '{{ __comma() }}{"role": "system", "content": {{ __text | tojson }}}'
    return f"{_set(text)}{{% if __text %}}{said}\n{{% endif %}}"


def _user(module: ExportedModule) -> str:
    if not module.images and not module.leaves_user_out:
        return _message("user", module.user)
    content = f"{{% if __images %}}{_PARTS}{{% else %}}{{{{ __text | tojson }}}}{{% endif %}}"
    turn = f'{{{{ __comma() }}}}{{"role": "user", "content": {content}}}\n'
    if module.leaves_user_out:
        turn = f"{{% if __text.strip() or __images or not ({' or '.join(module.earlier)}) %}}{turn}{{% endif %}}"
    images = " + ".join(_image(module, name) for name in module.images) or "[]"
    return f"{_set(module.user)}{{% set __images = {images} %}}{turn}"


def _image(module: ExportedModule, name: str) -> str:
    """Return the Jinja expression of the list of an input's images; empty where it is null."""
    if isinstance(without_none(module.inputs[name].type), ListOf):
        return f"({name} or [])"
    return f"([{name}] if {name} is not none else [])"


def _set(text: Text) -> str:
    return f"{{% set __text %}}{text.template}{{% endset %}}"


def _message(role: str, text: Text) -> str:
    return (
        f'{{{{ __comma() }}}}{{"role": "{role}", "content": {{% filter tojson %}}{text.template}{{% endfilter %}}}}\n'
    )


def _demo(role: str, content: object) -> str:
    """Return a message of a demo, whose content is a text or a list of parts."""
    if isinstance(content, str):
        return _message(role, fixed_text(content)).removeprefix("{{ __comma() }}")
    return fixed_text(json.dumps({"role": role, "content": content}, ensure_ascii=False)).template + "\n"
