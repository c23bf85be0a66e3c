"""The end of a run on Ray: settings of the whole process that Ray has changed are put back."""

from __future__ import annotations

import os
import signal

import pytest

from lmprog.runners.ray_process import process_as_it_was


@pytest.mark.parametrize("debugger", [None, "pdb.set_trace"])
def test_the_handler_of_sigterm_and_the_debugger_are_put_back(debugger: str | None, monkeypatch) -> None:
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    if debugger is not None:
        monkeypatch.setenv("PYTHONBREAKPOINT", debugger)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="lost"), process_as_it_was():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.environ["PYTHONBREAKPOINT"] = "ray.util.rpdb._driver_set_trace"
        raise ValueError("lost")
    assert signal.getsignal(signal.SIGTERM) is before
    assert os.environ.get("PYTHONBREAKPOINT") == debugger
