"""Replies to learn as turns of a chat, for a provider that trains the weights; and the rows that it takes. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.templates.compiled import RenderError
from lmprog.compiler.tokens import CHARACTERS_PER_TOKEN, reply_limit_of
from lmprog.lms.fine_tuning import RowLimits, row_of
from lmprog.lms.images import with_images
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.teachers import Teachers, Unfit, reads_as, teachers_of
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.gathering import Gathering
from lmprog.runtime.program import Program
from lmprog.traces.record import Invocation


@dataclass(frozen=True)
class ChatReply:
    """A reply to learn for a module (its id): the messages of its prompt, as the JSON text of a list, and the text of
    the reply.
    """

    module: str
    messages: str
    """The prompt, as JSON."""
    text: str

    def as_json(self) -> list[Any]:
        """Return `[module, messages, text]`, from which `ChatReplies.read` makes the reply again."""
        return [self.module, self.messages, self.text]

    def row(self) -> dict[str, Any]:
        """Return the line of the provider's training file as a dictionary `{"messages": [...]}`, with images as data
        URIs. Raises NoImage where the file of an image cannot be read."""
        return row_of([dict(message) for message in with_images(json.loads(self.messages))], self.text)


class ChatReplies(Gathering[ChatReply]):
    """The gathering of replies to learn for the modules whose weights a provider trains."""

    def __init__(self, task: Task, options: Config, modules: frozenset[str]) -> None:
        """Set up the gathering for `modules`, which providers train. Raises LmprogError for a reward that compares runs
        beside teachers."""
        config = options.training()
        scorer = Reward(task.program, task.metric, modules, config)
        own = teachers_of(task.program, config)
        teachers = _ChatTeachers(own, task.program, task.train, scorer, {})
        teachers.modules = modules
        super().__init__(task, options, task.program, modules, teachers)

    def params(self) -> dict[str, dict[str, Any]]:
        return {id: {"temperature": self.options.temperature_of(id)} for id in self.modules}

    def read(self, kept: Sequence[Any]) -> ChatReply:
        return ChatReply(*kept)

    def reply_of(self, made: Invocation) -> ChatReply | None:
        """Return the reply to learn from an LM call; None where the call has no outputs, or outputs that the module's prompt
        cannot write as a demo.

        Its text is unchanged where the outputs can be read in it without repairs, else the outputs are written as in a
        demo. Of an agent each turn with a text is a reply, that text unchanged, without the tool calls beside it; None
        for the other turns. `made` is the record of the call.
        """
        module, text = self.program.plan.modules[made.module], made.text
        if not module.tools:
            if made.outputs is None:
                return None
            if text is None or not reads_as(module, text, made.outputs, cut=False, lenient=False):
                try:
                    text = _written(self.program, made)
                except Unfit:
                    return None
        if not text:
            return None
        return ChatReply(made.module, json.dumps(list(made.messages), ensure_ascii=False), text)


class _ChatTeachers(Teachers):
    """The teachers of modules whose weights a provider trains: their replies stay text."""

    def taught(self, made: Invocation, teacher: Plan, prompt_program: Program) -> Invocation:
        """Return a call of a teacher's module as a call of the same module of `prompt_program`, with the prompt of that.

        The reply stays word for word where the module reads the same outputs in it without repairs; else, and where there is
        none, it is its outputs, written as the demos of the module have them. Raises Unfit where inputs or outputs cannot be
        written in the prompt, where the reply is read as other outputs, and where it is estimated to be longer than
        `max_tokens`. `made` is the record of the call; `teacher`, the teacher's plan, does not count.
        """
        plan = prompt_program.plan
        module = plan.modules[made.module]
        assert made.outputs is not None
        as_it_came = made.text is not None and reads_as(module, made.text, made.outputs, cut=False, lenient=False)
        try:
            prompt = prompt_program.resources.module(module, plan).builder.build(made.inputs)
        except RenderError as error:
            raise Unfit(str(error)) from error
        text = made.text if as_it_came and made.text is not None else _written(prompt_program, made)
        if not reads_as(module, text, made.outputs, cut=False):
            raise Unfit("it is not read as the same outputs")
        most = reply_limit_of(plan.lms[module.lm])
        if most is not None and tokens_of(text) > most:
            raise Unfit(f"its {tokens_of(text)} tokens are more than max_tokens")
        return replace(made, text=text, messages=prompt.messages)


def _written(program: Program, made: Invocation) -> str:
    """Return the outputs of a call as the demos of its module have them. Raises Unfit where they cannot be written."""
    builder = program.resources.module(program.plan.modules[made.module], program.plan).builder
    try:
        return builder.reply({**made.inputs, **(made.outputs or {})})
    except RenderError as error:
        raise Unfit(str(error)) from error


def tokens_of(text: str) -> int:
    """Return an estimate of how many tokens a text has, by its characters, since the provider's tokenizer is not known."""
    return round(len(text) / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Rows:
    """The rows that a provider trains on, as the JSON lines of its file (`data`), with their number (`count`), their
    estimated tokens, and the number of replies left out as too long."""

    data: bytes
    count: int
    tokens: int
    """About the tokens of all rows."""
    too_long: int
    """Number of rows that are left out, since the provider would cut them."""


def rows_within(replies: Sequence[ChatReply], limits: RowLimits) -> Rows:
    """Return the rows of those replies that, with their prompts, keep the provider's limit of length by an estimate; longer
    ones would be cut, and are left out. The provider's other limits are not looked at."""
    lines, tokens, too_long = [], 0, 0
    for reply in replies:
        row = reply.row()
        of_row = sum(tokens_of(_text(message)) for message in row["messages"])
        if of_row > limits.tokens:
            too_long += 1
            continue
        tokens += of_row
        # Half a surrogate pair, which no UTF-8 holds, goes as its escape.
        lines.append(json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
    return Rows(b"".join(lines), len(lines), tokens, too_long)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content or ())
