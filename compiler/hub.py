"""References to repositories of the Hugging Face Hub, as programs write them: hf://ORGANIZATION/NAME@REVISION."""

from __future__ import annotations

import re
from dataclasses import dataclass

HUB = "hf://"
_NAME = r"[A-Za-z0-9][\w.-]*"
_REPOSITORY = re.compile(rf"({_NAME}(?:/{_NAME})?)(?:@([\w][\w./-]*))?")
FORM = "hf://ORGANIZATION/NAME@REVISION, where the revision is a commit, a tag or a branch"


@dataclass(frozen=True)
class HubReference:
    """A repository on the Hub (`repository`, as `owner/name`), and a `revision` of it: a commit, a tag or a branch;
    None for its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def parse(text: str) -> HubReference | None:
    """Return the reference to a repository in a text (`owner/name@revision`, with or without `hf://`); None for any other
    text.
    """
    found = _REPOSITORY.fullmatch(text.removeprefix(HUB))
    return HubReference(found[1], found[2]) if found is not None and ".." not in text else None


def as_model(name: str) -> str:
    """Return a model's name in its usual form: `hf://ORGANIZATION/NAME` becomes `hf/ORGANIZATION/NAME`; others are
    unchanged.
    """
    return f"hf/{name.removeprefix(HUB)}" if name.startswith(HUB) else name
