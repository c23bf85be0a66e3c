"""Record the tests of gallery programs from replies that are written by hand, in `replies.yaml` beside each program.

    .venv/bin/python specs/gallery/record.py rag agent

A server on this machine speaks the protocol of OpenAI and gives the written replies; `lmprog test --record` asks it. What is
recorded shows how a program works, and is no score of a model. `replies.yaml` maps the beginning of a module's instructions to
replies by a text that stands in the prompt. A reply is a text, a mapping that is sent as JSON, `call: [{tool: arguments}]`,
or a list of these, one for each turn of an agent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

GALLERY = Path(__file__).parent
Replies = Mapping[str, Mapping[str, Any]]


def reply_to(messages: Sequence[Mapping[str, Any]], replies: Replies) -> dict[str, Any] | None:
    """Return the written message that answers these messages, or None where none is written."""
    system = str(messages[0]["content"])
    asked = next(str(message["content"]) for message in reversed(messages) if message["role"] == "user")
    turn = sum("tool_calls" in message for message in messages)
    for beginning, by_text in replies.items():
        if system.startswith(beginning):
            for text, reply in by_text.items():
                if text in asked:
                    return _message(reply[turn] if isinstance(reply, list) else reply)
    return None


def _message(reply: Any) -> dict[str, Any]:
    """Return a written reply as a message of the protocol."""
    if isinstance(reply, dict) and set(reply) == {"call"}:
        calls = [
            {"id": f"call_{index}", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
            for index, call in enumerate(reply["call"])
            for tool, arguments in call.items()
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    text = reply.strip() if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
    return {"role": "assistant", "content": text}


def serve(replies: Replies) -> ThreadingHTTPServer:
    """Return a server on a free port of this machine that gives the written replies, and 404 where there is none."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = reply_to(body["messages"], replies)
            if message is None:
                error = f"no reply is written for {body['messages'][-1]['content']!r}"
                self._send(404, {"error": {"message": error}})
                return
            reason = "tool_calls" if "tool_calls" in message else "stop"
            choice = {"index": 0, "message": message, "finish_reason": reason}
            self._send(200, {"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice]})

        def _send(self, status: int, document: Mapping[str, Any]) -> None:
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def record(name: str) -> int:
    """Record the tests of the program of this name; return the exit status of `lmprog test`."""
    folder = GALLERY / name
    written = folder / "replies.yaml"
    server = serve(yaml.safe_load(written.read_text(encoding="utf-8")) if written.exists() else {})
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
        "OPENAI_API_KEY": "none",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["lmprog", "test", f"{name}.yaml", "--record", "recording.jsonl"]
    try:
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    finally:
        server.shutdown()


if __name__ == "__main__":
    sys.exit(max(map(record, sys.argv[1:])))
