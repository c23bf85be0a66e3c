"""OpenAI's protocol of batches: requests as a file, a batch of them, and its replies as a file, within a day.

Requests wait until none has come for QUIET seconds, and then make a batch. Of a run that was killed and begun again the same
requests come again, and are looked for in the batches that it had submitted: no request is ever in two batches, but for one
that the provider itself has not answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmprog.boundary.wire import listed, loads, mapping, text
from lmprog.errors import ProviderError
from lmprog.lms.api.batch_files import BatchFile, Submitted
from lmprog.lms.api.failures import TryFailed, outcome, words_of
from lmprog.lms.api.server import Server

QUIET = 2.0
"""Seconds without a new request after which a batch is made of those that wait."""
FIRST_POLL = 5.0
"""Seconds between two looks at a batch; each further wait is longer by half, up to the longest."""
MAX_POLL = 60.0
TRIES = 3
"""The most batches that a request is put into, one after another, where the provider does not answer it."""
MOST_REQUESTS = 50_000
MOST_BYTES = 100_000_000
"""The requests and bytes of one batch: half of what OpenAI takes."""
PATH = "/v1/chat/completions"
ENDED = ("completed", "expired", "cancelled", "failed")
AT_WORK = ("validating", "in_progress", "finalizing", "cancelling")
MAX_UNKNOWN = 60
"""The most looks, one after another, at a batch of a status that the protocol does not have."""
MAX_WAIT = 2 * 86_400.0
"""The most seconds of waiting for a batch, which a provider ends within a day."""
LIMIT = 300.0
"""Seconds that one HTTP request of the protocol may take; a file of replies may be long."""

Answer = Mapping[str, Any] | TryFailed


class Batches:
    """The batches of one LM: `reply` waits for the reply to a request, in whichever batch it is."""

    def __init__(
        self, name: str, server: Server, file: BatchFile, tell: Callable[[str], None], hide: Callable[[str], str]
    ) -> None:
        self._name, self._server, self._file, self._tell, self._hide = name, server, file, tell, hide
        self._seen: Counter[str] = Counter()
        self._waiting: dict[str, tuple[dict[str, Any], asyncio.Future[Answer]]] = {}
        self._at_work: dict[str, asyncio.Task[dict[str, Answer]]] = {}
        """The batches that are waited for, by their keys."""
        self._used: list[Submitted] = []
        self._flush: asyncio.Task[None] | None = None

    async def reply(self, body: dict[str, Any]) -> Mapping[str, Any]:
        """Return the reply to a request in the provider's form, when its batch has ended; `body` is the body of the
        request. Equal bodies are different requests, each with a reply of its own.

        A request that its batch has not answered is put into another, up to TRIES (3) in all. Raises ProviderError where
        there is no reply.
        """
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:40]
        number = self._seen[digest]
        self._seen[digest] += 1
        failed = TryFailed("the provider has not answered it", passing=True)
        for attempt in range(TRIES):
            answer = await self._answer(f"{digest}-{number}-{attempt}", body)
            if not isinstance(answer, TryFailed):
                return answer
            failed = answer
            if not failed.passing:
                break
        raise ProviderError(self._said(failed))

    def forget(self, *, whole: bool) -> None:
        """Remove the batches of this run from the file, if the run has all replies (`whole`); else remove from them
        only the requests that failed, which the next run then sends again: it waits for batches that have not ended.
        """
        if whole:
            self._file.remove(self._used)
        else:
            for batch in self._used:
                task = self._at_work[batch.key]
                found = task.result() if task.done() and not task.cancelled() and task.exception() is None else {}
                batch.requests = [id for id in batch.requests if not isinstance(found.get(id), TryFailed)]
            self._file.save()
        self._used = []

    async def _answer(self, id: str, body: dict[str, Any]) -> Answer:
        for batch in list(self._file.batches):
            if id in batch.requests:
                found = await asyncio.shield(self._replies(batch))
                if id in found:
                    return found[id]
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[id] = body, future
        if self._flush is not None:
            self._flush.cancel()
        self._flush = asyncio.create_task(self._after_quiet())
        return await future

    async def _after_quiet(self) -> None:
        await asyncio.sleep(QUIET)
        waiting, self._waiting, self._flush = self._waiting, {}, None
        await asyncio.gather(*(self._ask(part) for part in _parts(waiting)))

    async def _ask(self, part: Mapping[str, tuple[dict[str, Any], asyncio.Future[Answer]]]) -> None:
        """Submit a batch of requests, each with its future by id; when the batch has ended give each future its answer, a
        TryFailed where the batch has none for it, or the error that the batch ended with.
        """
        lines = [
            json.dumps({"custom_id": id, "method": "POST", "url": PATH, "body": body}) for id, (body, _) in part.items()
        ]
        content = ("\n".join(lines) + "\n").encode()
        batch = Submitted(uuid.uuid4().hex, list(part))
        try:
            self._file.add(batch)
            await self._submit(batch, content)
            found: Mapping[str, Answer] = await self._replies(batch)
            fallen: BaseException | None = None
        except Exception as error:
            found, fallen = {}, error
        for id, (_, future) in part.items():
            if not future.done():
                if fallen is not None:
                    future.set_exception(fallen)
                else:
                    future.set_result(found.get(id) or TryFailed("its batch ended without it", passing=True))

    async def _submit(self, batch: Submitted, content: bytes) -> None:
        """Have the provider make a batch, and write its id into the batch and the file. Before a second try the provider's
        list is searched for the batch, so that none is made twice. Raises ProviderError, after removing the batch from the
        file.
        """

        async def make() -> str:
            if (made := await self._find(batch.key)) is not None:
                return made
            file = await self._sent(self._server.upload("/files", {"purpose": "batch"}, content))
            asked = {
                "input_file_id": text(mapping(file).get("id")),
                "endpoint": PATH,
                "completion_window": "24h",
                "metadata": {"lmprog": batch.key},
            }
            return text(mapping(await self._sent(self._server.post("/batches", asked))).get("id"))

        try:
            batch.id = await self._patiently(make)
        except ProviderError:
            self._file.remove([batch])
            raise
        self._file.save()
        self._tell(
            f"{self._name}: batch {batch.id} of {len(batch.requests)} requests is at the provider; "
            "a run that is cut goes on with it"
        )

    def _replies(self, batch: Submitted) -> asyncio.Task[dict[str, Answer]]:
        """Return the task that waits for a batch and reads its replies, a dictionary by the ids of requests; the same one
        each time.
        """
        if batch.key not in self._at_work:
            self._at_work[batch.key] = asyncio.create_task(self._read(batch))
            self._used.append(batch)
        return self._at_work[batch.key]

    async def _read(self, batch: Submitted) -> dict[str, Answer]:
        if batch.id is None:
            batch.id = await self._patiently(lambda: self._find(batch.key))
            if batch.id is None:  # the process was killed before the provider was asked
                self._file.remove([batch])
                return {}
            self._file.save()
        ended = await self._until_it_ends(batch.id)
        status = text(ended.get("status"))
        if status in ("failed", "cancelled"):
            self._file.remove([batch])
            errors = [text(mapping(error).get("message")) for error in listed(mapping(ended.get("errors")).get("data"))]
            said = f"the batch {batch.id} was cancelled" if status == "cancelled" else f"the batch {batch.id} failed"
            failed = TryFailed(": ".join([said, *errors[:1]]), passing=False)
            found: dict[str, Answer] = dict.fromkeys(batch.requests, failed)
        else:
            found = dict.fromkeys(batch.requests, TryFailed(f"the batch {batch.id} {status} before it", passing=True))
        # The errors of a batch that was cancelled say nothing of a request but that.
        for key in ("output_file_id",) if status == "cancelled" else ("error_file_id", "output_file_id"):
            if name := text(ended.get(key)):
                content = await self._patiently(lambda name=name: self._file_of(name))  # type: ignore[misc]
                found |= _answers(content)
        return found

    async def _until_it_ends(self, id: str) -> Mapping[str, Any]:
        """Return a batch as the provider has it when it has ended. Raises ProviderError where it does not end within two days,
        or has no known status at MAX_UNKNOWN (60) looks one after another; a later run goes on with it."""
        wait, shown, waited, unknown = FIRST_POLL, "", 0.0, 0
        while True:
            batch = mapping(await self._patiently(lambda: self._sent(self._server.get(f"/batches/{id}"))))
            counts, status = mapping(batch.get("request_counts")), text(batch.get("status"))
            done = f"{counts.get('completed', 0)} of {counts.get('total', 0)} done"
            failed = f", {counts['failed']} failed" if counts.get("failed") else ""
            if (now := f"{self._name}: batch {id} is {status}, {done}{failed}") != shown:
                self._tell(shown := now)
            if status in ENDED:
                return batch
            unknown = 0 if status in AT_WORK else unknown + 1
            if unknown == MAX_UNKNOWN or waited > MAX_WAIT:
                why = f"has the status {status!r}, which no batch has" if unknown else f"is {status} after two days"
                raise ProviderError(f"{self._name}: the batch {id} {why}; look at it with the provider")
            await asyncio.sleep(wait)
            waited += wait
            wait = min(1.5 * wait, MAX_POLL)

    async def _find(self, key: str) -> str | None:
        """Return the id of the batch that the provider has under a key, from all pages of its list; None where it has none.
        Raises TryFailed where the list cannot be read.
        """
        after = ""
        while True:
            page = mapping(await self._sent(self._server.get(f"/batches?limit=100{after}")))
            entries = [mapping(entry) for entry in listed(page.get("data"))]
            for entry in entries:
                if mapping(entry.get("metadata")).get("lmprog") == key:
                    return text(entry.get("id"))
            last = f"&after={text(entries[-1].get('id'))}" if entries else ""
            if page.get("has_more") is not True or last in ("", "&after=", after):  # the same page would come for ever
                return None
            after = last

    async def _file_of(self, name: str) -> bytes:
        async with self._server.get(f"/files/{name}/content") as response:
            return await response.read()

    async def _sent(self, answer: Any) -> Any:
        async with answer as response:
            body = await response.read()
        try:
            return loads(body)
        except ValueError:
            pass
        raise TryFailed("it answered with what is no JSON", passing=True)

    async def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Return the answer of `ask`, called again while a further try may succeed: up to 60 times with waits of up to a
        minute, so that a provider may be away for most of an hour. Raises ProviderError where it gives none.
        """
        wait = 1.0
        for _ in range(60):
            found = await outcome(_limited(ask()), LIMIT)
            if not isinstance(found, TryFailed):
                return found
            if not found.passing:
                break
            await asyncio.sleep(found.asked or wait)
            wait = min(2 * wait, MAX_POLL)
        raise ProviderError(self._said(found))

    def _said(self, failed: TryFailed) -> str:
        words = (self._hide(failed.words).strip().splitlines() or [""])[0][:400]
        return f"{self._name} gave no answer in a batch: {words}{f'; {failed.fix}' if failed.fix else ''}"


