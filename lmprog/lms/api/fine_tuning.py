"""Fine-tuning in OpenAI's protocol: at OpenAI, at Azure, and at servers of one's own that speak it.

litellm is not used: it has no events, and for Azure it lets its client send the start of a job again after a failure, which may
start, and bill, a second one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from lmprog.boundary.bodies import TooLong, within
from lmprog.boundary.wire import count, listed, mapping, text
from lmprog.compiler import fine_tuning, plan
from lmprog.errors import UsageError
from lmprog.lms.api import T, patiently, words_of_failure
from lmprog.lms.api.access import Access
from lmprog.lms.api.failures import TryFailed, outcome
from lmprog.lms.api.server import Server, json_of
from lmprog.lms.fine_tuning import JobOptions, JobState, RowLimits

UPLOAD_TIMEOUT = 600.0
"""Seconds of one try to store a file."""
PAGE = 100
"""Files or jobs that are asked for at a time."""
ENDS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "canceled": "cancelled"}
"""The provider's words for the end of a job, Azure's among them, with the status that each stands for; a job with another
word goes on.
"""
SETTLE = 10.0
"""Seconds before the start of a job is sought, and sent again, after a try whose outcome is not known."""
AGAIN = "correct what it says, then begin the stage again with --restart-stage sft"
AZURE_VERSION = "2024-10-21"
FIXES = (
    ("does not have access", "use a model that this account may fine-tune, or ask the provider for access"),
    ("not available for fine-tuning", "name a model that the provider fine-tunes as lms.{id}.model, or as job.model"),
    ("quota", "raise the quota with the provider, or wait until running jobs have ended"),
    ("limit", "wait until other jobs have ended, or ask the provider for a higher limit"),
    ("moderation", "leave out the rows that the provider's policy refuses"),
    ("unsafe", "leave out the rows that the provider's policy refuses"),
)
"""Advice for refusals, by a word in the refusal."""


class OpenAIJobs:
    """The fine-tuning of one LM by OpenAI's files and jobs, at the LM's address. Making it raises UsageError where the
    LM has no address, or no key where the provider wants one.
    """

    def __init__(self, declared: plan.LM) -> None:
        self._declared, self._id, self._azure = declared, declared.id, declared.model.startswith("azure/")
        prefix, slash, _ = declared.model.partition("/")
        self._prefix = prefix + slash if slash else ""
        self._access = _access(declared)
        self._server = Server(self._access)

    def limits(self, model: str) -> RowLimits:
        """Return the least training rows, the most bytes of their file and the most tokens of a row for a base model.

        A model that is not known has the provider's usual limits.
        """
        return RowLimits(
            fine_tuning.LEAST_ROWS, fine_tuning.MAX_BYTES, fine_tuning.most_tokens(fine_tuning.base_of(model))
        )

    async def upload(self, name: str, data: bytes, *, seek: bool) -> str:
        """Store the rows `data` (JSON lines) at the provider as the file `name`, wait until the provider has read it,
        and return its id. With `seek`, and before each further try, a file of that name is taken instead. Raises
        ProviderError where it is refused, no try succeeds, or the provider has not read it after all tries.
        """
        sought = seek

        async def once() -> str:
            nonlocal sought
            if sought and (found := await self._found("/files?purpose=fine-tune", "filename", name)) is not None:
                return text(found.get("id"))
            sought = True
            sent = self._server.upload("/files", {"purpose": "fine-tune"}, data, name)
            return _id_in(await self._sent(sent))

        file = await self._patiently(once, "the training file", UPLOAD_TIMEOUT)
        return await self._processed(file)

    async def _processed(self, file: str) -> str:
        """Wait until the provider has read a file, which Azure wants before a job; raise ProviderError where it refuses it."""

        async def once() -> str:
            found = mapping(await self._got(f"/files/{quote(file)}"))
            status = text(found.get("status"))
            if status in ("pending", "notRunning", "running"):
                raise TryFailed(f"the file {file} is still {status}", passing=True)
            if status in ("error", "failed", "deleted", "deleting"):
                words = text(found.get("status_details")) or status
                raise TryFailed(f"the provider refuses the file {file}: {words}", passing=False)
            return file

        return await self._patiently(once, "the training file")

    async def start(self, file: str, options: JobOptions, *, seek: bool) -> JobState | None:
        """Start a job on the file with the id `file` and return its state; None where the provider no longer has the file.
        With `seek`, and before each further try, a job on that file is taken instead. Raises ProviderError where it is
        refused or no try succeeds.
        """
        sought = seek
        wanted = {
            "n_epochs": options.epochs,
            "batch_size": options.batch,
            "learning_rate_multiplier": options.learning_rate_multiplier,
        }
        numbers = {name: value for name, value in wanted.items() if value is not None}
        body = {
            "model": options.model,
            "training_file": file,
            "seed": options.seed,
            "suffix": options.suffix,
            **self._numbers(numbers),
        }

        async def once() -> JobState | None:
            nonlocal sought
            if sought and (found := await self._found("/fine_tuning/jobs", "training_file", file)) is not None:
                return self._job(found)
            sought = True
            try:
                return self._job(await self._sent(self._server.post("/fine_tuning/jobs", body)))
            except TryFailed as failed:
                if not _is_gone(failed, file):
                    raise
            return None

        return await self._patiently(once, "the fine-tuning job", settle=SETTLE)

    def _numbers(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a job where its provider reads them: OpenAI in the method, others where OpenAI once did."""
        if self._azure:
            return {"hyperparameters": numbers, "trainingType": 1}
        if self._declared.api_base is not None:
            return {"hyperparameters": numbers}
        return {"method": {"type": "supervised", "supervised": {"hyperparameters": numbers}}}

    async def state(self, job: str) -> JobState:
        """Return the present state of the job with this id. Raises ProviderError where the provider refuses, as for an
        unknown id, or no try succeeds.
        """

        async def once() -> JobState:
            return self._job(await self._got(f"/fine_tuning/jobs/{quote(job)}"))

        return await self._patiently(once, f"the fine-tuning job {job}")

    async def events(self, job: str) -> Sequence[str]:
        """Return at most 20 of the latest messages of the job with this id, the newest last; empty where they cannot be
        read.
        """

        async def once() -> Sequence[str]:
            found = mapping(await self._got(f"/fine_tuning/jobs/{quote(job)}/events?limit=20"))
            return [text(mapping(event).get("message")) for event in reversed(listed(found.get("data")))]

        found = await outcome(once(), self._declared.limits.timeout)
        return [] if isinstance(found, TryFailed) else found

    async def cancel(self, job: str) -> JobState:
        """Cancel the job with this id and return its state after that. Raises ProviderError where the provider refuses,
        as it may for a job that has ended, or no try succeeds.
        """

        async def once() -> JobState:
            return self._job(await self._sent(self._server.post(f"/fine_tuning/jobs/{quote(job)}/cancel", {})))

        return await self._patiently(once, f"the fine-tuning job {job}")

    async def answers(self, model: str) -> bool:
        """Return False where the provider says (404) that it has no model of this name, else True: also where it gives
        no answer, and for Azure, which is not asked.
        """
        if self._azure:
            return True  # it is deployed by hand, and its list of models does not show that

        async def once() -> bool:
            await self._got(f"/models/{quote(model.removeprefix(self._prefix), safe=':')}")
            return True

        found = await outcome(once(), self._declared.limits.timeout)
        # A failure of another kind is told better by the evaluation that follows.
        return not (isinstance(found, TryFailed) and found.status == 404)

    def not_deployed(self, model: str) -> str:
        """Return a sentence on how the trained model is deployed at Azure; empty for other providers, which deploy it
        themselves.
        """
        if not self._azure:
            return ""
        name = model.removeprefix(self._prefix)
        return f"deploy the model {name} at Azure under the name {name}, and go on with --resume"

    def _job(self, found: Any) -> JobState:
        values = mapping(found)
        shown = text(values.get("status"))
        model = text(values.get("fine_tuned_model"))
        error = mapping(values.get("error"))
        words = text(error.get("message")) or text(error.get("code"))
        return JobState(
            _id_in(values),
            ENDS.get(shown, "running"),  # type: ignore[arg-type]
            shown or "unknown",
            f"{self._prefix}{model}" if model else None,
            count(values.get("trained_tokens")) or None,
            self._access.hide(words),
        )

    async def _found(self, path: str, key: str, wanted: str) -> Mapping[str, Any] | None:
        """Return the first entry of a list of the provider's (`path`; all its pages, the newest first) whose `key` is
        `wanted`; None where there is none.
        """
        async for entry in self._listed(path):
            if entry.get(key) == wanted:
                return entry
        return None

    async def _listed(self, path: str) -> AsyncIterator[Mapping[str, Any]]:
        after, mark = "", "&" if "?" in path else "?"
        while True:
            page = mapping(await self._got(f"{path}{mark}limit={PAGE}{after}"))
            entries = [mapping(entry) for entry in listed(page.get("data"))]
            for entry in entries:
                yield entry
            last = text(entries[-1].get("id")) if entries else ""
            if page.get("has_more") is not True or not last or after == f"&after={last}":
                return
            after = f"&after={last}"

    async def _got(self, path: str) -> Any:
        return await self._sent(self._server.get(path))

    async def _sent(self, answer: Any) -> Any:
        most = int(self._declared.limits.reply_mb * 1e6)
        async with answer as response:
            try:
                body = b"".join([chunk async for chunk in within(response.content.iter_any(), most)])
            except TooLong:
                raise TryFailed(f"its answer is longer than {most / 1e6:g} MB", passing=False) from None
            return json_of(response, body)

    async def _patiently(
        self, once: Callable[[], Awaitable[T]], what: str, timeout: float = 0.0, settle: float = 0.0
    ) -> T:
        """Return what `once` returns, called again as long as a further try may succeed, within the LM's `limits.tries`;
        each try has the larger of `timeout` and the LM's own, in seconds. Raises ProviderError, whose message begins with
        the LM and `what`.

        Before the next try at least `settle` seconds pass where the provider may have done what it did not confirm.
        """
        limit = max(timeout, self._declared.limits.timeout)

        async def bounded() -> T:
            async with asyncio.timeout(limit):
                return await once()

        async def tried() -> T | TryFailed:
            found = await outcome(bounded(), limit)
            if isinstance(found, TryFailed) and found.passing and (found.status is None or found.status >= 500):
                found.asked = max(found.asked or 0.0, settle) or None
            return found

        def said(failed: TryFailed, attempts: int) -> str:
            times, cause, fix = words_of_failure(failed, attempts, self._access)
            own = failed.status == 401 or not fix  # of a key: the place is known here
            known = f"; {self._fix(failed)}" if own else fix
            return f"lms.{self._id} ({self._declared.model}): {what} failed{times}: {cause}{known}"

        return await patiently(tried, self._declared.limits.tries, said)

    def _fix(self, failed: TryFailed) -> str:
        said = failed.words.lower()
        if failed.passing:
            return "go on later with --resume: what was done is kept"
        for word, fix in FIXES:
            if word in said:
                return fix.format(id=self._id)
        if failed.status in (401, 403):
            return f"set the key of an account that may fine-tune, as lms.{self._id}.api_key or in the environment"
        if failed.status in (404, 405):
            return "does this server fine-tune? A server of vLLM does not: write hosted_vllm/... as its model, and its weights"
        return AGAIN


