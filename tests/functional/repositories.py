"""Repositories of git for tests: one of lmprog's files as they stand here, and a scratch one that uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AUTHOR = {f"GIT_{who}_{what}": "test@lmprog.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = {**os.environ, **AUTHOR, "GIT_CONFIG_GLOBAL": os.devnull, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return a command that has ended in a folder, whatever its status; what it printed is in `stdout` alone."""
    around = {**ENVIRONMENT, **environment}
    both = subprocess.STDOUT
    return subprocess.run(
        command, cwd=folder, env=around, stdout=subprocess.PIPE, stderr=both, text=True, timeout=300, check=False
    )


def git(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return a command of git that has ended in a folder."""
    return run(["git", *arguments], folder, **environment)


def published(folder: Path, tag: str) -> Path:
    """Make a repository of the files of this checkout, changes that no commit has included, and return its folder; or skip
    where git is absent or knows no files here.
    """
    if shutil.which("git") is None:
        pytest.skip("needs git: there is none on the path")
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed.returncode != 0:
        pytest.skip("needs a checkout of git, as another repository names it: this folder is none")
    for name in listed.stdout.split("\0"):
        if name and os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    for command in ("init -q", "add --force .", "commit -q --message=Now", f"tag {tag}"):
        done = git(folder, *command.split())
        assert done.returncode == 0, done.stdout
    return folder


def skip_without_index(said: str) -> None:
    """Skip a test whose pip found no package index."""
    if "connection broken by" in said:
        pytest.skip("pip reaches no package index here")
