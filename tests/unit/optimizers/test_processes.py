"""Ways of training in several processes that no test trains with are refused."""

from __future__ import annotations

import pytest

from lmprog.errors import UsageError
from lmprog.optimizers import processes


@pytest.mark.parametrize("name", sorted(processes.UNTESTED))
@pytest.mark.parametrize(("value", "refused"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_what_is_not_tested_is_refused(monkeypatch, name: str, value: str, refused: bool) -> None:
    for each in processes.UNTESTED:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.delenv("RANK", raising=False)
    if refused:
        with pytest.raises(
            UsageError, match=f"{name} asks for .*, which lmprog is not tested with: .*start it with torchrun"
        ):
            processes.begin()
    else:
        processes.begin()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "accelerate asks for FSDP of version 1, which lmprog does not have: add --fsdp_version 2"),
        ({"FSDP_VERSION": "2"}, "FSDP shares weights among processes, and there is one: start several"),
        *(({"FSDP_VERSION": "2", name: "true"}, f"{name} is not read by lmprog: ") for name in processes.UNREAD),
    ],
)
def test_fsdp_that_cannot_be_had_is_refused(monkeypatch, asked: dict[str, str], message: str) -> None:
    for name in (*processes.UNTESTED, *processes.UNREAD, "FSDP_VERSION", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {processes.FSDP: "true", **asked}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        processes.begin()
    assert not processes.shards()


def test_fsdp_in_one_process_is_refused(monkeypatch) -> None:
    for name in (*processes.UNTESTED, processes.FSDP, "RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="FSDP shares weights among processes, and there is one"):
        processes.begin(fsdp=True)
