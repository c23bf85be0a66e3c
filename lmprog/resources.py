"""What the runs of a program share and what is costly to make: rendered prompt heads, and open tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.plan import Module, Tool
from lmprog.compiler.prompts import PromptBuilder
from lmprog.errors import UsageError
from lmprog.tools import fake_tool, make_tool


@dataclass
class Resources:
    """Made when first asked for.

    In a `dry_run` LMs are fakes, and a value of its type stands for what a tool would give that changes the world, or that
    this version cannot call.
    """

    dry_run: bool = False
    # Keyed by identity, and the key kept beside its value, so that an id can never come to mean something else.
    _prompts: dict[int, tuple[Module, PromptBuilder]] = field(default_factory=dict)
    _tools: dict[int, tuple[Tool, Callable[..., Any]]] = field(default_factory=dict)

    def prompt(self, module: Module, vars: Mapping[str, Any]) -> PromptBuilder:
        """What builds the module's prompts. Raises RenderError, and UsageError for what this version cannot run."""
        kept = self._prompts.get(id(module))
        if kept is None:
            if not self.dry_run:
                _refuse_unsupported(module)
            kept = self._prompts[id(module)] = (module, PromptBuilder(module, vars))
        return kept[1]

    def tool(self, tool: Tool) -> Callable[..., Any]:
        """The tool as an async function of its arguments."""
        kept = self._tools.get(id(tool))
        if kept is None:
            fake = self.dry_run and (tool.effects == "write" or tool.kind != "python")
            kept = self._tools[id(tool)] = (tool, fake_tool(tool) if fake else make_tool(tool))
        return kept[1]


def _refuse_unsupported(module: Module) -> None:
    """Better than to pass over what the language has and this version does not run."""
    said = (
        "`tools` (an agent)"
        if module.tools
        else "`decoding: constrained`"
        if module.decoding == "constrained"
        else None
    )
    if said is not None:
        raise UsageError(
            f"the module {module.id!r} has {said}, which this version checks but cannot run yet; leave it out"
        )
