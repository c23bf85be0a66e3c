"""A provider's job in a stage: its file, its start and its end, each recorded, so that a resumed run goes on with it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace

from lmprog.aio.loops import run_async
from lmprog.compiler import fine_tuning
from lmprog.compiler.model_table import own_limits
from lmprog.compiler.plan import LM
from lmprog.errors import BudgetExceeded, ProviderError, UsageError
from lmprog.lms.fine_tuning import FineTuning, JobOptions, JobState, fine_tuning_of
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.chat_replies import ChatReply, Rows, rows_within
from lmprog.optimizers.sft.config import Job as Settings
from lmprog.seeds import derive
from lmprog.spending.budget import Spent

FIRST_POLL, MAX_POLL = 5.0, 60.0
"""Seconds between two looks at a job: at first, and at most."""
READY_POLL, READY_TRIES = 15.0, 40
"""Seconds between two looks for the model that came out, and the number of looks: a provider needs some minutes for it."""
SUFFIX = 18
"""The longest suffix of a model's name that Azure takes."""


class ProviderJob:
    """The fine-tuning job of one LM at its provider, in one stage. `model` is the name of the model that is trained, and
    `settings` are the option `job` of the stage."""

    def __init__(self, task: Task, lm: LM, settings: Settings) -> None:
        self.task, self.lm, self.settings = task, lm, settings
        self.provider: FineTuning = fine_tuning_of(lm)
        self.model = settings.model or lm.model.partition("/")[2] or lm.model
        self.journal = task.journal.part(f"job/{lm.id}")

    @property
    def where(self) -> str:
        """The LM and its model, for messages."""
        return f"lms.{self.lm.id} ({self.lm.model})"

    def rows(self, replies: Sequence[ChatReply]) -> Rows | None:
        """Return the rows to send to the provider for the replies, without those that are too long for it; None where they are
        too few for it or too many bytes. Each of these is noted in the journal.
        """
        limits = self.provider.limits(self.model)
        found = rows_within(replies, limits)
        if found.too_long:
            self.task.journal.note(
                f"{self.where}: {found.too_long} replies are left out, whose rows have more than {limits.tokens:,} tokens: "
                "the provider would cut them"
            )
        if found.count < limits.rows:
            self.task.journal.note(
                f"{self.where}: {found.count} replies to learn, and the provider trains on {limits.rows} or more: nothing is "
                "sent; more train rows, samples, teachers or labelled rows may give some"
            )
            return None
        if len(found.data) > limits.bytes:
            self.task.journal.note(
                f"{self.where}: the rows have {len(found.data) / 1e6:,.0f} MB, and the provider takes "
                f"{limits.bytes / 1e6:,.0f}: nothing is sent; lower rows or keep"
            )
            return None
        return found

    def estimated_usd(self, rows: Rows) -> float:
        """Return what a job on the rows costs by an estimate, in US dollars; 0.0 where the price of training is unknown."""
        price = fine_tuning.training_usd(self.lm, self.settings.model)
        return 0.0 if price is None else rows.tokens * self.settings.epochs * price

    async def trained(self, rows: Rows, beside: float = 0.0) -> str:
        """Train the LM on the rows by a fine-tuning job, wait for its end, and charge its price to the task's budget;
        return the name of the trained model, as an LM's `model` has it. An interrupt leaves the job at work, and a
        resumed run waits for it.

        Raises ProviderError where the provider refuses, or the job fails or is cancelled; and before anything is sent
        BudgetExceeded where the estimated price exceeds what the budget has left beside other jobs that run at the same time
        (`beside`, their estimated price in US dollars), and UsageError where a price is unknown beside a budget in usd.
        """
        job = self.journal.recall("job")
        if job is None:
            self._within_budget(rows, beside)
            job = await self._started(rows)
        self.task.journal.note(
            f"{self.where}: the provider trains {self.model} on {rows.count} replies for {self.settings.epochs} epochs, "
            f"in the job {job}"
        )
        state = await self._ended(job)
        if state.status != "succeeded" or state.model is None:
            raise ProviderError(self._failed(state))
        self._charge(state)
        await self._ready(state.model)
        return state.model

    async def _started(self, rows: Rows) -> str:
        """Store the file and start the job, both once; return the job's id.

        What is about to be sent is recorded before, so that a process that follows a killed one looks for it first.
        """
        for _ in range(2):
            name = self.journal.recall("name")
            seek = name is not None
            if name is None:
                # Unique to this run and stage, so that no file of another is taken for it: no draw that a result depends on.
                name = f"lmprog-{uuid.uuid4().hex}.jsonl"
                self.journal.keep("name", name)
            file = self.journal.recall(f"file/{name}")
            if file is None:
                file = await self.provider.upload(name, rows.data, seek=seek)
                self.journal.keep(f"file/{name}", file)
            seek = self.journal.recall(f"starting/{file}") is not None
            if not seek:
                self.journal.keep(f"starting/{file}", True)
            state = await self.provider.start(file, self._options(), seek=seek)
            if state is not None:
                self.journal.keep("job", state.id)
                return state.id
            self.task.journal.note(f"{self.where}: the provider has the file {file} no more: the rows are sent again")
            self.journal.keep("name", None)
        raise ProviderError(
            f"{self.where}: the provider lost the training file twice; begin the stage again with --restart-stage sft"
        )

    def _options(self) -> JobOptions:
        named = "".join(letter if letter.isalnum() else "-" for letter in self.task.program.plan.name)
        return JobOptions(
            self.model,
            self.settings.epochs,
            derive(self.task.seed, "job", self.lm.id) % 2**31,
            named[:SUFFIX].strip("-") or "lmprog",
            self.settings.batch,
            self.settings.learning_rate_multiplier,
        )

    async def _ended(self, job: str) -> JobState:
        """Wait until a job has ended, and return it then; its status and messages are shown meanwhile."""
        shown, said, wait = "", set[str](), FIRST_POLL
        while True:
            state = await self.provider.state(job)
            for message in await self.provider.events(job):
                if message and message not in said:
                    said.add(message)
                    self.task.journal.tell("note", text=f"{self.lm.id}: {message}")
            if state.shown != shown:
                shown = state.shown
                self.task.journal.tell("job", lm=self.lm.id, job=job, status=shown, ended=state.status != "running")
            if state.status != "running":
                return state
            await asyncio.sleep(wait)
            wait = min(1.5 * wait, MAX_POLL)

    async def _ready(self, model: str) -> None:
        """Wait until the provider answers with a model; after READY_TRIES go on, since the evaluation will tell."""
        for _ in range(READY_TRIES):
            if await self.provider.answers(model):
                return
            await asyncio.sleep(READY_POLL)

    def _failed(self, state: JobState) -> str:
        if state.status == "cancelled":
            return f"{self.where}: the fine-tuning job {state.id} was cancelled; --restart-stage sft starts another"
        if state.status == "succeeded":
            return f"{self.where}: the fine-tuning job {state.id} succeeded and names no model; ask the provider for it"
        why = state.error or "the provider says no reason"
        return (
            f"{self.where}: the fine-tuning job {state.id} failed: {why}; correct that, then start another with "
            "--restart-stage sft"
        )

    def _within_budget(self, rows: Rows, beside: float) -> None:
        """Raise BudgetExceeded where the job, with `beside` US dollars of other jobs, would exceed the budget in usd, and
        UsageError where its price is unknown; do nothing without such a budget."""
        most = self.task.budget.limits.get("usd")
        if most is None:
            return
        if fine_tuning.training_usd(self.lm, self.settings.model) is None:
            raise UsageError(
                f"a budget in usd cannot be kept: the price of training {self.model} is unknown; write "
                f"lms.{self.lm.id}.price: {{training: ...}}, or set the budget in tokens"
            )
        if own_limits(replace(self.lm, model=fine_tuning.tuned_name(self.lm, self.settings.model))).prompt_usd is None:
            raise UsageError(
                f"a budget in usd cannot be kept: the price of calls of what comes out of {self.model} is unknown; write "
                f"lms.{self.lm.id}.price: {{input: ..., output: ..., training: ...}}, or set the budget in tokens"
            )
        usd = self.estimated_usd(rows)
        if self.task.budget.spent.usd + beside + usd > most:
            others = f", beside ${beside:.2f} of other jobs" if beside else ""
            raise BudgetExceeded(
                f"the budget of ${most:g} is spent: the fine-tuning job of {self.lm.id} costs about ${usd:.2f}{others}"
            )

    def _charge(self, state: JobState) -> None:
        price = fine_tuning.training_usd(self.lm, self.settings.model)
        if price is None or state.trained_tokens is None:
            self.task.journal.note(f"{self.where}: what the job cost is unknown, and is not in the amounts spent")
            return
        usd = state.trained_tokens * price
        self.task.budget.charge(Spent(usd=usd), Spent())
        self.task.journal.note(f"{self.where}: the job trained on {state.trained_tokens:,} tokens, ${usd:.2f}")


def cancelled(lm: LM, job: str) -> str:
    """Cancel the fine-tuning job with the id `job` at the provider of an LM, and return its status then, in the
    provider's own word. Raises ProviderError where the provider refuses."""
    return run_async(lambda: fine_tuning_of(lm).cancel(job)).shown
