"""An LM request as text and as plain values: messages, tools, schema, parameters, tokens, and the cacheable part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lmprog.compiler import model_table
from lmprog.compiler.prompts.messages import content_text, message_text
from lmprog.compiler.tokens import CHARACTERS_PER_TOKEN, reply_limit
from lmprog.lms.sending import as_sent, is_marked
from lmprog.runtime.events import RequestMade

SHOWN = 40
"""The characters before the end of the part that is the same for every row that are shown."""
APART = ("model", "messages", "tools", "response_format", "schema", "seed")
"""Fields of a request that have a place of their own; the others are its parameters."""


def document(made: RequestMade) -> dict[str, Any]:
    """Return an LM request as a dictionary: `step` (its path), `module`, `lm`, `model`, `messages`, `params` (as the LM is sent
    them), `seed` (None: none), `format`, `tokens` (`prompt`, about; `reply`, the limit; `context`; None where unknown),
    `same_for_every_row` (whole `messages`, `characters` of the next, `marked` for the provider's cache), and where there
    are any `adapter` (its path), `tools`, and the schema of the reply (`response_format` or `schema`).
    """
    request, sent = made.request, as_sent(made.lm, made.request)
    whole, characters = request.constant
    found: dict[str, Any] = {
        "step": made.path,
        "module": made.module.id,
        "lm": made.lm.id,
        "model": made.lm.model,
        "messages": list(request.messages),
        "params": {name: value for name, value in sent.items() if name not in APART},
        "seed": sent.get("seed"),
        "format": request.format,
        "tokens": _tokens(made, sent),
        "same_for_every_row": {"messages": whole, "characters": characters, "marked": is_marked(sent["messages"])},
    }
    if request.adapter is not None:
        found["adapter"] = str(request.adapter.path)
    if request.tools:
        found["tools"] = [asdict(offer) for offer in request.tools]
    if "response_format" in sent:
        found["response_format"] = sent["response_format"]
    if "schema" in sent:
        found["schema"] = sent["schema"]
    return found


def lines(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parts of a request (as `document` returns it) in the order for a reader, each as a heading and a text:
    messages, tools, schema, parameters, tokens, and the part that is the same for every row.
    """
    for message in shown["messages"]:
        yield message["role"], message_text(message)
    for offer in shown.get("tools", ()):
        yield f"tool {offer['name']}", _json(offer)
    if "response_format" in shown:
        yield "the reply, by the provider's structured output", _json(shown["response_format"])
    if "schema" in shown:
        yield "the reply, by constrained decoding", _json(shown["schema"])
    own = {name: shown[name] for name in ("adapter", "seed") if shown.get(name) is not None}
    yield "parameters", "\n".join(f"{name}: {_value(value)}" for name, value in {**shown["params"], **own}.items())
    yield "tokens", tokens_line(shown["tokens"])
    yield "the same for every row", same_line(shown)


def tokens_line(tokens: Mapping[str, Any]) -> str:
    """Return a sentence with the tokens of a prompt, the longest reply, and the context window (`tokens` of `document`)."""
    reply = f"a reply of at most {tokens['reply']:,}" if tokens["reply"] is not None else "no limit of the reply is set"
    context = f"; {tokens['context']:,} fit in the context" if tokens["context"] is not None else ""
    return f"about {tokens['prompt']:,} (at {CHARACTERS_PER_TOKEN:g} characters a token); {reply}{context}"


def same_line(shown: Mapping[str, Any]) -> str:
    """Return a sentence on the part of a request (as `document` returns it) that is the same for every row, and whether the
    provider caches it.
    """
    same = shown["same_for_every_row"]
    whole, characters = same["messages"], same["characters"]
    if not whole and not characters:
        return "nothing: a prompt cache can keep nothing of it"
    parts = ["the first message" if whole == 1 else f"the first {whole} messages"] if whole else []
    messages = shown["messages"]
    if characters and whole < len(messages):
        text = content_text(messages[whole]["content"])[:characters]
        parts.append(f"{characters} characters of message {whole + 1} ({messages[whole]['role']}), to {_end(text)}")
    mark = "the cache mark (cache_control) stands there" if same["marked"] else "sent without a mark"
    return f"{' and '.join(parts)}; {mark}"


def _tokens(made: RequestMade, sent: Mapping[str, Any]) -> dict[str, int | None]:
    """Return about how many tokens the prompt has, the limit of the reply and the context window (None: not known)."""
    texts = [message_text(message) for message in made.request.messages]
    texts += [_json(sent[name]) for name in ("tools", "response_format") if name in sent]
    context = model_table.limits(made.lm).context
    prompt = _count(texts)
    return {"prompt": prompt, "reply": reply_limit(made.request.params), "context": context}


def _count(texts: Iterable[str]) -> int:
    """Return about how many tokens texts have, by their characters."""
    return round(sum(map(len, texts)) / CHARACTERS_PER_TOKEN)


def _end(text: str) -> str:
    """Return the end of a text, quoted."""
    return json.dumps(text[-SHOWN:] if len(text) <= SHOWN else f"...{text[-SHOWN:]}", ensure_ascii=False)


def _value(value: Any) -> str:
    """Return a parameter as text: JSON, but for a text itself."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _json(value: Any) -> str:
    """Return a value as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
