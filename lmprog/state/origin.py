"""The origin of results, stored beside them: `run.json` in a run's folder, `NAME.meta.json` beside a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmprog.boundary.plain_values import read_as
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.errors import UsageError
from lmprog.state.json_lines import VERSION, require_version

RUN = "run.json"
SECRETS = ("api_key", "headers", "env")
"""Parts of the paths of `--set` whose values are not written to the disk."""


@dataclass(frozen=True)
class Settings:
    """The settings of the command that began a run, stored so that `--resume` alone continues with the same.

    `lms` are the models that replace those of LMs, by id (`--lm`), `overrides` values laid over the spec, by dotted path
    (`--set`), `budget` limits by name, and `out` the file or folder of the results (None: the default).
    """

    lms: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)
    out: str | None = None
    left_out: tuple[str, ...] = ()
    """The paths of `--set` whose values are secrets: these are not stored, and must be given again."""

    def without_secrets(self) -> Settings:
        """Return the settings that may be written to disk: the values of `--set` below `api_key`, `headers` or `env` are
        left out, and their paths noted in `left_out`."""
        secret = tuple(path for path in self.overrides if any(part in SECRETS for part in path.split(".")))
        plain = {path: value for path, value in self.overrides.items() if path not in secret}
        return Settings(self.lms, plain, self.budget, self.out, secret)

    def over(self, kept: Settings) -> Settings:
        """Return these settings, of a command that resumes a run, laid over `kept`, the stored ones: key by key, and `out`
        where it is given.

        Raises UsageError where a secret, which was not stored, is not given again.
        """
        overrides = {**kept.overrides, **self.overrides}
        missing = [path for path in kept.left_out if path not in overrides]
        if missing:
            raise UsageError(
                f"the run was begun with --set {missing[0]}=..., which is a secret and was not kept; give it again"
            )
        budget = {**kept.budget, **self.budget}
        return Settings({**kept.lms, **self.lms}, overrides, budget, self.out or kept.out)


@dataclass(frozen=True)
class Origin:
    """A note of what some results were made from: the program's name, its spec, digests of all sources (`made_from`, by key
    as in `lmprog.state.identity`), the seed, the number of rows (None: the results are not those of `run --out`), and the
    settings of the command. The names of the fields are the keys on disk.
    """

    program: str
    spec: str = ""
    made_from: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    rows: int | None = None
    """Number of rows in the inputs of `run --out`."""
    traces: Mapping[str, int] = field(default_factory=dict)
    """The bytes of each trace, by path, when the first row of `run --out` was begun."""
    settings: Settings = field(default_factory=Settings)

    def write(self, path: Path, *, private: bool = False) -> None:
        """Write the origin as JSON to a file, whole or not at all, its settings as they are (see `without_secrets`);
        with `private` only the file's owner may read it."""
        write_whole(path, json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n", private=private)


def read_origin(path: Path) -> Origin | None:
    """Return the origin that `Origin.write` stored in a file; None where there is no file.

    Raises UsageError for a file that is none, or of another version of the format, and OSError for one that may not be
    read.
    """
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        require_version(values.pop("version", VERSION), path)
        found: Origin = read_as(Origin, values)
        return found
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}), so it is not known what is beside it; begin anew with another name"
        ) from None


def beside(out: Path) -> Path:
    """Return the path of the file that stores the origin of the results file `out`: `NAME.meta.json` in the same
    folder, as `out.jsonl.meta.json`."""
    return out.with_name(f"{out.name}.meta.json")