def _id_in(found: Any) -> str:
    """Return the id of a file or job. Raises TryFailed where the answer has none."""
    id = text(mapping(found).get("id"))
    if not id:
        raise TryFailed("it answered without an id", passing=False)
    return id


def _is_gone(failed: TryFailed, file: str) -> bool:
    """Return whether a job was refused because its file has expired or was deleted."""
    said = failed.words.lower()
    gone = any(word in said for word in ("no such", "not exist", "not found", "expired", "deleted"))
    return failed.status in (400, 404) and gone and (file.lower() in said or "file" in said)


def _access(declared: plan.LM) -> Access:
    """Return the access to a provider's fine-tuning, with Azure's version in the address; raise UsageError where there is
    no address, or for Azure no key.
    """
    if not declared.model.startswith("azure/"):
        model = declared.model if "/" in declared.model else f"openai/{declared.model}"
        found = Access.of(replace(declared, model=model))
        if found.base is None:
            raise UsageError(
                f"the LM {declared.id!r} ({declared.model}) has no address; write lms.{declared.id}.api_base"
            )
        return found
    found = Access.of(declared)
    base = found.base or os.environ.get("AZURE_API_BASE") or os.environ.get("AZURE_OPENAI_ENDPOINT")
    key = found.key or os.environ.get("AZURE_API_KEY") or os.environ.get("AZURE_OPENAI_API_KEY")
    token = os.environ.get("AZURE_AD_TOKEN")
    if not base or not (key or token):
        lacking = "address: set AZURE_API_BASE" if not base else "key: set AZURE_API_KEY"
        raise UsageError(
            f"the LM {declared.id!r} ({declared.model}) has no {lacking}, or write it as lms.{declared.id}"
        )
    version = declared.params.get("api_version") or os.environ.get("AZURE_API_VERSION") or AZURE_VERSION
    signed = {"api-key": key} if key else {"Authorization": f"Bearer {token}"}
    address = f"{base.strip().rstrip('/')}/openai?api-version={version}"
    return replace(found, base=address, key=None, headers={**signed, **found.headers})
