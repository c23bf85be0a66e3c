"""The folders of earlier optimizations of a spec, which `--resume` and `--dry-run` find by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.errors import UsageError
from lmprog.optimizers.run import earlier_runs, run_folder
from lmprog.state.origin import RUN, Origin


def begin(name: str, spec: Path) -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    Origin(spec.stem, str(spec.resolve())).write(folder / RUN)
    return folder


def test_a_run_of_another_spec_is_none_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec, longer, odd = Path("mail.yaml"), Path("mail-short.yaml"), Path("[a].yaml")
    first = begin("mail-20260101-000000", spec)
    newest = begin("mail-20260201-000000", spec)
    other = begin("mail-short-20260101-000000", longer)
    begin("mail-20260301-000000", Path("elsewhere") / "mail.yaml")
    assert earlier_runs(spec) == [first, newest] and run_folder(spec, None, True) == newest
    assert earlier_runs(longer) == [other]
    assert earlier_runs(odd) == [] and earlier_runs(Path("ma.yaml")) == []
    strange = begin("[a]-20260101-000000", odd)
    assert earlier_runs(odd) == [strange]
    with pytest.raises(UsageError, match=r"no run of ma\.yaml"):
        run_folder(Path("ma.yaml"), None, True)


def test_the_runs_of_a_spec_that_moved_are_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = begin("mail-20260101-000000", Path("before") / "mail.yaml")
    assert earlier_runs(Path("mail.yaml")) == [before]
