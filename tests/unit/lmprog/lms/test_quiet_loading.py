"""Silence while transformers loads a model: of transformers alone, and put back by whichever thread ends last."""

import logging
import sys
import threading

import pytest

from lmprog.lms.quiet_loading import quiet_loading

said = pytest.importorskip("transformers.utils", reason="needs lmprog[local]").logging


def test_two_threads_that_load_leave_everything_as_it_was(caplog, capsys) -> None:
    before = said.get_verbosity(), said.is_progress_bar_enabled(), logging.root.manager.disable, sys.stderr
    entered, leave = threading.Event(), threading.Event()

    def load() -> None:
        with quiet_loading():
            entered.set()
            assert leave.wait(60)

    def load_after() -> None:
        assert entered.wait(60)
        with quiet_loading():
            pass

    threads = [threading.Thread(target=each) for each in (load, load_after)]
    for thread in threads:
        thread.start()
    assert entered.wait(60)
    assert not said.is_progress_bar_enabled() and said.get_verbosity() == said.ERROR
    logging.getLogger("lmprog.other").warning("a line of another thread")
    print("a bar of another thread", file=sys.stderr)
    leave.set()
    for thread in threads:
        thread.join(60)
    after = said.get_verbosity(), said.is_progress_bar_enabled(), logging.root.manager.disable, sys.stderr
    assert after == before
    assert "a line of another thread" in caplog.text
    assert "a bar of another thread" in capsys.readouterr().err
