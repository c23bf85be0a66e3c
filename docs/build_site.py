"""Builds the site of docs/ into build/site, and checks its links; a warning or a broken link ends it with status 1.

.venv/bin/python docs/build_site.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from check_links import check

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"
API = ROOT / "build" / "api"
"""The packages as they are installed, for the page of the Python interface."""


def main() -> int:
    """Build the site and check it; return the status of the command."""
    shutil.rmtree(API, ignore_errors=True)
    (API / "lmprog").mkdir(parents=True)
    for part in (*(ROOT / "lmprog").iterdir(), ROOT / "compiler", ROOT / "optimizers"):
        (API / "lmprog" / part.name).symlink_to(part)
    shutil.rmtree(SITE, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=ROOT)
    if done.returncode:
        return 1
    wrong, others = check(SITE)
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"links to other sites, which are not asked: {', '.join(sorted(others))}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
