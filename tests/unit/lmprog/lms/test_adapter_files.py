"""The files of an adapter, as they are put on another machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmprog.errors import UsageError
from lmprog.lms.adapter_files import CONFIG, config_for


@pytest.mark.parametrize("broken", [b"{", b"[1]", b"\xff"])
def test_settings_that_cannot_be_read_say_so(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(broken)
    with pytest.raises(UsageError, match="is no JSON object; restore the folder"):
        config_for(tmp_path, "a/b")
    (tmp_path / CONFIG).write_text('{"r": 4, "base_model_name_or_path": "/home/me/model"}')
    assert json.loads(config_for(tmp_path, "a/b")) == {"r": 4, "base_model_name_or_path": "a/b"}
