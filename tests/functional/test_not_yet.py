"""What the language has and this version does not run is refused by name, before any LM is asked; a dry run passes."""

from __future__ import annotations

import pytest

SPEC = """
    lmprog: 1
    name: desk
    lms: {lm: {model: openai/x, api_base: "http://127.0.0.1:9"}}
    tools:
      look: {search: {corpus: corpus.jsonl, text: [text], key: text}, result: found}
    modules:
      sort:
        lm: lm
        inputs: {text: str}
        outputs: {label: {enum: [billing, refund]}}
        instructions: Sort it.
"""


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("        decoding: constrained\n", "decoding: constrained"),
    ],
)
def test_it_is_refused_by_name(cli, write, tmp_path, added: str, said: str) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"text": "a"}\n')
    spec = write(
        SPEC.replace("openai/x", "embedded/smollm2-135m").replace(', api_base: "http://127.0.0.1:9"', "") + added
    )
    status, _, err = cli("run", spec, "--input", "text=a")
    assert status == 2
    assert "'sort'" in err and said in err
    assert cli("run", spec, "--input", "text=a", "--fake")[0] == 0
