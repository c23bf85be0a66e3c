"""Records of backends, kinds of tools and destinations: what is built in, and what another package may register."""

from __future__ import annotations

import asyncio
from importlib import metadata
from pathlib import Path

import pytest

from lmprog import Completion, ProviderError, Request, UsageError
from lmprog.compiler import backends, exporters, plan, plugins
from lmprog.compiler.backends import Backend, backend_of
from lmprog.compiler.plugins import function_of
from lmprog.compiler.tools import kinds
from lmprog.lms.making import make_lm

CALL = Request([{"role": "user", "content": "Hello"}])


class Echo:
    def __init__(self, declared: plan.LM) -> None:
        if declared.model == "echo/broken":
            raise KeyError("a slip of the package's author")

    async def complete(self, request: Request) -> Completion:
        if "fail" in str(request.messages):
            raise ValueError("no model with the key 'k-0123456789'")
        return Completion(str(request.messages[-1]["content"]))


@pytest.fixture
def registers(monkeypatch: pytest.MonkeyPatch):
    """Registers a backend `echo` as another package does."""

    def register(backend: Backend) -> None:
        monkeypatch.setattr(f"{__name__}.BACKEND", backend, raising=False)
        point = metadata.EntryPoint("echo", f"{__name__}:BACKEND", backends.GROUP)
        monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == backends.GROUP else [])
        forget()

    def forget() -> None:
        for cached in (plugins.points, plugins._loaded, backend_of):
            cached.cache_clear()

    yield register
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    "record", [*kinds.BUILT_IN.values(), *exporters.BUILT_IN.values()], ids=lambda record: record.key
)
def test_what_is_built_in_is_where_its_record_says(record) -> None:
    assert callable(function_of(record.make))


def test_apis_are_where_their_records_say() -> None:
    assert {backend.make for backend in backends.BUILT_IN.values()} == {backends.API, backends.LOCAL}
    assert callable(function_of(backends.API))


def test_a_built_in_name_cannot_be_taken(registers) -> None:
    registers(Backend("openai", Echo))
    assert backend_of("openai/x").make == backends.API


def test_an_lm_of_another_package_gets_the_adapters_that_its_record_allows(registers) -> None:
    adapter = plan.AdapterReference(Path("some/adapter"))
    call = Request(CALL.messages, adapter=adapter)
    registers(Backend("echo", Echo))
    with pytest.raises(UsageError, match="takes no adapter"):
        asyncio.run(make_lm(plan.LM("lm", "echo/x")).complete(call))
    registers(Backend("echo", Echo, adapters=True))
    assert asyncio.run(make_lm(plan.LM("lm", "echo/x")).complete(call)).text == "Hello"


def test_a_slip_of_its_author_ends_no_other_run_and_shows_no_secret(registers, monkeypatch) -> None:
    registers(Backend("echo", Echo))
    with pytest.raises(UsageError, match=r"'lm' \(echo/broken\) cannot be made: KeyError"):
        asyncio.run(make_lm(plan.LM("lm", "echo/broken")).complete(CALL))
    monkeypatch.setenv("ECHO_API_KEY", "k-0123456789")
    failing = Request([{"role": "user", "content": "fail"}])
    with pytest.raises(ProviderError, match=r"echo/x gave no answer: ValueError: no model with the key '\[key\]'"):
        asyncio.run(make_lm(plan.LM("lm", "echo/x")).complete(failing))


@pytest.mark.parametrize(("local", "trainable"), [(False, False), (True, False), (True, True)])
def test_a_plan_reads_the_record(registers, local: bool, trainable: bool) -> None:
    registers(Backend("echo", Echo, local=local, trainable=trainable))
    lm = plan.LM("lm", "echo/x")
    assert (lm.runs_here, lm.trained_as) == (local, "echo/x" if trainable else None)


def test_a_backend_that_trains_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="trainable and not local"):
        Backend("echo", Echo, trainable=True)


def test_a_backend_that_registers_fine_tuning_has_its_weights_trained_by_its_provider(registers) -> None:
    from lmprog.lms.fine_tuning import fine_tuning_of

    registers(Backend("echo", Echo))
    assert not plan.LM("lm", "echo/x").finetunes
    with pytest.raises(UsageError, match="registers no `finetunes`"):
        fine_tuning_of(plan.LM("lm", "echo/x"))
    registers(Backend("echo", Echo, finetunes=lambda lm: f"jobs of {lm.model}"))
    lm = plan.LM("lm", "echo/x")
    assert lm.finetunes and lm.trained_as is None and fine_tuning_of(lm) == "jobs of echo/x"
    with pytest.raises(ValueError, match="local and finetunes"):
        Backend("echo", Echo, local=True, finetunes=Echo)


def test_a_package_that_ends_the_process_when_it_is_imported_only_fails(monkeypatch) -> None:
    class Leaving:
        value, dist = "leaving:record", None

        def load(self) -> None:
            raise SystemExit(3)

    monkeypatch.setattr(plugins, "points", lambda group: {"leaving": Leaving()})
    with pytest.raises(plugins.PluginFailed, match="SystemExit: 3"):
        plugins.plugin("a group of this test", "leaving", Backend, "prefix")
