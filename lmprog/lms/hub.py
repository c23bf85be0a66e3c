"""Repositories of the Hugging Face Hub: downloads of what programs name there, and uploads.

huggingface_hub is imported at the first of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler.hub import FORM, HUB, HubReference, parse
from lmprog.errors import InfrastructureError, UsageError
from lmprog.extras import needed_by


@dataclass(frozen=True)
class Pushed:
    """The result of an upload: the address of the repository, and the reference to the commit that was made."""

    address: str
    reference: HubReference


def downloaded(reference: HubReference, patterns: Sequence[str] | None = None, what: str = "the repository") -> Path:
    """Return the folder of a repository on this machine, after any download of the files that match `patterns` (None: all).
    A reference without a revision means the main branch.

    Raises InfrastructureError, whose message begins with `what`, where it cannot be downloaded, with the cause and the fix,
    and MissingExtra where huggingface_hub is not installed.
    """
    with _library(f"{reference} is on the Hub, which") as hub, _failures(hub, reference, what, "read"):
        found = hub.snapshot_download(
            reference.repository,
            revision=reference.revision,
            allow_patterns=list(patterns) if patterns is not None else None,
            endpoint=_endpoint(),
        )
    return Path(found)


def is_public(reference: HubReference) -> bool | None:
    """Return whether anybody can read a repository of the Hub; None where it does not exist, or not for this account.
    Raises InfrastructureError where the Hub refuses otherwise or cannot be reached, and MissingExtra where
    huggingface_hub is not installed.
    """
    with _library("lmprog push") as hub, _failures(hub, reference, "the repository", "read"):
        try:
            return not hub.HfApi(endpoint=_endpoint()).model_info(reference.repository).private
        except hub.errors.RepositoryNotFoundError:
            return None


def push(files: Mapping[str, bytes | Path], reference: HubReference, *, public: bool, message: str) -> Pushed:
    """Write files (by path in the repository) as one commit with this message; return the address and the commit.

    A repository that does not exist is made, private unless `public` (one that exists stays as it is), and so is a
    branch of the name of the reference's revision (None: the commit is made on `main`). Raises InfrastructureError
    where the Hub refuses or cannot be reached; no file is then committed, but repository and branch may be there.
    Raises MissingExtra where huggingface_hub is not installed.
    """
    with _library("lmprog push") as hub, _failures(hub, reference, "the repository", "written to"):
        api = hub.HfApi(endpoint=_endpoint())
        made = api.create_repo(reference.repository, private=not public, exist_ok=True)
        if reference.revision is not None:
            api.create_branch(reference.repository, branch=reference.revision, exist_ok=True)
        operations = [
            hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        commit = api.create_commit(
            reference.repository, operations, commit_message=message, revision=reference.revision or "main"
        )
    return Pushed(str(made), HubReference(reference.repository, commit.oid))


def _endpoint() -> str | None:
    """Return the address of the Hub that the environment names; None for that of huggingface_hub."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or None


@contextmanager
def _library(user: str) -> Iterator[Any]:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with needed_by(user):
        import huggingface_hub
        import huggingface_hub.errors
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    disable_progress_bars()
    yield huggingface_hub


@contextmanager
def _failures(hub: Any, reference: HubReference, what: str, done: str) -> Iterator[None]:
    """Return a context that turns the errors of huggingface_hub inside the block into InfrastructureError: `what` and
    `reference` name the repository in its message, and `done` what could not be done with it, such as `read`.
    """
    errors = hub.errors
    try:
        yield
    except errors.RevisionNotFoundError:
        cause, fix = f"it has no revision {reference.revision}", "name a commit, a tag or a branch of it"
    except errors.GatedRepoError:  # before the error of a missing repository, of which it is a kind
        cause, fix = "it is gated", "accept its terms on the Hub, and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        cause = "there is no such repository, or this account may not see it"
        fix = "correct its name, or set HF_TOKEN to a token that may"
    except errors.LocalTokenNotFoundError:
        cause, fix = "no token of the Hub was found", "set HF_TOKEN, or run `hf auth login`"
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        cause = f"HTTP {status}: {error.server_message or str(error).splitlines()[0]}"
        fix = "try again later"
        if status in (401, 403):
            fix = "set HF_TOKEN to a token that may write there, or run `hf auth login`"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        cause, fix = _first(error), "connect to the Hub, or set HF_ENDPOINT to a mirror of it"
    except Exception as error:
        # The client for HTTP differs between versions of huggingface_hub, and so do its errors.
        if not type(error).__module__.startswith(("httpx", "requests", "httpcore", "huggingface_hub", "hf_xet")):
            raise
        cause, fix = _first(error), "connect to the Hub, or set HF_ENDPOINT to a mirror of it"
    else:
        return
    raise InfrastructureError(f"{what} {reference} cannot be {done}: {cause}; {fix}")


def _first(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0][:300] if said else type(error).__name__


def reference_of(text: str, what: str) -> HubReference:
    """Return the reference to a repository in a text, such as `hf://owner/name@commit`. Raises UsageError, which names
    `what`, for any other text.
    """
    found = parse(text) if text.startswith(HUB) else None
    if found is None:
        raise UsageError(f"{what} {text!r} is no reference to the Hub; write {FORM}")
    return found