async def _limited(asked: Any) -> Any:
    async with asyncio.timeout(LIMIT):
        return await asked


def _parts(
    waiting: Mapping[str, tuple[dict[str, Any], asyncio.Future[Answer]]],
) -> Sequence[dict[str, tuple[dict[str, Any], asyncio.Future[Answer]]]]:
    """Divide requests, by id, into batches of at most MOST_REQUESTS (50,000) requests and about MOST_BYTES (100 MB)."""
    parts: list[dict[str, tuple[dict[str, Any], asyncio.Future[Answer]]]] = [{}]
    size = 0
    for id, entry in waiting.items():
        long = len(json.dumps(entry[0])) + 200
        if parts[-1] and (len(parts[-1]) == MOST_REQUESTS or size + long > MOST_BYTES):
            parts.append({})
            size = 0
        parts[-1][id] = entry
        size += long
    return parts


def _answers(content: bytes) -> dict[str, Answer]:
    """Return the answers in a file of replies or errors (JSON lines), by the ids of their requests: the body of a reply, or
    a TryFailed. Lines that cannot be read are left out.
    """
    found: dict[str, Answer] = {}
    for line in content.splitlines():
        try:
            entry = mapping(loads(line))
        except ValueError:
            continue
        response, error = mapping(entry.get("response")), mapping(entry.get("error"))
        status, body = response.get("status_code"), response.get("body")
        if isinstance(status, int) and 200 <= status < 300:
            found[text(entry.get("custom_id"))] = mapping(body)
        elif isinstance(status, int):
            whole = json.dumps(body)
            failed = TryFailed.of_status(status, f"HTTP {status}: {words_of(whole)}", {}, whole)
            found[text(entry.get("custom_id"))] = failed
        else:
            expired = text(error.get("code")) == "batch_expired"
            words = text(error.get("message")) or text(error.get("code")) or "it was not answered"
            found[text(entry.get("custom_id"))] = TryFailed(words, passing=expired)
    return found
