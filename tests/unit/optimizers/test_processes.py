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
