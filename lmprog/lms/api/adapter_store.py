"""The place where servers of vLLM find adapters: the folders of this machine, a shared folder, or a store that fsspec knows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from lmprog.aio.per_loop import PerLoop
from lmprog.aio.threads import in_thread
from lmprog.compiler import plan
from lmprog.compiler.plan import AdapterReference
from lmprog.errors import ProviderError, UsageError
from lmprog.extras import require
from lmprog.lms.hub import downloaded, reference_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class AdapterStore:
    """The place that an LM's `adapter_store` names, to which adapters are copied once for all servers of the LM; without
    that setting nothing is copied.
    """

    def __init__(self, declared: plan.LM) -> None:
        self._id, self._store = declared.id, declared.adapter_store
        self._copied: set[str] = set()
        self._one_at_a_time = PerLoop(asyncio.Lock)

    async def place(self, adapter: AdapterReference, name: str) -> str:
        """Return the path under which a server finds an adapter: in the store, after copying it there once as `name`,
        which contains its digest; without a store the adapter's folder on this machine. For an adapter on the hub
        without a revision it is, with a store too, the repository's name, which the server downloads itself. The files
        are not checked.

        Raises UsageError where the store cannot be used here or a reference to the hub is none, ProviderError where the
        store fails, and InfrastructureError where a download fails.
        """
        if isinstance(adapter.path, Path):
            folder = adapter.path.resolve()
        else:
            reference = reference_of(adapter.path, f"the adapter of lms.{self._id}")
            if reference.revision is None:
                return reference.repository
            # A server of vLLM loads the main branch alone: a revision is downloaded here, and loaded as a folder is.
            folder = await in_thread(lambda: downloaded(reference, ("adapter_*",), "the adapter"))
        if self._store is None:
            return str(folder)
        async with self._one_at_a_time.get():
            if name not in self._copied:
                await in_thread(lambda: self._copy(folder, name))
                self._copied.add(name)
        return f"{self._store.read}/{name}"

    async def remove(self, name: str) -> None:
        """Delete the copy `name` in the store, if this process made it; no error where it is gone already. Raises
        ProviderError where the store cannot delete it.
        """
        if name in self._copied:
            self._copied.discard(name)
            await in_thread(lambda: self._delete(name))

    def _copy(self, folder: Path, name: str) -> None:
        system, root = self._opened()
        try:
            system.makedirs(f"{root}/{name}", exist_ok=True)
            for file in sorted(folder.iterdir()):
                target = f"{root}/{name}/{file.name}"
                # A copy that is there is of the same digest, and a server may be reading it.
                if file.is_file() and not (system.exists(target) and system.size(target) == file.stat().st_size):
                    system.put_file(str(file), target)
        except Exception as error:  # each file system has errors of its own
            raise ProviderError(self._said("cannot be written", error)) from error

    def _delete(self, name: str) -> None:
        system, root = self._opened()
        try:
            system.rm(f"{root}/{name}", recursive=True)
        except FileNotFoundError:
            return
        except Exception as error:
            raise ProviderError(self._said("keeps an adapter that nothing asks for", error)) from error

    def _opened(self) -> tuple[AbstractFileSystem, str]:
        assert self._store is not None
        require(("fsspec",), f"`adapter_store` of the LM {self._id!r}")
        import fsspec

        try:
            system, root = fsspec.core.url_to_fs(self._store.write)
        except (ImportError, ValueError) as error:
            raise UsageError(self._said("cannot be opened", error)) from error
        return system, str(root).rstrip("/")

    def _said(self, what: str, error: Exception) -> str:
        assert self._store is not None
        said = (str(error) or type(error).__name__).splitlines()[0]
        return f"the LM {self._id!r}: its adapter_store {self._store.write} {what}: {said}"
