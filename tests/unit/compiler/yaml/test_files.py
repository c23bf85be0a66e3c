"""The files that a program names are read in one way, which ends for every file; what is shown of them is harmless."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.findings.finding import Report
from lmprog.compiler.yaml import files
from lmprog.compiler.yaml.files import NotRead, read_text, refusal, root_of
from lmprog.compiler.yaml.reader import parse
from lmprog.compiler.yaml.source import Source

PROGRAM = """\
lmprog: 1
name: p
lms: {m: {model: embedded/smollm2-135m}}
modules:
  m: {lm: m, inputs: {t: str}, outputs: {a: str}, instructions: hi}
"""


def messages(path: Path) -> list[str]:
    return [finding.message for finding in compile_file(path).findings]


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(NotRead, match="regular file"):
            read_text(path)
        assert "regular file" in messages(path)[0]
    (tmp_path / "p.yaml").write_text(PROGRAM + "vars: {v: {file: pipe}}\n")
    assert any("`v`" in message for message in messages(tmp_path / "p.yaml"))


def test_size_and_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(PROGRAM.encode() + b"# \xff\n")
    assert "not UTF-8" in messages(path)[0]
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    path.write_text(PROGRAM)
    assert "more than 100 bytes" in messages(path)[0]


def test_a_nul_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(PROGRAM.encode() + b"description: a\0b\n")
    (finding,) = compile_file(path).findings
    assert finding.code == "LMP101"
    assert "\0" not in str(finding)


def test_where_a_strangers_program_may_read(tmp_path: Path) -> None:
    inside = tmp_path / "checkout/deep"
    inside.mkdir(parents=True)
    assert root_of(inside / "p.yaml") == inside.resolve()
    (tmp_path / "checkout/.git").mkdir()
    root = root_of(inside / "p.yaml")
    assert root == (tmp_path / "checkout").resolve()
    (inside / "link").symlink_to(tmp_path)
    assert refusal(inside / "../base.yaml", root) is None
    for path in (
        tmp_path / "a",
        inside / "../../a",
        inside / "link/a",
        inside / "link/checkout/../a",
        root / ".git/config",
    ):
        assert refusal(path, root) is not None
    assert refusal(inside / "link/checkout/deep/b", root) is None
    assert refusal(tmp_path / "a", None) is None


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def test_an_alias_bomb_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmprog.compiler.yaml import reader as yaml_reader

    monkeypatch.setattr(yaml_reader._Converter, "node", lambda *given: pytest.fail("the bomb is unfolded"))
    report = Report()
    source = Source(tmp_path, "bomb", bomb(40), tmp_path)
    assert parse(source, report) is None
    assert "aliases" in next(iter(report.findings.values())).message


def test_shared_lines_are_read(tmp_path: Path) -> None:
    report = Report()
    found = parse(Source(tmp_path, "shared", bomb(3), tmp_path), report)
    assert found is not None
    assert len(found.plain()["a2"]) == 9
    assert not report.findings
    circle = Source(tmp_path, "circle", "a: &a [*a]\n", tmp_path)
    parse(circle, report)
    assert "holds itself" in next(iter(report.findings.values())).message


def test_what_is_shown_cannot_command_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    labels = ["\033[31mred\u202e", *("label" * 100 + str(number) for number in range(100))]
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    path.write_text(
        PROGRAM.replace("name: p", "name: p\nvars: {labels: {file: labels.txt}}").replace(
            "outputs: {a: str}", 'outputs: {a: {enum: "${{ vars.labels }}"}}, demos: [{t: x, a: "\\e[0m"}]'
        )
    )
    found = compile_file(path).findings
    assert all(finding.message.isprintable() for finding in found)
    (finding,) = (finding for finding in found if "is not one of" in finding.message)
    assert "\\x1b[31mred\\u202e" in finding.message
    assert len(finding.message) < 1100


def test_links_in_a_circle_are_a_finding(tmp_path: Path) -> None:
    """Python's own `resolve` raises for them before 3.13."""
    for name in ("spec.yaml", "rows.jsonl", "base.yaml", "metric.py"):
        (tmp_path / name).symlink_to(tmp_path / name)
    text = "lmprog: 1\noutputs: {a: 1}\nextends: base.yaml\n"
    text += "data: {dev: rows.jsonl}\nmetrics: {m: {python: './metric.py:m'}}\ntests: [{data: dev, metric: m, at_least: 0.5}]\n"
    whole = tmp_path / "whole.yaml"
    whole.write_text(text)
    for spec, confined in itertools.product((whole, tmp_path / "spec.yaml"), (False, True)):
        found = compile_file(spec, confined=confined, imports=not confined)
        assert found.plan is None or spec == whole
        assert any(finding.severity == "error" and finding.code == "LMP103" for finding in found.findings), spec
