"""The findings on files that the command of an MCP server names."""

from __future__ import annotations

import pytest

from lmprog.compiler import compile_file


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("[python, there.py]", False),
        ("python -u there.py", False),
        ("[python, gone.py]", True),
        (f"[python, {'a' * 300}.py]", True),  # longer than any name of a file
        (f"./{'a' * 300}", True),
        ('[python, "a\\0.py"]', True),
        ("deno run https://example.org/server.ts", False),
        ("[deno, run, npm:server]", False),
    ],
)
def test_a_file_in_a_command_must_be_there(write, command: str, absent: bool) -> None:
    write("", "there.py")
    spec = write(f"""
        lmprog: 1
        tools: {{orders: {{mcp: {{command: {command}, tool: find}}}}}}
        steps: {{s: {{tool: orders}}}}
        outputs: {{o: "${{{{ steps.s.result }}}}"}}
    """)
    assert any("does not exist" in each.message for each in compile_file(spec).findings) is absent
