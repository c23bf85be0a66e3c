"""Watching files: what changes between two looks is told once, when it has been still for one look."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lmprog.compiler.yaml.files import State, state_of
from lmprog.state.watching import changes


class Looks(threading.Event):
    """Stands for the waits between looks: does the next deed at each, and is set after the last."""

    def __init__(self, *deeds: Callable[[], object] | None) -> None:
        super().__init__()
        self.deeds = list(deeds)

    def wait(self, timeout: float | None = None) -> bool:
        if not self.deeds:
            return True
        deed = self.deeds.pop(0)
        if deed is not None:
            deed()
        return False


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in "abc"]
    for path in found:
        path.write_text("first")
    return found


def states(files: list[Path]) -> dict[Path, State]:
    return {path: state_of(path) for path in files}


def save(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text(text)


def replaced(path: Path) -> Callable[[], object]:
    """An editor writes beside the file and renames, with the time and size that it had."""

    def deed() -> None:
        beside = path.with_name("beside")
        beside.write_text(path.read_text())
        os.utime(beside, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        beside.replace(path)

    return deed


def test_each_change_is_told_once_when_it_is_over(files: list[Path]) -> None:
    a, b, c = files
    looks = Looks(None, save(a, "1"), save(a, "22"), save(b, "333"), None, None, c.unlink, None, save(c, "new"), None)
    assert list(changes(lambda: states(files), looks)) == [{a, b}, {c}, {c}]


def test_a_file_that_takes_the_place_of_another_has_changed(files: list[Path]) -> None:
    assert list(changes(lambda: states(files), Looks(replaced(files[0]), None))) == [{files[0]}]


def test_files_that_are_watched_later_have_not_changed_before(files: list[Path]) -> None:
    watched = files[:1]
    looks = Looks(lambda: watched.append(files[1]), None, save(files[1], "1"), None)
    assert list(changes(lambda: states(watched), looks)) == [{files[1]}]


def test_what_changes_while_the_caller_is_at_work_is_told_next(files: list[Path]) -> None:
    found = changes(lambda: states(files), Looks(save(files[0], "1"), None, None, None))
    assert next(found) == {files[0]}
    files[1].write_text("meanwhile")
    assert next(found) == {files[1]}
    with pytest.raises(StopIteration):
        next(found)


def test_what_changes_after_it_was_read_and_before_the_first_look_is_told(files: list[Path]) -> None:
    read = states(files[:2])
    save(files[0], "after it was read")()
    found = changes(lambda: read, Looks(None, None, None, None))
    assert next(found) == {files[0]}
    read[files[2]] = state_of(files[2])  # read for the first time because of that change, and changed at once
    save(files[2], "after that")()
    assert [*found] == [{files[2]}]
