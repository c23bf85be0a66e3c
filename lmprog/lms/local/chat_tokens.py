"""Tokenization of chats: special tokens come from the chat template alone; text in messages that looks like one stays text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from lmprog.errors import LmprogError

_PRIVATE = range(0xE000, 0xF8FF)
"""Characters of Unicode's private use. Two of them that no message holds mark, while a chat is rendered, where a message
has text that looks like a special token.
"""


class ChatTokens:
    """A converter of messages to token ids by a tokenizer's own chat template; made by LocalLM."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        known = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        specials = sorted({*known, *tokenizer.all_special_tokens}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials))) if specials else None

    def ids(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """Return the token ids of the messages, and of the template's beginning of the assistant's reply. Text in a
        message that looks like a special token is tokenized as plain text. Raises LmprogError where the template
        refuses the messages, or there is none.
        """
        if self._special is None or not any(self._special.search(str(turn.get("content"))) for turn in messages):
            return self._ids_of(self._rendered(messages))
        texts = "".join(str(turn.get("content")) for turn in messages)
        free = (chr(code) for code in _PRIVATE if chr(code) not in texts)
        begin, end = next(free), next(free)
        written: list[str] = []

        def stand_in(found: re.Match[str]) -> str:
            written.append(found[0])
            return f"{begin}{len(written) - 1}{end}"

        special = self._special
        hidden = [
            {**turn, "content": special.sub(stand_in, turn["content"])}
            if isinstance(turn.get("content"), str)
            else turn
            for turn in messages
        ]
        rendered = self._rendered(hidden)
        restored = re.compile(f"{begin}(\\d+){end}")
        # Special tokens part a text before all else, so that the texts between them are tokenized by themselves.
        ids: list[int] = []
        position = 0
        for token in special.finditer(rendered):
            ids += self._text_ids(
                restored.sub(lambda found: written[int(found[1])], rendered[position : token.start()])
            )
            ids += self._ids_of(token[0])
            position = token.end()
        ids += self._text_ids(restored.sub(lambda found: written[int(found[1])], rendered[position:]))
        return tuple(ids)

    def _rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
        except (TemplateError, TypeError, ValueError) as error:  # a ValueError where the tokenizer has no template
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LmprogError(
            f"the model's chat template takes no such messages: {said}; change the module's `prompt` (the template may take no "
            "text of the system, or one turn of the user alone), or take another model"
        )

    def _ids_of(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _text_ids(self, text: str) -> list[int]:
        if not text:
            return []
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)
