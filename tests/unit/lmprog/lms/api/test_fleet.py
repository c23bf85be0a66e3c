"""Several servers of one LM: which of them gets a request, what becomes of one that fails, and their adapters."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

import lmprog
from lmprog.compiler.compilation import compile_file
from lmprog.compiler.expressions.compiled import literal
from lmprog.compiler.plan import LM, AdapterReference, Fleet
from lmprog.errors import UsageError
from lmprog.lms.api import addresses, api_lm, fleet
from lmprog.lms.api.access import Access
from lmprog.lms.api.adapter_store import AdapterStore
from lmprog.lms.api.failures import TryFailed
from lmprog.lms.api.fleet import FIRST_OUT, MAX_OUT, SPREAD, Member, Servers, chosen
from lmprog.lms.lm import Completion, Request
from tests.standing_in import standing_in
from tests.unit.lmprog.lms.api.server_for_api import Asked, Server
from tests.unit.lmprog.lms.api.test_vllm import DIGEST, VLLM, WEIGHTS

NAME = f"lmprog-{DIGEST[:16]}"


class Silent:
    """A way to a server that is never asked."""

    structured, adapters = True, None

    async def ask(self, request: Request, structured: bool) -> Completion:
        raise AssertionError


def members(count: int) -> list[Member]:
    return [Member(Access(f"http://s{n}:8000/v1", None, {}, ()), Silent()) for n in range(count)]


def prompt(head: str, text: str) -> Request:
    messages = [{"role": "system", "content": head}, {"role": "user", "content": text}]
    return Request(messages, constant=(1, 0))


def test_a_head_goes_to_one_server_and_heads_go_to_all() -> None:
    servers = members(4)
    of = {head: {chosen(servers, prompt(str(head), str(n)), 0.0) for n in range(3)} for head in range(200)}
    assert all(len(found) == 1 for found in of.values())
    counts = Counter(next(iter(found)) for found in of.values())
    assert all(30 <= counts[member] <= 70 for member in servers)


def test_without_one_server_only_its_heads_move() -> None:
    servers = members(4)
    for head in range(100):
        request = prompt(str(head), "a")
        before = chosen(servers, request, 0.0)
        after = chosen(servers[1:], request, 0.0)
        assert after is before or before is servers[0]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_no_server_has_more_than_its_share_and_prompts_stay_together(count: int) -> None:
    servers = members(count)
    of: dict[str, set[int]] = {}
    for n in range(count * 40):
        text = str(n // 8)
        member = chosen(servers, prompt("one head", text), 0.0)
        member.in_flight += 1
        of.setdefault(text, set()).add(servers.index(member))
        total = sum(each.in_flight for each in servers)
        assert all(each.in_flight <= math.ceil(SPREAD * total / count) for each in servers)
    # Drawn at random, the 8 rollouts of a prompt would be on 5.2 of 8 servers.
    assert sum(map(len, of.values())) <= 3.2 * len(of)


@pytest.mark.parametrize("constant", [(0, 0), (0, 4)])
def test_a_prompt_without_a_whole_head_goes_by_what_is_constant(constant: tuple[int, int]) -> None:
    servers = members(4)
    found = {
        chosen(servers, Request([{"role": "user", "content": f"Sort {n}"}], constant=constant), 0.0) for n in range(50)
    }
    assert len(found) == (1 if constant[1] else 4)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    for module in (fleet, addresses):
        monkeypatch.setattr(module, "time", standing_in(time, monotonic=lambda: now[0]))
    return now


def two(api_base: Fleet | None = None) -> Servers:
    api_base = api_base or Fleet((literal("http://a/v1"), literal("http://b/v1")))
    declared = LM("lm", VLLM, api_base=api_base)
    return Servers(declared, Access.of(declared), lambda access: Silent())


def ask(servers: Servers, request: Request, error: Exception | None = None) -> str:
    """Ask a server, which fails so; return its address."""
    try:
        with servers.asked(request) as route:
            found = next(member.access.base for member in servers.members if member.route is route)
            if error is not None:
                raise error
    except (TryFailed, OSError):
        pass
    return str(found)


CUT = TryFailed("cut", passing=True)


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (CUT, True),
        (TryFailed("crowded", passing=True, status=503), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (TryFailed("wrong", passing=False, status=400), False),
        (TryFailed("slower", passing=True, status=429), False),
        (None, False),
    ],
)
def test_which_failures_put_a_server_out(clock, error: Exception | None, out: bool) -> None:
    servers, request = two(), prompt("head", "a")
    first = ask(servers, request, error)
    assert (ask(servers, request) != first) is out


def test_a_server_that_is_out_is_tried_by_one_request_ever_later_and_then_taken_back(clock) -> None:
    servers, request = two(), prompt("head", "a")
    first = ask(servers, request, CUT)
    wait = FIRST_OUT
    while wait < MAX_OUT:
        clock[0] += wait - 0.01
        assert ask(servers, request) != first
        clock[0] += 0.02
        assert ask(servers, request, CUT) == first
        wait = min(2 * wait, MAX_OUT)
    clock[0] += wait + 0.01
    with servers.asked(request):
        assert ask(servers, request) != first
    assert ask(servers, request) == first
    ask(servers, request, CUT)
    clock[0] += FIRST_OUT + 0.01
    assert ask(servers, request) == first


def test_calls_that_fail_together_count_as_one_failure(clock) -> None:
    servers, request = two(), prompt("head", "a")
    with pytest.raises(TryFailed), ExitStack() as together:
        for _ in range(20):
            together.enter_context(servers.asked(request))
        raise CUT
    assert sorted(member.failures for member in servers.members) == [1, 1]
    assert all(member.in_flight == 0 for member in servers.members)


def test_where_all_are_out_all_are_asked(clock) -> None:
    servers = two()
    both = {ask(servers, prompt(str(head), "a"), CUT) for head in range(20)}
    assert len(both) == 2 and not servers.can_move(CUT)
    assert {ask(servers, prompt(str(head), "a"), CUT) for head in range(20)} == both


def test_a_list_of_servers_is_read_again(tmp_path, clock, caplog) -> None:
    listed = tmp_path / "servers.txt"
    servers = two(Fleet(discover=listed))
    for text, found in [
        ("", None),
        ("# none\n\n", None),
        ("http://a/v1\nhttp://b:8000/v1/  # the second\n", ["http://a/v1", "http://b:8000/v1"]),
        ("http://b:8000/v1\nnonsense\n", ["http://b:8000/v1"]),
        ("", ["http://b:8000/v1"]),
        (None, ["http://b:8000/v1"]),
        ("http://c/v1\n", ["http://c/v1"]),
    ]:
        listed.write_text(text) if text is not None else listed.unlink()
        clock[0] += addresses.REREAD
        if found is None:
            with pytest.raises(UsageError, match=r"the LM 'lm': .*servers.txt lists no server; write one address"):
                _ = servers.members
        else:
            assert [member.access.base for member in servers.members] == found
    assert "1 lines of" in caplog.text


def test_a_server_that_stays_in_the_list_keeps_its_state(tmp_path, clock) -> None:
    listed = tmp_path / "servers.txt"
    servers = two(Fleet(discover=listed))
    listed.write_text("http://a/v1\nhttp://b/v1\n")
    before = servers.members[1]
    listed.write_text("http://b/v1\n")
    clock[0] += addresses.REREAD
    assert list(servers.members) == [before]


@pytest.mark.parametrize("text", ["localhost:8000", "http://", "ftp://a/v1", "", "http://[a/v1"])
def test_a_server_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no address; write it as http://host:port/v1"):
        two(Fleet((literal(text),)))


@pytest.fixture
def pair(server, remote, monkeypatch) -> Iterator[Callable[..., Any]]:
    """The program on two servers, with the second of them; `api_base` may be replaced."""
    second = Server()
    monkeypatch.setattr(fleet, "FIRST_OUT", 0.05)

    def make(api_base: str = "", **replaced: str) -> tuple[lmprog.Program, Server]:
        listed = api_base or json.dumps([server.url, second.url])
        old = 'api_base: "${{ env.TEST_API_BASE }}"'
        return remote(VLLM, **{old: f"api_base: {listed}", **replaced}), second

    yield make
    second.close()


def answering(log: list[tuple[str, str]], name: str, has: set[str]) -> Callable[[Asked], Any]:
    """A server of vLLM with places for any number of adapters, of which `has` are loaded."""

    def answer(asked: Asked) -> Any:
        path = asked.path.rpartition("/")[2]
        model = asked.body.get("lora_name") or asked.body["model"]
        log.append((name, path))
        if path == "load_lora_adapter":
            has.add(model)
        elif path == "unload_lora_adapter":
            has.discard(model)
        elif model not in {"base", *has}:
            return web.json_response({"error": {"message": f"The model `{model}` does not exist."}}, status=404)
        return "ok" if path == "completions" else web.Response(text="Success")

    return answer


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def rows(count: int) -> list[dict[str, Any]]:
    return [{"text": str(n)} for n in range(count)]


def test_an_adapter_is_on_all_servers_before_any_is_asked(pair, server, adapter) -> None:
    program, second = pair(**{"limits:": f"adapter: {adapter}\n        limits:"})
    log: list[tuple[str, str]] = []
    has: dict[str, set[str]] = {"a": set(), "b": set()}
    server.answer, second.answer = answering(log, "a", has["a"]), answering(log, "b", has["b"])
    assert all(result.error is None for result in program.map(rows(40), concurrency=20))
    assert sorted(log[:2]) == [("a", "load_lora_adapter"), ("b", "load_lora_adapter")]
    assert set(log[2:]) == {("a", "completions"), ("b", "completions")}


def test_a_server_that_was_cut_or_started_anew_loses_no_row_and_gets_the_adapter_again(pair, server, adapter) -> None:
    program, second = pair(**{"limits:": f"adapter: {adapter}\n        limits:"})
    log: list[tuple[str, str]] = []
    has: dict[str, set[str]] = {"a": set(), "b": set()}
    whole = answering(log, "a", has["a"])

    def cut(asked: Asked) -> Any:
        if 20 <= len(log) < 60:
            has["a"].clear()
            log.append(("a", "cut"))
            return web.json_response({"error": {"message": "starting"}}, status=503)
        return whole(asked)

    server.answer, second.answer = cut, answering(log, "b", has["b"])
    assert all(result.error is None for result in program.map(rows(200), concurrency=8))
    assert ("a", "cut") in log and log.count(("a", "load_lora_adapter")) >= 2
    last = len(log) - 1 - log[::-1].index(("a", "load_lora_adapter"))
    assert ("a", "completions") in log[last:]
    # The cut server is left alone, but for a request now and then that tries it.
    assert log.count(("a", "cut")) < 20


def test_what_a_server_could_not_be_told_to_drop_is_dropped_before_the_next(pair, server, adapter, monkeypatch) -> None:
    program, second = pair()
    log: list[tuple[str, str]] = []
    has: dict[str, set[str]] = {"a": set(), "b": set()}
    whole = answering(log, "a", has["a"])
    server.answer, second.answer = whole, answering(log, "b", has["b"])
    other = adapter.with_name("other")
    shutil.copytree(adapter, other)
    (other / "adapter_model.safetensors").write_bytes(b"others")
    lm = api_lm(program.lms["remote"])

    async def work() -> None:
        await lm.load(AdapterReference(adapter))
        server.answer = lambda asked: web.json_response({"error": {"message": "starting"}}, status=503)
        await lm.unload(AdapterReference(adapter))
        await lm.load(AdapterReference(other))
        assert has["a"] == {NAME} and len(has["b"]) == 1 and NAME not in has["b"]
        server.answer = whole
        await asyncio.sleep(0.1)
        for n in range(20):
            await lm.complete(Request([{"role": "user", "content": str(n)}], adapter=AdapterReference(other)))

    asyncio.run(work())
    assert has["a"] == has["b"] and NAME not in has["a"]


def test_a_server_that_refuses_an_adapter_is_named(pair, server, adapter) -> None:
    program, second = pair(**{"limits:": f"adapter: {adapter}\n        limits:"})
    refused = {"error": {"message": "rank 64 is too large"}}
    second.answer = lambda asked: web.json_response(refused, status=400) if "load" in asked.path else "ok"
    (result,) = program.map(rows(1))
    assert f"{second.url}: it does not load the adapter" in result.error.message
    assert "start the server with a --max-lora-rank" in result.error.message


def test_servers_that_all_fail_are_an_outage_that_names_one(pair, server) -> None:
    program, second = pair(**{"limits: {timeout: 20}": "limits: {timeout: 20, tries: 4}"})
    down = {"error": {"message": "starting"}}
    server.answer = second.answer = lambda asked: web.json_response(down, status=503)
    (result,) = program.map(rows(1))
    assert result.error.kind == "provider"
    assert "(tried 4 times)" in result.error.message and "/v1: HTTP 503: starting" in result.error.message
    assert server.asked and second.asked


@pytest.mark.parametrize(
    ("store", "read"), [("STORE", "STORE"), ("{write: STORE, read: /mnt/run}", "/mnt/run"), ("memory://run", None)]
)
def test_adapters_are_copied_to_a_store_once_for_all_servers(pair, server, adapter, tmp_path, store, read) -> None:
    import fsspec

    folder = tmp_path / "store"
    store = store.replace("STORE", str(folder))
    program, second = pair(**{"limits:": f"adapter: {adapter}\n        adapter_store: {store}\n        limits:"})
    paths = []

    def answer(asked: Asked) -> Any:
        if "lora_path" in asked.body:
            paths.append(asked.body["lora_path"])
        return web.Response(text="Success") if "lora" in asked.path else "ok"

    server.answer = second.answer = answer
    assert program(text="a").outputs == {"reply": "ok"}
    where = (read or store).replace("STORE", str(folder))
    assert paths == [f"{where}/{NAME}"] * 2
    system, root = fsspec.core.url_to_fs(str(folder) if read else store)
    assert system.cat_file(f"{root}/{NAME}/adapter_model.safetensors") == WEIGHTS
    asyncio.run(api_lm(program.lms["remote"]).unload(AdapterReference(adapter)))
    assert not system.exists(f"{root}/{NAME}")


def test_a_copy_that_is_gone_from_the_store_is_no_failure(adapter, tmp_path) -> None:
    place = SimpleNamespace(read=str(tmp_path / "store"), write=str(tmp_path / "store"))
    store = AdapterStore(SimpleNamespace(id="remote", adapter_store=place))

    async def copied_and_removed() -> None:
        shutil.rmtree(await store.place(AdapterReference(adapter), NAME))
        await store.remove(NAME)

    asyncio.run(copied_and_removed())


def test_a_store_that_cannot_be_opened_says_so(pair, adapter) -> None:
    more = f"adapter: {adapter}\n        adapter_store: nowhere://bucket\n        limits:"
    program, _ = pair(**{"limits:": more})
    with pytest.raises(UsageError, match="adapter_store nowhere://bucket cannot be opened: Protocol not known"):
        program(text="a")


def test_a_discovered_server_is_used_while_a_program_runs(pair, server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(addresses, "REREAD", 0.0)
    listed = tmp_path / "servers.txt"
    listed.write_text(server.url + "\n")
    program, second = pair("{discover: servers.txt}")
    assert program(text="a").outputs == {"reply": "ok"}
    listed.write_text(second.url + "\n")
    assert program(text="b").outputs == {"reply": "ok"}
    assert len(server.asked) == len(second.asked) == 1


def test_a_fleet_of_what_litellm_asks_is_a_finding(pair) -> None:
    with pytest.raises(lmprog.SpecError, match="names several servers, and anthropic/x has one address"):
        pair(**{f"model: {VLLM}": "model: anthropic/x"})


def test_a_store_beside_another_model_is_read_by_nothing(remote) -> None:
    plan = remote("openai/x", **{"limits:": "adapter_store: /shared\n        limits:"}).plan
    assert plan.lms["remote"].adapter_store is None
    (finding,) = compile_file(plan.path).findings
    assert "nothing reads `adapter_store` of LM `remote`: openai/x is not served by vLLM" in finding.message
