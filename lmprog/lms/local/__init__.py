"""LMs in this process (transformers and peft): waiting requests are answered together, in batches called waves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import numpy
from numpy.typing import NDArray

from lmprog.aio import threads
from lmprog.aio.per_loop import PerLoop
from lmprog.compiler import plan
from lmprog.compiler.types.lattice import Object
from lmprog.errors import LmprogError
from lmprog.lms.lm import LM, Completion, Request, Usage, innermost
from lmprog.lms.local import structure
from lmprog.lms.local.attention import window_of
from lmprog.lms.local.chat_tokens import ChatTokens
from lmprog.lms.local.choosing import sampling_of
from lmprog.lms.local.constraint import Grammars, constraints_of
from lmprog.lms.local.openmp import release_threads
from lmprog.lms.local.thread_count import computing
from lmprog.lms.local.wave import HeadCache, Prompt, Reply, sample
from lmprog.lms.local.weights import Weights

PARAMS = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop"})
MAX_HEADS = 512
"""Heads whose token ids are kept: a search over prompts makes ever new ones."""
MIN_HEAD = 16
"""Tokens below which a shared head is not worth a pass of its own."""
TOOL_TURNS = 500
"""Turns of the event loop, of a millisecond or more, that a wave waits for tools in threads, whose results further requests
may follow from. Turns and not seconds: on a busy machine both the tool and the turns take longer."""

Waiting = tuple[Request, "asyncio.Future[Completion]"]

_loaded: dict[tuple[str, plan.Load | None, bool], LocalLM] = {}
"""Loaded models by name, by how they are loaded, and by whether they are without values (`structure.py`)."""
_turns = PerLoop(asyncio.Lock)
"""A lock for each event loop, so that its local models answer one after the other: otherwise which requests share a batch
would depend on which model is done first."""


def shared(model: str, load: plan.Load | None = None) -> LocalLM:
    """Return the one LM in this process for a local model that is loaded as `load` says (None: as it is); all programs
    that name the model so share its weights. The first call loads them, and raises the errors of `Weights`.
    """
    kept = model, load, structure.alone()
    if kept not in _loaded:
        _loaded[kept] = LocalLM(Weights(model, load=load))
    return _loaded[kept]


def make(declared: plan.LM) -> LocalLM:
    """Return the LM for a local model that a spec declares, as `shared` does."""
    return shared(declared.model, declared.load)


def local_lm(lm: LM) -> LocalLM:
    """Return the LocalLM inside wrappers that count or cache; raise LmprogError where the LM does not run in this process."""
    found = innermost(lm)
    if not isinstance(found, LocalLM):
        raise LmprogError(f"{type(found).__name__} is no model in this process, so its weights cannot be trained")
    return found


class LocalLM:
    """A model in this process, which answers concurrent requests in waves (batches) of at most `wave`, in the order of
    their keys.

    A wave starts when the event loop has nothing else to do and no metric and no tool is running (but for slow tools):
    every request that could come has come, so that the composition of a wave depends on the program and not on timing.
    """

    def __init__(self, weights: Weights, *, wave: int = 128) -> None:
        self.weights = weights
        self.wave = wave
        self._heads = HeadCache()
        self._head_ids: dict[str, tuple[int, ...]] = {}
        # By event loop: a program may be called from within another's run, in a thread and a loop of its own.
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Waiting]] = WeakKeyDictionary()
        self._pumps: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()
        self._thread: ThreadPoolExecutor | None = None
        self._constraining: Grammars | None = None
        self._chat: ChatTokens | None = None
        self._tokenizing = threading.Lock()

    @property
    def head_bytes(self) -> int:
        """The bytes of the keys and values of shared prompt beginnings that are kept."""
        return self._heads.bytes

    async def complete(self, request: Request) -> Completion:
        """Return the reply to a request, when the wave in which it is computed has ended; its texts go to the request's
        `on_text` meanwhile. A call that is cancelled leaves its wave.

        Raises LmprogError for a parameter that the engine does not have or a value that it cannot use, for messages
        that the model's chat template refuses, for a missing or changed adapter, for a type without a grammar, and
        where the model's attention cannot hold prompt and reply.
        """
        unknown = sorted(set(request.params) - PARAMS)
        if unknown:
            raise LmprogError(
                f"params: {unknown[0]} is not known to a model in this process; it takes {', '.join(sorted(PARAMS))}"
            )
        sampling_of(request)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        waiting = self._waiting.setdefault(loop, [])
        waiting.append((request, future))
        if loop not in self._pumps or self._pumps[loop].done():  # done: cancelled before it began
            self._pumps[loop] = asyncio.create_task(self._answer(waiting))
        return await future

    async def _answer(self, waiting: list[Waiting]) -> None:
        """Answer the requests in `waiting`, those of one event loop, wave by wave until the list is empty. Requests that
        are appended meanwhile are answered too.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="lmprog-local")
        loop = asyncio.get_running_loop()
        try:
            while waiting:
                await self._wave(waiting)
        finally:
            # Both hold their loop, and would keep it for ever: weak keys do not help where the value holds the key.
            self._pumps.pop(loop, None)
            self._waiting.pop(loop, None)

    async def _wave(self, waiting: list[Waiting]) -> None:
        """Take the first requests (at most `self.wave`, in the order of their keys) out of `waiting`, and give each future
        its reply or error. This begins once no further request comes and no other local model answers in this event loop.
        """
        async with _turns.get():
            await _quiet(waiting)
            await self._next(waiting)

    async def _next(self, waiting: list[Waiting]) -> None:
        wanted = [asked for asked in waiting if not asked[1].done()]
        batch = sorted(wanted, key=lambda waiting: [str(part).zfill(9) for part in waiting[0].key])
        batch, waiting[:] = batch[: self.wave], batch[self.wave :]
        if not batch:
            return
        try:
            release_threads()
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, batch)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, LmprogError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _run(self, batch: Sequence[Waiting]) -> list[Completion | LmprogError]:
        """Return the answers in the order of the requests, from the worker thread: for each its Completion, or the
        LmprogError for a request that is longer than the model's attention. One wave is computed for each adapter and head.
        """
        try:
            with computing(self.weights.base.device.type):
                return self._answers(batch)
        finally:
            release_threads()

    def _answers(self, batch: Sequence[Waiting]) -> list[Completion | LmprogError]:
        answers: dict[int, Completion | LmprogError] = {}
        window = window_of(self.weights.base)
        groups: dict[tuple[Any, tuple[int, ...]], list[tuple[int, Prompt]]] = {}
        rendered: dict[str, Prompt] = {}
        for place, (request, _) in enumerate(batch):
            written = json.dumps([request.messages, request.constant], ensure_ascii=False)
            try:
                prompt = rendered.get(written) or self.prompt(request.messages, request.constant)
            except LmprogError as error:
                answers[place] = error
                continue
            rendered[written] = prompt
            most = len(prompt.ids) + sampling_of(request).max_tokens
            if window is not None and most > window:
                answers[place] = self._beyond(window, most)
                continue
            groups.setdefault((request.adapter, prompt.ids[: prompt.head]), []).append((place, prompt))
        for (adapter, _), rows in groups.items():
            try:
                answers |= self._together(batch, adapter, rows)
            except LmprogError as error:  # of their adapter or grammar: other requests of the wave are answered
                answers |= dict.fromkeys([place for place, _ in rows], error)
        return [answers[place] for place in range(len(batch))]

    def _together(
        self, batch: Sequence[Waiting], adapter: plan.AdapterReference | None, rows: list[tuple[int, Prompt]]
    ) -> dict[int, Completion]:
        """Return the answers to the requests of `batch` at the places in `rows`, each there with its prompt; all prompts
        have the same head.
        """
        constraints = constraints_of([batch[place][0] for place, _ in rows], self._grammars)
        pieces = [_Pieces(*batch[place], self.text) for place, _ in rows]
        with self.weights.using(adapter):
            replies = sample(
                self.weights.model,
                [prompt for _, prompt in rows],
                [sampling_of(batch[place][0]) for place, _ in rows],
                end_ids=self.weights.end_ids,
                heads=self._heads,
                weights=self.weights.version,
                decode=self.text,
                constraints=constraints if any(constraints) else (),
                is_cancelled=lambda row: batch[rows[row][0]][1].done(),
                on_tokens=lambda row, ids: pieces[row].add(ids),
            )
        answers = {}
        for (place, prompt), reply, own in zip(rows, replies, pieces, strict=True):
            answers[place] = self._completion(prompt, reply, batch[place][0])
            own.send(answers[place].text)
        return answers

    def _beyond(self, window: int, most: int) -> LmprogError:
        name = self.weights.model_name
        if not window:
            return LmprogError(
                f"{name} has layers that do not attend to all tokens before them, which a model in this process must; "
                "serve it (hosted_vllm/), or take another"
            )
        return LmprogError(
            f"{name} has layers that attend to {window} tokens, and prompt and reply may have {most}, which a model in this "
            "process cannot have; shorten the prompt, lower max_tokens, or serve the model (hosted_vllm/)"
        )

    def prompt(self, messages: Sequence[Mapping[str, Any]], constant: tuple[int, int]) -> Prompt:
        """Return the token ids of `messages` in the model's chat template, and how many of the first tokens all rows
        share (0 where these are fewer than MIN_HEAD, 16, or all tokens: the logits after the last one are of no shared
        head). Raises LmprogError where the template refuses the messages.

        `constant` is (m, c): the first m messages and the first c characters of message m are the same for every row.
        """
        ids = self._ids(messages)
        head = self._head(messages, constant)
        return Prompt(ids, len(head) if MIN_HEAD <= len(head) < len(ids) and ids[: len(head)] == head else 0)

    def _ids(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        with self._tokenizing:
            if self._chat is None:
                self._chat = ChatTokens(self.weights.tokenizer)
            return self._chat.ids(messages)

    def _head(self, messages: Sequence[Mapping[str, Any]], constant: tuple[int, int]) -> tuple[int, ...]:
        """Return the tokens that every row shares: those that no text after the constant text can change. Empty where all
        messages are constant, so that nothing comes after them.

        They are found by appending different texts to the constant text, which works for any tokenizer and chat template.
        """
        whole, characters = constant
        if whole >= len(messages):
            return ()
        varying = messages[whole]
        head = [*messages[:whole], {**varying, "content": str(varying["content"])[:characters]}]
        key = json.dumps(head, ensure_ascii=False)
        if key not in self._head_ids:
            if len(self._head_ids) >= MAX_HEADS:
                self._head_ids.clear()
            probes = [
                self._ids([*head[:-1], {**head[-1], "content": head[-1]["content"] + probe}])
                for probe in ("Zq", " a", "\n", "7.", '"')
            ]
            length = 0
            while all(len(ids) > length for ids in probes) and len({ids[length] for ids in probes}) == 1:
                length += 1
            self._head_ids[key] = probes[0][:length]
        return self._head_ids[key]

    def allowed(self, format: str, outputs: Object, reply: Sequence[int]) -> NDArray[numpy.int32]:
        """Return, for each of the T tokens of a constrained reply, which `may_say` must accept, the mask of the tokens
        that the grammar of `outputs` in `format` allowed there: (T, W) words of 32 bits, a bit for each token of the
        vocabulary (`unpacked` reads them). Raises LmprogError for a type without a grammar.
        """
        return self._grammars().allowed(format, outputs, reply)

    def may_say(self, format: str, outputs: Object, reply: Sequence[int]) -> bool:
        """Return whether the token ids `reply` are a complete or partial reply that the grammar of `outputs` in
        `format` allows. Raises LmprogError for a type without a grammar.
        """
        constraint = self._grammars().constraint(format, outputs)
        return bool(constraint.matcher.validate_tokens(list(reply)) == len(reply))

    def reply_ids(self, text: str, *, ended: bool = True) -> tuple[int, ...]:
        """Return the token ids of a reply's text, with the tokenizer's end token if `ended`, as the tokenizer splits
        the text: a model may have written the same text in other tokens.
        """
        with self._tokenizing:
            ids = self.weights.tokenizer(text, add_special_tokens=False).input_ids
        return (*ids, self.weights.tokenizer.eos_token_id) if ended else tuple(ids)

    @property
    def vocabulary(self) -> int:
        """The size of the model's vocabulary in token ids, which is the width of its logits."""
        return int(self.weights.base.config.get_text_config().vocab_size)

    def _grammars(self) -> Grammars:
        if self._constraining is None:
            weights = self.weights
            self._constraining = Grammars(weights.tokenizer, weights.base.config.vocab_size, weights.end_ids)
        return self._constraining

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of a reply's token ids, without end tokens and other special tokens."""
        said = [token for token in ids if token not in self.weights.end_ids]
        return str(self.weights.tokenizer.decode(said, skip_special_tokens=True))

    def _completion(self, prompt: Prompt, reply: Reply, request: Request) -> Completion:
        return Completion(
            text=_before_stop(self.text(reply.ids), sampling_of(request).stop),
            token_ids=tuple(reply.ids),
            logprobs=tuple(reply.logprobs),
            prompt_token_ids=prompt.ids,
            usage=Usage(len(prompt.ids), len(reply.ids), 0.0),
            finish_reason=reply.finish_reason,
        )


class _Pieces:
    """The text of one row's reply that was sent to the request's `on_text`, and what is to follow; it is sent on the event
    loop of the request's future.
    """

    def __init__(
        self, request: Request, future: asyncio.Future[Completion], text: Callable[[Sequence[int]], str]
    ) -> None:
        self._request, self._future, self._text = request, future, text
        self._sent = 0

    def add(self, ids: Sequence[int]) -> None:
        """Send what is new in the text of the reply's tokens so far, but for an end that may be the beginning of a stop text.

        Nothing is sent while the last character may still be a part of one.
        """
        if self._request.on_text is None or (reply := self._text(ids)).endswith("\ufffd"):
            return
        stops = sampling_of(self._request).stop
        reply = _before_stop(reply, stops)
        begun = (size for stop in stops for size in range(1, len(stop)) if reply.endswith(stop[:size]))
        self.send(reply[: len(reply) - max(begun, default=0)])

    def send(self, reply: str) -> None:
        """Send the part of `reply`, the text so far or whole, that was not sent yet; nothing where nobody listens any more."""
        if self._request.on_text is not None and len(reply) > self._sent and not self._future.done():
            self._future.get_loop().call_soon_threadsafe(self._request.on_text, reply[self._sent :])
            self._sent = len(reply)


def _before_stop(text: str, stops: Sequence[str]) -> str:
    """Return the text up to the first of the stop texts in it, or all of it."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text


async def _quiet(waiting: list[Waiting]) -> None:
    """Wait until 8 turns of the event loop in a row have brought no further request, with no tool or metric at work. Tools
    in threads are waited for during TOOL_TURNS (500) turns at most.
    """
    still, turns = 0, TOOL_TURNS
    while still < 8:
        before = len(waiting)
        at_work = threads.at_work(tools=turns > 0)
        turns -= at_work
        await asyncio.sleep(0.001 if at_work else 0)
        still = 0 if at_work or len(waiting) != before else still + 1
