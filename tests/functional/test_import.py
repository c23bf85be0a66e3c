"""`lmprog import`: the file that is written, what is told, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROMPTY = """
    ---
    name: Welcome Note
    model: gpt-4o
    inputs:
      guest: {type: string}
    version: 2
    ---
    system:
    You write welcome notes for a guest house.

    user:
    A note for {{ guest }}.
"""
FLOW = """
    inputs: {town: {type: string}}
    outputs: {advice: {type: string, reference: "${advise.output}"}}
    nodes:
    - name: weather
      type: python
      source: {type: code, path: weather.py}
      inputs: {town: "${inputs.town}"}
    - name: advise
      type: llm
      source: {type: code, path: advise.jinja2}
      inputs: {model: gpt-4o, weather: "${weather.output}"}
      provider: OpenAI
      connection: ours
"""
WEATHER = """
    import pathlib

    def tool(function):
        return function

    pathlib.Path(__file__).with_name("ran").touch()

    @tool
    def weather(town: str) -> str:
        return f"rain in {town}"
"""


@pytest.fixture
def flow(write) -> Path:
    write(WEATHER, "trip/weather.py")
    write("# system:\nAdvise on clothes.\n\n# user:\n{{ weather }}\n", "trip/advise.jinja2")
    return write(FLOW, "trip/flow.dag.yaml")


def test_prompty(cli, write, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(PROMPTY, "welcome.prompty")
    monkeypatch.chdir(source.parent)
    status, out, err = cli("import", "prompty", "welcome.prompty")
    assert (status, out) == (0, "")
    assert err == (
        "welcome.prompty: not imported: `version`: 2\n"
        "wrote welcome_note.yaml; next: lmprog check welcome_note.yaml\n"
    )  # fmt: skip
    text = Path("welcome_note.yaml").read_text()
    assert "# not imported: `version`: 2\n" in text
    assert cli("check", "welcome_note.yaml", "--strict")[0] == 0
    status, out, _ = cli("run", "welcome_note.yaml", "--fake", "--input", "guest=Ada")
    assert (status, json.loads(out)) == (0, {"output": "(output)"})


@pytest.mark.parametrize("path", ["trip", "trip/flow.dag.yaml"])
def test_promptflow(cli, flow: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(flow.parents[1])
    status, out, err = cli("import", "promptflow", path)
    assert (status, out) == (0, "")
    assert "not imported: the connection `ours`" in err
    assert not Path("trip/ran").exists(), "importing runs no code of the flow"
    spec = Path("trip/trip.yaml")
    assert "./weather.py:weather" in spec.read_text()
    assert cli("check", spec, "--strict")[:2] == (0, "")
    status, out, _ = cli("run", spec, "--fake", "--input", "town=Bonn")
    assert (status, json.loads(out)) == (0, {"advice": "(output)"})


def test_the_prompt_is_what_the_flow_sent(cli, flow: Path, write) -> None:
    rows = write('{"town": "Bonn"}\n', "rows.jsonl")
    out_file = flow.parents[1] / "programs" / "trip.yaml"
    assert cli("import", "promptflow", flow.parent, "-o", out_file)[0] == 0
    status, out, _ = cli("render", out_file, "--set", f"data.dev={rows}", "--format", "json")
    assert status == 0
    (sent,) = json.loads(out)
    assert [(message["role"], message["content"]) for message in sent["messages"]] == [
        ("system", "Advise on clothes."),
        ("user", "rain in Bonn"),
    ]


def test_errors_that_remain_are_printed(cli, write) -> None:
    source = write(PROMPTY.replace("{{ guest }}", "{{ guest.__class__ }}"), "welcome.prompty")
    status, out, err = cli("import", "prompty", source)
    assert status == 1
    assert "welcome_note.yaml" in out and "[LMP801]" in out
    assert "wrote " in err


def test_what_is_sent_otherwise_is_said_in_the_file_and_on_the_terminal(cli, write) -> None:
    text = PROMPTY.replace("version: 2", "sample: {guest: [Ada, Bo]}").replace(
        "guest: {type: string}", "guest: {type: array}"
    )
    source = write(text, "welcome.prompty")
    status, _, err = cli("import", "prompty", source)
    said = "message 2 (user) first differs in line 1, column 13: there \"'Ada', 'Bo'].\" and here '\"Ada\", \"Bo\"].'"
    assert status == 0 and f"{source}: differs: the prompt of `welcome_note`: {said}" in err
    spec = source.with_name("welcome_note.yaml")
    assert f"# differs: the prompt of `welcome_note`: {said}" in spec.read_text()
    assert cli("check", spec)[0] == 0


def test_what_does_not_pass_check_is_said_with_its_fix(cli, write) -> None:
    source = write(PROMPTY.replace("{{ guest }}", "{{ guest | uper }}"), "welcome.prompty")
    status, _, err = cli("import", "prompty", source)
    said = (
        "check: the user template of module `welcome_note`: there is no filter `uper` [LMP201]; did you mean `upper`?"
    )
    assert status == 1 and f"{source}: {said}" in err
    assert f"# {said}\nmodules:" in source.with_name("welcome_note.yaml").read_text()


def test_nothing_is_overwritten(cli, write, flow: Path) -> None:
    source, mine = write(PROMPTY, "welcome.prompty"), write("mine", "welcome_note.yaml")
    for arguments in (["prompty", source], ["promptflow", flow, "-o", mine]):
        status, out, err = cli("import", *arguments)
        assert (status, out) == (2, "")
        assert f"{mine} exists already, so nothing was written; name another file with -o" in err
        assert mine.read_text() == "mine"


def test_what_cannot_be_imported(cli, write, tmp_path: Path) -> None:
    flex = write("entry: flow:run\n", "flow.flex.yaml")
    for arguments, words in (
        (["promptflow", tmp_path], "name a folder that holds a flow.dag.yaml"),
        (["promptflow", flex], "no prompt flow DAG"),
        (["prompty", flex], "no front matter"),
        (["prompty", tmp_path / "gone.prompty"], "does not exist"),
        (["langchain", flex], "No such command"),
    ):
        status, out, err = cli("import", *arguments)
        assert (status, out) == (2, "")
        assert words in err
    assert not list(tmp_path.glob("*.y*ml")) or [path.name for path in tmp_path.glob("*.y*ml")] == ["flow.flex.yaml"]
