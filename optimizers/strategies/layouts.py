"""Other layouts of a prompt that has the standard one: the same words and values, arranged in another way."""

from __future__ import annotations

from collections.abc import Mapping

from lmprog.compiler.plan import Module
from lmprog.compiler.prompts import IMAGES, TURNS, hole, standard_layout
from lmprog.compiler.types import FLOAT, INT, STR, Enum

Prompt = Mapping[str, str]
"""As `prompt` of a module in a spec: the templates `system` and `user`."""


def layouts(module: Module) -> list[Prompt]:
    """The variants for a module; none where its author laid out the prompt.

    `labelled` names each input, and the output where there is one. `inline` does so too, and shows the demos in the system
    message in place of earlier turns; it is for replies that are the value itself.
    """
    standard = standard_layout(module.inputs, module.outputs, module.format)
    if module.layout != standard or standard.system is None:
        return []
    names = {name: field.type for name, field in module.inputs.items() if field.type not in TURNS + IMAGES}
    lines = [f"{name}: {hole(name, kind)}" for name, kind in names.items()]
    found: list[Prompt] = []
    if module.format != "text":
        return [{"system": standard.system.text, "user": "\n".join(lines)}]
    ((answer, field),) = module.outputs.items()
    labelled = "\n".join([*lines, f"{answer}:"])
    found.append({"system": standard.system.text, "user": labelled})
    if field.type in (STR, INT, FLOAT) or isinstance(field.type, Enum):
        shown = "\n".join(f"{name}: {hole(f'demo.{name}', kind)}" for name, kind in names.items())
        examples = f"{{% for demo in demos %}}\n\n{shown}\n{answer}: {{{{ demo.{answer} }}}}{{% endfor %}}"
        found.append({"system": standard.system.text + examples, "user": labelled})
    return found
