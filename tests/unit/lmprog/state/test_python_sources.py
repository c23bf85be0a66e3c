"""Source files of importable modules, found without failing by what an import does."""

from __future__ import annotations

from pathlib import Path

from lmprog.state.python_sources import module_file


def test_a_package_that_cannot_be_imported_has_no_files(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "shop_that_raises"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('no database')")
    (folder / "tools.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert module_file("shop_that_raises.tools") is None
    (folder / "__init__.py").write_text("")
    assert module_file("shop_that_raises.tools") == folder / "tools.py"
