"""The options that an optimizer takes, as the JSON schema of its Config: enough to see that a stage is in order.

Most stages are, and building a pydantic model only to find that out would be a good part of what `lmprog check` takes.
So a stage is held against the schema first; only where that does not say yes, the Config itself is loaded, and it speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SILENT = frozenset({"title", "description", "default", "$defs"})
"""Keywords of a schema that allow everything."""


@dataclass(frozen=True)
class StageSchema:
    """The JSON schema of an optimizer's Config, and the way to the Config itself (a pydantic model)."""

    schema: Mapping[str, Any]
    load: Callable[[], Any]

    @staticmethod
    def of(config: Any) -> StageSchema:
        """That of a pydantic model."""
        return StageSchema(config.model_json_schema(), lambda: config)

    @property
    def names(self) -> frozenset[str]:
        """The options that there are."""
        return frozenset(self.schema.get("properties", ()))

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the options that have one."""
        options: Mapping[str, Any] = self.schema.get("properties", {})
        return {name: option["default"] for name, option in options.items() if "default" in option}

    def fits(self, options: Mapping[str, Any]) -> bool:
        """Whether the Config surely takes `options`; False says nothing, and is the answer to every unknown keyword."""
        return self._fits(options, self.schema)

    def _fits(self, value: Any, schema: Mapping[str, Any]) -> bool:
        return all(self._allows(keyword, value, schema) for keyword in schema if keyword not in SILENT)

    def _allows(self, keyword: str, value: Any, schema: Mapping[str, Any]) -> bool:
        said = schema[keyword]
        if keyword == "$ref":
            return self._fits(value, self.schema["$defs"][said.rpartition("/")[2]])
        if keyword == "anyOf":
            return any(self._fits(value, option) for option in said)
        if keyword == "enum":
            return isinstance(value, str) and value in said
        if keyword == "type":
            return _is(value, said)
        if keyword == "items":
            return all(self._fits(item, said) for item in value) if isinstance(value, list) else False
        if keyword == "minItems":
            return isinstance(value, list) and len(value) >= said
        if keyword == "minimum":
            return _is(value, "number") and value >= said
        if keyword == "exclusiveMinimum":
            return _is(value, "number") and value > said
        if keyword == "properties":
            return isinstance(value, Mapping) and all(
                self._fits(entry, said[name]) for name, entry in value.items() if name in said
            )
        if keyword == "additionalProperties":
            return said is False and isinstance(value, Mapping) and set(value) <= set(schema.get("properties", ()))
        if keyword == "required":
            return isinstance(value, Mapping) and set(said) <= set(value)
        return False


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "boolean": bool,
        "array": list,
        "object": Mapping,
        "null": type(None),
    }
    return kind in kinds and isinstance(value, kinds[kind])
