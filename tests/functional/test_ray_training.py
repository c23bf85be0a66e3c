"""Training on rollouts that the workers of three nodes have asked a server of vLLM for: the same weights as here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the extra 'train'")
pytest.importorskip("ray", reason="needs the extra 'ray'")

from tests.functional.test_hosted_training import letters, server
from tests.functional.test_ray import TIMES, cluster, on_three, without

pytestmark = pytest.mark.model
__all__ = ["cluster", "letters", "on_three", "server"]

MEASURED = {*TIMES, "split", "memory", "step_seconds"}
"""Keys of the journal that say how long something took, or how much it held."""


def test_the_weights_are_the_same_on_three_nodes(letters, server, cli, on_three, tmp_path: Path) -> None:
    spec, found = letters(steps=3), []
    for name, more in (("here", []), ("there", on_three)):
        server.loaded.clear()
        # Names of adapters follow from their folder, so both have the same.
        folder, overlay = tmp_path / "run", tmp_path / "tuned.yaml"
        status, _, err = cli("optimize", spec, "--run-dir", folder, "-o", overlay, *more)
        assert status == 0, err
        events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        found.append((overlay.read_text(), without(events, MEASURED)))
        folder.rename(tmp_path / name)
    assert "adapter" in found[0][0]
    assert found[1] == found[0]
