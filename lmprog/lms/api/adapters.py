"""LoRA adapters on a vLLM server: each is loaded once, under a name made of its digest, and then requested as a model."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmprog.aio.per_loop import PerLoop
from lmprog.compiler import plan
from lmprog.compiler.plan import AdapterReference
from lmprog.errors import UsageError
from lmprog.lms.api.adapter_store import AdapterStore
from lmprog.lms.api.failures import TryFailed

if TYPE_CHECKING:
    from lmprog.lms.api.server import Server

FIXES = (
    ("rank", "start the server with a --max-lora-rank that is as high"),
    ("slot", "start the server with a higher --max-loras, or unload adapters that nobody asks"),
    ("max_loras", "start the server with a higher --max-loras, or unload adapters that nobody asks"),
)
"""Advice for refusals, by a word in the refusal."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """An adapter that was loaded on a server, with its model name there. Loading it again gives a different object."""

    adapter: AdapterReference
    name: str
    """The model name of the adapter on the server."""

    def is_missed(self, failed: TryFailed) -> bool:
        """Return whether a request failed because the server no longer has the adapter, after a restart or an unload."""
        return failed.status == 404 and self.name in failed.words


class Adapters:
    """The LoRA adapters that the vLLM server `server` of the LM `declared` has loaded: `loaded` loads one by HTTP
    where it is missing, `unload` makes the server drop it, and `forget` only notes that it is gone; none is dropped
    unasked. The server reads their files itself, from where `store` has them."""

    def __init__(self, declared: plan.LM, server: Server, store: AdapterStore) -> None:
        self._declared, self._server, self._store = declared, server, store
        self._loaded: dict[AdapterReference, Loaded] = {}
        self._owed: dict[str, None] = {}
        """Names of adapters that the server still has to drop, since it could not be reached; it is asked to before it
        loads another.
        """
        self._one_at_a_time = PerLoop(asyncio.Lock)

    async def loaded(self, adapter: AdapterReference) -> Loaded:
        """Return the adapter's entry after loading it on the server if it is not loaded yet; callers at the same time
        share one load.

        Raises TryFailed where the server refuses or cannot be reached, UsageError where the adapter's files are missing
        or changed, and the errors of `AdapterStore.place`: ProviderError where the store fails, InfrastructureError
        where a download fails.
        """
        if adapter not in self._loaded:
            async with self._one_at_a_time.get():
                if adapter not in self._loaded:
                    self._loaded[adapter] = Loaded(adapter, await self._load(adapter))
        return self._loaded[adapter]

    def forget(self, loaded: Loaded) -> None:
        """Forget an adapter that the server has lost, so that the next request loads it again.

        Where several requests report the same loss, only the first has an effect.
        """
        if self._loaded.get(loaded.adapter) is loaded:
            del self._loaded[loaded.adapter]

    def forget_all(self) -> None:
        """Forget all adapters, so that each is loaded again before the next request that names it."""
        self._loaded.clear()

    def owe(self, adapter: AdapterReference) -> None:
        """Forget an adapter and note that the server, which cannot be reached now, must drop it before it next loads
        another. Raises UsageError where its files are missing or changed.
        """
        self._loaded.pop(adapter, None)
        self._owed[self.name(adapter)] = None

    async def unload(self, adapter: AdapterReference) -> None:
        """Make the server drop an adapter; no error where the server does not have it. The copy in the store stays.
        Raises TryFailed where the server refuses or cannot be reached (it is then asked again before it loads another),
        and UsageError where the adapter's files are missing or changed.
        """
        self.owe(adapter)
        await self._drop(self.name(adapter))

    async def _drop(self, name: str) -> None:
        try:
            async with self._server.post("/unload_lora_adapter", {"lora_name": name}):
                pass
        except TryFailed as failed:
            if not (failed.status in (400, 404) and "cannot be found" in failed.words):
                raise
        self._owed.pop(name, None)

    async def _load(self, adapter: AdapterReference) -> str:
        name = self.name(adapter)
        self._owed.pop(name, None)
        for owed in list(self._owed):
            await self._drop(owed)
        path = await self._store.place(adapter, name)
        try:
            async with self._server.post("/load_lora_adapter", {"lora_name": name, "lora_path": path}):
                return name
        except TryFailed as failed:
            if "already" in failed.words:
                return name
            if failed.passing:
                raise
            refused = failed
        # Raised here and not where it was caught: its words may hold a key, and would be its context.
        raise TryFailed(
            f"it does not load the adapter {path} ({refused.words})", passing=False, fix=_fix(refused, path)
        )

    def name(self, adapter: AdapterReference) -> str:
        """Return the model name under which servers have an adapter: `lmprog-` and the first 16 characters of its
        weights' digest (of an adapter on the hub without a digest: of a digest of its reference; nothing is
        downloaded). Raises UsageError where its files on this machine are missing or changed.
        """
        return f"lmprog-{self._digest(adapter)[:16]}"

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


def _fix(refused: TryFailed, path: str) -> str:
    words = refused.words.lower()
    if refused.status in (404, 405) and "adapter" not in words:
        return "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"
    # The path may hold any word: that of a user named frank has a rank in it.
    said = words.replace(path.lower(), "")
    found = next((fix for word, fix in FIXES if word in said), None)
    return found or f"is {path} a folder that the server sees, and is it started with --enable-lora?"
