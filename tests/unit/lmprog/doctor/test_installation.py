"""The folders that `lmprog doctor` looks into."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.doctor import installation
from lmprog.doctor.installation import cached_repository, folders


def test_a_model_is_found_in_the_hubs_cache_in_its_revision(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    there = tmp_path / "models--owner--name"
    (there / "snapshots" / "0123abc").mkdir(parents=True)
    (there / "refs").mkdir()
    (there / "refs" / "v1").write_text("0123abc")
    found = [cached_repository(f"owner/name{at}") for at in ("", "@v1", "@0123abc", "@v2")]
    assert found == [True, True, True, False] and not cached_repository("owner/other")


def test_a_folder_that_cannot_be_read_is_a_note(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(type(Path())):
        def iterdir(self):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(installation, "cache_root", lambda: Closed(tmp_path))
    monkeypatch.setattr(installation, "_hub", lambda: tmp_path / "nowhere")
    first, second = folders()
    assert first.status == second.status == "note"
    assert first.said.endswith("cannot be read: Permission denied") and second.said.endswith("(not there yet)")
