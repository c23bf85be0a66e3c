"""The formats of findings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lmprog.compiler import Finding, compile_file
from lmprog.reports import github, junit, markdown, sarif, text
from lmprog.reports import json as json_report

SPECS = Path(__file__).parents[3] / "specs" / "bad"


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return [finding for path in sorted(SPECS.glob("*.yaml")) for finding in compile_file(path).findings]


def test_nothing_found() -> None:
    assert text.render([]) == ""
    assert json.loads(json_report.render([])) == {"findings": []}
    assert github.render([]) == ""
    assert json.loads(sarif.render([]))["runs"][0]["results"] == []
    assert ElementTree.fromstring(junit.render([]).encode()).get("tests") == "1"


def test_text(findings: list[Finding]) -> None:
    shown = text.render(findings)
    assert all(str(finding) in shown for finding in findings)
    assert "\033" not in shown
    assert "\033[31merror\033[0m" in text.render(findings, colour=True)


def test_json(findings: list[Finding]) -> None:
    told = json.loads(json_report.render(findings))["findings"]
    assert len(told) == len(findings)
    assert set(told[0]) >= {"code", "severity", "file", "line", "column", "message", "fix"}


def test_github_is_one_line_each(findings: list[Finding]) -> None:
    whole = github.render(findings).splitlines()
    groups = [line for line in whole if line.startswith(("::group::", "::endgroup::"))]
    assert len(groups) == 2 * len({finding.file for finding in findings})
    lines = [line for line in whole if line not in groups]
    assert len(lines) == len(findings)
    assert all(line.startswith(("::error file=", "::warning file=")) for line in lines)


def test_github_escapes() -> None:
    finding = Finding("LMP101", "error", "a,b:c.yaml", 1, 2, "100% of\ntwo lines", length=3)
    expected = "::error file=a%2Cb%3Ac.yaml,line=1,col=2,endColumn=4,title=LMP101::100%25 of%0Atwo lines\n"
    assert github.render([finding]) == expected


def test_sarif(findings: list[Finding]) -> None:
    log = json.loads(sarif.render(findings))
    run = log["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert log["version"] == "2.1.0" and len(run["results"]) == len(findings)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert region["startLine"] >= 1 and region["endColumn"] > region["startColumn"] >= 1


def test_junit(findings: list[Finding]) -> None:
    suite = ElementTree.fromstring(junit.render(findings).encode())
    errors = sum(finding.severity == "error" for finding in findings)
    assert (suite.get("tests"), suite.get("failures")) == (str(len(findings)), str(errors))
    assert len(suite.findall("testcase")) == len(findings)


def test_rules_of_sarif_have_their_pages(findings: list[Finding]) -> None:
    for rule in json.loads(sarif.render(findings))["runs"][0]["tool"]["driver"]["rules"]:
        page = (SPECS.parents[2] / "compiler" / "pages" / f"{rule['id']}.md").read_text()
        assert rule["help"]["markdown"] == page
        assert len(rule["fullDescription"]["text"]) > len(rule["shortDescription"]["text"]) / 2
        assert " ".join(page.split()).find(rule["fullDescription"]["text"]) > 0


def test_fingerprints_stay_where_lines_move_and_differ(findings: list[Finding]) -> None:
    def prints(given: list[Finding]) -> list[str]:
        results = json.loads(sarif.render(given))["runs"][0]["results"]
        return [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]

    before = prints(findings)
    assert len(set(before)) == len(findings)
    assert prints([replace(finding, line=finding.line + 3) for finding in findings]) == before
    assert prints([replace(findings[0], message="another")]) != before[:1]


def test_markdown_reads_no_text_as_markup() -> None:
    evil = "<img src=x> | ![a](http://x.example) @you `c`\nnext"
    shown = markdown.render([Finding("LMP101", "error", evil, 1, 2, evil, fix=evil)])
    assert shown.startswith("### lmprog check: 1 error\n\n|  | place | finding | fix |\n")
    row = shown.splitlines()[-1]
    assert not {*"![](`@:/"} & {*row} and row.count("|") == 5
    assert row.count("<br>") == row.count("<") == 3
    assert markdown.render([]) == "### lmprog check: no findings\n"
