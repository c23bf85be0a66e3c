"""DSPy's side of benchmarks/prompt_search.py: the same tasks and metrics as `dspy` programs, on lmprog's engine."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import dspy
import optuna
from prompt_search_tasks import (
    CLASSIFY,
    FIRST,
    HITS,
    MODEL,
    PROPOSAL_TOKENS,
    SECOND,
    Row,
    Sizes,
    Task,
    exact_match,
    title_recall,
)

from lmprog.lms.lm import Request
from lmprog.lms.local import shared
from lmprog.seeds import derive
from lmprog.tools.search import index_of

THREADS = 32
GATHER = 0.01
"""Seconds that a request waits for those of the other threads, so that they are answered as one wave."""
ERRORS = 10**9
"""Runs that may fail. By default DSPy gives an evaluation up after 10, and a small model fails more often than that."""
INSTRUCTIONS, DEMO_SETS = 3, 6
"""Of MIPROv2, as with its `auto="light"`."""
MINIBATCH, FULL_EVERY = 35, 5
"""The defaults of MIPROv2, which takes minibatches of more than 50 rows where it may choose."""


class Engine:
    """lmprog's engine for the threads of DSPy: one event loop in a thread of its own.

    Counts calls, and those of them that repeat an earlier one word for word, without a temperature. These are answered from
    memory, as by DSPy's cache: its optimizers run the same program on the same rows again where they find no demos.
    """

    def __init__(self) -> None:
        self.calls = self.repeated = 0
        self._kept: dict[str, Any] = {}
        self._counting = threading.Lock()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def complete(self, messages: Sequence[dict[str, str]], params: dict[str, Any], seed: int) -> Any:
        """The reply to `messages`, drawn by the seed and the number of the call.

        All messages but the last are taken for the same in every row, as those of lmprog's prompts are.
        """
        key = json.dumps([messages, params], ensure_ascii=False)
        with self._counting:
            kept = self._kept.get(key)
            self.calls += 1
            self.repeated += kept is not None
            draw = derive(seed, self.calls)
        if kept is not None:
            return kept
        reply = asyncio.run_coroutine_threadsafe(self._complete(messages, params, draw), self._loop).result()
        if not params.get("temperature"):
            self._kept[key] = reply
        return reply

    async def _complete(self, messages: Sequence[dict[str, str]], params: dict[str, Any], seed: int) -> Any:
        await asyncio.sleep(GATHER)
        request = Request(messages, params, seed, constant=(len(messages) - 1, 0))
        return await shared(MODEL).complete(request)


class EmbeddedLM(dspy.BaseLM):  # type: ignore[misc]
    """The embedded model as an LM of DSPy."""

    def __init__(self, engine: Engine, max_tokens: int, seed: int) -> None:
        super().__init__(MODEL, temperature=0.0, max_tokens=max_tokens, cache=False, num_retries=0)
        self.engine, self.seed = engine, seed

    def forward(self, prompt: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        merged = {**self.kwargs, **kwargs}
        params = {name: merged[name] for name in ("temperature", "max_tokens") if merged.get(name) is not None}
        turns = messages or [{"role": "user", "content": prompt}]
        reply = self.engine.complete(turns, params, self.seed)
        message = SimpleNamespace(content=self.said(reply.text, turns), tool_calls=None)
        choice = SimpleNamespace(message=message, finish_reason=reply.finish_reason)
        return SimpleNamespace(choices=[choice], usage={}, model=self.model)

    def said(self, text: str, turns: Any) -> str:
        return text


class ProposerLM(EmbeddedLM):
    """The same model as it writes instructions for MIPROv2, which ends with an error where a reply lacks its header.

    The model leaves it out more often than not, so that it is put before the reply: each such reply has but one field.
    """

    def said(self, text: str, turns: Any) -> str:
        asked = re.search(r"starting with the field `(\[\[ ## \w+ ## \]\])`", turns[-1]["content"])
        return f"{asked[1]}\n{text}" if asked and asked[1] not in text else text


class Classify(dspy.Module):  # type: ignore[misc]
    """The program of the Banking77 task."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        signature = dspy.Signature("text: str -> intent: str", CLASSIFY)
        self.classify = dspy.Predict(signature.with_updated_fields("intent", type_=Literal[tuple(task.labels)]))

    def forward(self, text: str) -> Any:
        return self.classify(text=text)


