"""The VS Code extension: npm installs what it is made of, its own tests pass, and `npm run package` writes the `.vsix`."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXTENSION = Path(__file__).resolve().parents[2] / "editors" / "vscode"
UNREACHED = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
"""Errors of npm where no registry can be reached."""


def test_the_extension_is_built_and_its_tests_pass(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("the extension is not built: there is no npm; install Node.js 20 or newer")
    folder = tmp_path / "vscode"
    shutil.copytree(EXTENSION, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "*.vsix"))

    def npm(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, timeout=600)

    # Without scripts of packages: none of them needs to run code when it is installed.
    installed = npm("ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
    if installed.returncode != 0 and any(code in installed.stderr for code in UNREACHED):
        pytest.skip("the extension is not built: npm reaches no registry")
    assert installed.returncode == 0, installed.stderr
    tested = npm("test")
    assert tested.returncode == 0, tested.stdout
    assert "# pass 6" in tested.stdout and "# fail 0" in tested.stdout
    made = npm("run", "package")
    assert made.returncode == 0, made.stdout + made.stderr
    (vsix,) = folder.glob("*.vsix")
    with zipfile.ZipFile(vsix) as package:
        names = set(package.namelist())
        packaged = json.loads(package.read("extension/package.json"))
    assert {
        "extension/dist/extension.js",
        "extension/syntaxes/lmprog.injection.json",
        "extension.vsixmanifest",
    } <= names
    assert f"extension/{packaged['main'].removeprefix('./')}" in names
    assert not any("node_modules" in name or "/src/" in name for name in names)
