"""Changes to the text of a starting program, its comments kept: another model, and tests that pass before anything is tuned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from lmprog.compiler.backends import backend_of

MOST_TOKENS = 64
"""Tokens of a reply that a model in this process may write in a program to begin with, so that its first run does not take
minutes.
"""


def with_model(text: str, model: str, api_base: str | None, unread: Mapping[str, str]) -> str:
    """Return the text of a program with all its LMs set to `model`, and to the address `api_base` (None: the provider's
    own, no address is written). For a model in this process `max_tokens` becomes MOST_TOKENS (64) at most; modules get
    `decoding: constrained` where the model's backend can, and lose it where it cannot.

    `unread` has, by module, the `on_error` to add to its steps where the model runs in this process, for replies that a
    small one may not finish.
    """
    local = backend_of(model).local
    constrained = backend_of(model).constrained
    lines = []
    for block, line in _by_block(text):
        if block == "lms" and (found := re.match(r"( +)model: \S+(.*)", line)):
            lines.append(f"{found[1]}model: {model}{found[2]}")
            if api_base is not None:
                lines.append(f"{found[1]}api_base: {api_base}")
        elif block == "lms" and local and "max_tokens: " in line:
            lines.append(
                re.sub(r"max_tokens: (\d+)", lambda most: f"max_tokens: {min(MOST_TOKENS, int(most[1]))}", line)
            )
        elif block == "modules" and line.strip() == "decoding: constrained":
            continue
        else:
            lines.append(line)
            if local and (found := re.fullmatch(r"( +)module: (\w+)", line)) and found[2] in unread:
                lines.append(f"{found[1]}on_error: {unread[found[2]]}    # a small model may not end its reply")
            if block == "modules" and constrained and (found := re.match(r"( +)lm: ", line)):
                lines.append(f"{found[1]}decoding: constrained")
    return "\n".join(lines) + "\n"


def with_open_tests(text: str) -> str:
    """Return the text of a program whose `tests`, the last block of the file, are reduced to the first example, without
    expected outputs, and a comment with the first test of a score.
    """
    head, _, _ = text.partition("\ntests:\n")
    tests: dict[str, dict[str, Any]] = yaml.safe_load(text)["tests"]
    name, example = next((name, test) for name, test in tests.items() if "inputs" in test)
    gate = next(test for test in tests.values() if "at_least" in test)
    inputs = json.dumps(example["inputs"], ensure_ascii=False)
    return (
        f"{head}\ntests:\n"
        f"  {name}:\n"
        f"    inputs: {inputs}\n"
        "    expect: {}      # it runs, and each output has its type; write what you expect when it is good enough\n"
        "  # good enough on these rows:\n"
        f"  #   {{data: {gate['data']}, metric: {gate['metric']}, at_least: {gate['at_least']}}}\n"
    )


def _by_block(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line as (key, line), with the key at the top of the file that the line stands under; an empty key before
    the first.
    """
    block = ""
    for line in text.splitlines():
        if found := re.match(r"(\w+):", line):
            block = found[1]
        yield block, line
