"""One file of ours writes every whole file, and replaces what was there only when all is there."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from lmprog.compiler.yaml.whole_file import take_place, whole_file, whole_folder, write_all, write_whole
from tests.unit.sources import ROOT, trees

WRITER = "compiler/yaml/whole_file.py"
MOVES = {
    "lmprog/lms/merging.py": "puts a folder in place that was made beside it, all models or none",
    "lmprog/lms/local/weights.py": "takes peft's files out of the folder that peft adds",
    "lmprog/lms/answer_file.py": "puts a broken database aside",
}
"""Files of ours that move what is written already."""


def writes() -> Iterator[tuple[str, str]]:
    """Yield the file and text of each call that writes a whole file, or puts one in the place of another."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and writes_whole(node):
                yield str(file.relative_to(ROOT)), ast.unparse(node)


def writes_whole(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes", "rename", "copyfile", "move", "NamedTemporaryFile", "mkstemp"):
        return True
    if name == "replace":  # os.replace or Path.replace; texts take two arguments, and dataclasses keywords
        of_os = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "os"
        return of_os or (isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords)
    modes = [each.value for each in (*call.args, *(word.value for word in call.keywords if word.arg == "mode"))
             if isinstance(each, ast.Constant) and isinstance(each.value, str)]  # fmt: skip
    return name in ("open", "open_private") and any(mode[:1] in ("w", "x") and len(mode) <= 3 for mode in modes)


@pytest.mark.slow
def test_nothing_else_writes_a_whole_file() -> None:
    found = list(writes())
    assert any(file == WRITER for file, _ in found)
    assert {file for file, _ in found} - {WRITER} == set(MOVES)
    assert not [text for file, text in found if file in MOVES and ("write" in text or "open" in text)]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("path.write_text(x)", True),
        ("open(path, 'w')", True),
        ("path.open('wb')", True),
        ("path.open(mode='x')", True),
        ("open_private(path, 'w', encoding='utf-8')", True),
        ("os.replace(a, b)", True),
        ("new.replace(path)", True),
        ("path.open('ab')", False),
        ("path.open('rb')", False),
        ("text.replace('a', 'b')", False),
        ("replace(plan, digest='')", False),
        ("when.replace(tzinfo=UTC)", False),
    ],
)
def test_the_walk_sees_what_writes(text: str, whole: bool) -> None:
    (call,) = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert writes_whole(call) is whole


def test_a_file_that_is_there_keeps_its_mode_and_a_link_leads_on(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept", tmp_path / "link"
    kept.write_text("old")
    kept.chmod(0o640)
    link.symlink_to(kept)
    write_whole(link, "new")
    assert link.is_symlink() and kept.read_text() == "new" and kept.stat().st_mode & 0o777 == 0o640
    write_whole(kept, b"\r\n", private=True)
    assert kept.read_bytes() == b"\r\n" and kept.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "link"]


def test_of_several_files_all_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        write_all({tmp_path / "a": "new", tmp_path / "file" / "b": "new"})
    assert (tmp_path / "a").read_text() == "old"
    write_all({tmp_path / "a": "new", tmp_path / "deep" / "b": "new"})
    assert (tmp_path / "a").read_text() == (tmp_path / "deep" / "b").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "deep", "file"]


def test_a_block_that_raises_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "first", new=True)
    with pytest.raises(FileExistsError) as refused:
        write_whole(tmp_path / "a", "second", new=True)
    assert refused.value.filename == str(tmp_path / "a") and (tmp_path / "a").read_text() == "first"


def test_a_device_stays_a_device() -> None:
    write_whole(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "index"
    with pytest.raises(ValueError), whole_folder(folder) as made:
        made.mkdir()
        raise ValueError
    assert not folder.exists()
    with whole_folder(folder) as made:
        made.mkdir()
        (made / "keys").write_text("ours")
        folder.mkdir()
        (folder / "keys").write_text("theirs")  # another process was first
    assert (folder / "keys").read_text() == "theirs"
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_a_part_takes_the_place_of_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "link.part").write_text("new")
    take_place(tmp_path / "link.part", tmp_path / "link")
    assert (tmp_path / "kept").read_text() == "new" and (tmp_path / "link").is_symlink()


def test_a_part_goes_into_a_pipe_that_stands_in_its_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "pipe.part").write_text("new")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        take_place(tmp_path / "pipe.part", pipe)
        assert pipe.is_fifo() and os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert list(tmp_path.iterdir()) == [pipe]


def test_two_threads_that_write_the_same_file_write_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as file:
        file.write(b"one")
        other = Thread(target=write_whole, args=(path, "another"))
        other.start()
        other.join()
        assert path.read_text() == "another"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
