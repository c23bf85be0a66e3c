"""Images in messages: a path or an address in the trace, what the API takes on the wire.

A message refers to an image as OpenAI's API has it, `{"type": "image_url", "image_url": {"url": ...}}`. A file on this machine
stays a path, beside the sha256 of its bytes, until the request is sent: so a trace holds no image, and a replay still
knows one image from another.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lmprog.errors import UsageError

Message = Mapping[str, Any]
_REMOTE = ("http://", "https://", "data:")
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


READABLE: ContextVar[frozenset[str] | None] = ContextVar("READABLE", default=None)
"""The only paths of images that may be read, where a client sends the inputs; None: any."""


class NoImage(UsageError):
    """The error for an image that cannot be read, for a file that is no image, or for one that a client of a server may not
    name.
    """


def with_digests(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages with the SHA-256 of the file's bytes, under `sha256`, beside each image that is a local file;
    addresses and data URIs stay as they are.

    Raises NoImage where such a file cannot be read, or is no image.
    """

    def referred(path: str) -> dict[str, Any]:
        return {"url": path, "sha256": hashlib.sha256(_read(path)[0]).hexdigest()}

    return _each(messages, referred)


def with_images(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages as an API takes them: each image that is a local file becomes a data URI, and all else stays;
    the same object where all messages are plain text.

    Raises NoImage where such a file cannot be read, or is no image.
    """

    def sent(path: str) -> dict[str, Any]:
        content, kind = _read(path)
        return {"url": f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"}

    return _each(messages, sent)


def _each(messages: Sequence[Message], change: Callable[[str], dict[str, Any]]) -> Sequence[Message]:
    """Return the messages with `change` applied to the path of each local image; the same object where every message is
    plain text.
    """
    if all(isinstance(message.get("content"), str) for message in messages):
        return messages
    return tuple(_message(message, change) for message in messages)


def _message(message: Message, change: Callable[[str], dict[str, Any]]) -> Message:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [_part(part, change) for part in content]}


def _part(part: Any, change: Callable[[str], dict[str, Any]]) -> Any:
    if not isinstance(part, Mapping) or part.get("type") != "image_url":
        return part
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str) or url.startswith(_REMOTE):
        return part
    rest = {key: value for key, value in image.items() if key != "sha256"} if isinstance(image, Mapping) else {}
    return {**part, "image_url": {**rest, **change(url)}}


def _read(path: str) -> tuple[bytes, str]:
    """Return the bytes of an image file, and its media type (such as `image/png`) by its first bytes, else by its name.
    Raises NoImage where the file cannot be read, is no image, or is none that a client's request may name (READABLE).
    """
    readable = READABLE.get()
    if readable is not None and path not in readable:
        raise NoImage("an image of a client must be a data URI (data:image/png;base64,...): no file is read for it")
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError for a path with a null character
        raise NoImage(f"the image {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    kind = kind or mimetypes.guess_type(path)[0] or ""
    if not kind.startswith("image/"):
        raise NoImage(f"{path} is no image: its first bytes and its name say nothing of one")
    return content, kind
