"""Adapters on a server of vLLM: loaded once, under a name that is made of their digest, and then named as a model."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from lmprog.compiler import plan
from lmprog.compiler.plan import AdapterReference
from lmprog.errors import UsageError
from lmprog.lms.api.failures import TryFailed
from lmprog.lms.per_loop import PerLoop

if TYPE_CHECKING:
    from lmprog.lms.api.direct import Server


class Adapters:
    """Those of one LM. The server reads them by itself, so it has to see the same folder."""

    def __init__(self, declared: plan.LM, server: Server) -> None:
        self._declared, self._server = declared, server
        self._names: dict[AdapterReference, str] = {}
        self._one_at_a_time = PerLoop(asyncio.Lock)

    async def name(self, adapter: AdapterReference) -> str:
        """The model name under which the server has the adapter. Raises TryFailed, and UsageError where there is none."""
        if adapter not in self._names:
            async with self._one_at_a_time.get():
                if adapter not in self._names:
                    self._names[adapter] = await self._loaded(adapter)
        return self._names[adapter]

    async def _loaded(self, adapter: AdapterReference) -> str:
        name = f"lmprog-{self._digest(adapter)[:16]}"
        path = str(adapter.path).removeprefix("hf://").partition("@")[0]
        if isinstance(adapter.path, Path):
            path = str(adapter.path.resolve())
        failed = await self._load(name, path)
        if failed is None or "already" in failed.words:
            return name
        if failed.passing:
            raise failed
        fix = f"is {path} a folder that the server sees, and is it started with --enable-lora?"
        if failed.status in (404, 405) and "adapter" not in failed.words.lower():
            fix = "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"
        raise TryFailed(f"it does not load the adapter {path} ({failed.words}); {fix}", passing=False)

    async def _load(self, name: str, path: str) -> TryFailed | None:
        try:
            async with self._server.post("/load_lora_adapter", {"lora_name": name, "lora_path": path}):
                return None
        except TryFailed as failed:
            return failed

    def _digest(self, adapter: AdapterReference) -> str:
        if not isinstance(adapter.path, Path):
            return adapter.sha256 or hashlib.sha256(adapter.path.encode()).hexdigest()
        weights = adapter.path / "adapter_model.safetensors"
        if not weights.is_file():
            raise UsageError(
                f"the LM {self._declared.id!r}: there is no adapter in {adapter.path}: it holds no "
                "adapter_model.safetensors; name the folder that `lmprog optimize` wrote"
            )
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if adapter.sha256 not in (None, found):
            raise UsageError(
                f"the LM {self._declared.id!r}: the adapter in {adapter.path} is not the one that the program names: its "
                "sha256 differs; restore the folder, or run `lmprog optimize` again"
            )
        return found