class TwoHops(dspy.Module):  # type: ignore[misc]
    """The program of the multihop task."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.first = dspy.Predict(dspy.Signature("question: str -> query: str", FIRST))
        self.second = dspy.Predict(dspy.Signature("question: str, titles: list[str] -> query: str", SECOND))
        self.corpus = task.corpus

    def forward(self, question: str) -> Any:
        found = self.search(self.first(question=question).query)
        more = self.search(self.second(question=question, titles=found).query)
        return dspy.Prediction(titles=list(dict.fromkeys(found + more)))

    def search(self, query: str) -> list[str]:
        return index_of(self.corpus, ("title", "text"), "title").search(query, HITS)


@dataclass(frozen=True)
class Tuned:
    """A program, the LM calls that finding it took, and how many of them were repeated."""

    program: Any
    calls: int
    repeated: int


class Peer:
    """One task of one seed for DSPy's optimizers."""

    def __init__(self, task: Task, sizes: Sizes, seed: int) -> None:
        logging.getLogger("dspy").setLevel(logging.CRITICAL)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.task, self.sizes, self.seed = task, sizes, seed
        self.engine = Engine()
        self.lm = EmbeddedLM(self.engine, task.max_tokens, seed)
        self.proposer = ProposerLM(self.engine, PROPOSAL_TOKENS, seed)
        labelled = task.name == "banking77"
        self.demos = {"max_bootstrapped_demos": 4 if labelled else task.demos, "max_labeled_demos": task.demos}

    def zero_shot(self) -> Tuned:
        return Tuned(self._program(), 0, 0)

    def random_search(self) -> Tuned:
        optimizer = dspy.BootstrapFewShotWithRandomSearch(
            self._metric, num_candidate_programs=self.sizes.candidates, **self._how
        )
        return self._counted(lambda: optimizer.compile(self._program(), **self._data))

    def mipro(self) -> Tuned:
        size = len(self.task.dev)
        minibatch = size > 50
        optimizer = dspy.MIPROv2(
            self._metric,
            prompt_model=self.proposer,
            task_model=self.lm,
            auto=None,
            num_candidates=DEMO_SETS,
            **self._how,
        )
        optimizer.num_instruct_candidates = INSTRUCTIONS
        return self._counted(
            lambda: optimizer.compile(
                self._program(),
                seed=self.seed + 1,  # 0 would be taken for none
                num_trials=_trials((self.sizes.candidates + 3) * size, size, minibatch),
                minibatch=minibatch,
                minibatch_size=MINIBATCH,
                minibatch_full_eval_steps=FULL_EVERY,
                **self._data,
            )
        )

    def scores(self, program: Any) -> tuple[list[float], int]:
        """Of the test rows, and how many runs failed; such a run scores 0, as DSPy has it."""
        with dspy.context(lm=self.lm):
            evaluate = dspy.Evaluate(
                devset=self._examples(self.task.test), metric=self._metric, num_threads=THREADS, max_errors=ERRORS
            )
            found = evaluate(program).results
        return [float(score) for _, _, score in found], sum(not made.toDict() for _, made, _ in found)

    @property
    def _how(self) -> dict[str, Any]:
        return {**self.demos, "num_threads": THREADS, "max_errors": ERRORS, "metric_threshold": 1.0}

    @property
    def _data(self) -> dict[str, Any]:
        return {"trainset": self._examples(self.task.train), "valset": self._examples(self.task.dev)}

    def _counted(self, compile: Callable[[], Any]) -> Tuned:
        with dspy.context(lm=self.lm):
            program = compile()
        return Tuned(program, self.engine.calls, self.engine.repeated)

    def _program(self) -> Any:
        return TwoHops(self.task) if self.task.name == "multihop" else Classify(self.task)

    def _examples(self, rows: Sequence[Row]) -> list[Any]:
        return [dspy.Example(**row).with_inputs(*self.task.inputs) for row in rows]

    def _metric(self, example: Any, found: Any, trace: Any = None) -> float:
        if self.task.name == "multihop":
            return title_recall(found.titles, example.titles)
        return float(exact_match(found.intent, example.intent))


def _trials(runs: int, size: int, minibatch: bool) -> int:
    """How many trials of MIPROv2 take no more than so many runs, its scoring of the program as written among them."""
    if not minibatch:
        return max(1, runs // size - 1)
    trials = 1
    while (trials + 1) * MINIBATCH + (2 + (trials + 1) // FULL_EVERY) * size <= runs:
        trials += 1
    return trials


PEERS: dict[str, Callable[[Peer], Tuned]] = {
    "DSPy zero-shot": Peer.zero_shot,
    "DSPy BootstrapFewShotWithRandomSearch": Peer.random_search,
    "DSPy MIPROv2": Peer.mipro,
}
