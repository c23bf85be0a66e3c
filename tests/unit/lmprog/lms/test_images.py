"""Images: by path and digest in messages and traces, as data URIs on the wire, refused where a model takes none."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

import lmprog
from lmprog.lms.images import NoImage, with_digests, with_images

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(60))
SPEC = """
    lmprog: 1
    lms: {{lm: {{model: {model}}}}}
    modules:
      see:
        lm: lm
        inputs: {{photo: image, more: "list[image]", question: str}}
        outputs: {{answer: str}}
        instructions: Look.
        {prompt}
"""


def turn(url: str) -> dict[str, object]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.bin", PNG, "image/png"),
        ("a.bin", b"\xff\xd8\xff\xe0...", "image/jpeg"),
        ("a.bin", b"GIF89a...", "image/gif"),
        ("a.bin", b"RIFF....WEBPVP8 ", "image/webp"),
        ("a.svg", b"<svg/>", "image/svg+xml"),
    ],
)
def test_a_file_is_sent_as_a_data_uri(tmp_path, name, content, kind) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    told = with_digests([turn(str(path))])
    sha256 = hashlib.sha256(content).hexdigest()
    assert told[0]["content"][0]["image_url"] == {"url": str(path), "detail": "low", "sha256": sha256}
    uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    assert with_images(told)[0]["content"][0]["image_url"] == {"url": uri, "detail": "low"}


def test_what_is_elsewhere_stays_as_it_is() -> None:
    messages = [{"role": "system", "content": "s"}, turn("https://host/a.png"), turn("data:image/png;base64,AAAA")]
    assert list(with_images(messages)) == messages and list(with_digests(messages)) == messages
    texts = [{"role": "user", "content": "t"}]
    assert with_images(texts) is texts


def test_what_is_no_image(tmp_path) -> None:
    with pytest.raises(NoImage, match=r"nowhere\.png cannot be read: No such file"):
        with_images([turn(str(tmp_path / "nowhere.png"))])
    with pytest.raises(NoImage, match="cannot be read: embedded null"):
        with_images([turn("a\0.png")])
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(NoImage, match="is no image"):
        with_digests([turn(str(tmp_path / "a.txt"))])


@pytest.mark.parametrize("prompt", ["", 'prompt: {user: "{{ question }}"}'])
def test_a_module_sends_its_images_and_traces_their_paths(cli, write, provider, tmp_path, monkeypatch, prompt) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(PNG)
    model = f'openai/gpt, api_base: "{provider.url}", api_key: k'
    spec = write(SPEC.format(model=model, prompt=prompt))
    given = ("--input", "photo=a.png", "--input", "more=[https://host/b.png]", "--input", "question=What?")
    status, out, err = cli("run", spec, *given, "--trace", "trace.jsonl")
    assert (status, json.loads(out)) == (0, {"answer": "ok"}), err
    parts = provider.requests[0]["messages"][-1]["content"]
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert [part["type"] for part in parts] == ["text", "image_url", "image_url"]
    assert "What?" in parts[0]["text"] and "a.png" not in parts[0]["text"]
    assert [part["image_url"] for part in parts[1:]] == [{"url": uri}, {"url": "https://host/b.png"}]
    text = Path("trace.jsonl").read_text()
    assert "base64" not in text
    record, _ = map(json.loads, text.splitlines())  # the call, then the whole run
    sent = record["messages"][-1]["content"][1]["image_url"]
    assert sent == {"url": "a.png", "sha256": hashlib.sha256(PNG).hexdigest()}


def test_an_image_that_is_not_there_is_a_wrong_input(cli, write, provider) -> None:
    spec = write(SPEC.format(model=f'openai/gpt, api_base: "{provider.url}", api_key: k', prompt=""))
    given = ("--input", "photo=nowhere.png", "--input", "more=[]", "--input", "question=What?")
    status, _, err = cli("run", spec, *given)
    assert status == 2 and "the image nowhere.png cannot be read" in err and not provider.requests


def test_a_model_in_this_process_takes_no_images(write) -> None:
    with pytest.raises(lmprog.SpecError, match=r"module `see` takes an image, and lm runs in this process"):
        lmprog.load(write(SPEC.format(model="embedded/smollm2-135m", prompt="")))
