"""`GET /docs`: a page for people who want to call the program."""

from __future__ import annotations

import json

from lmprog.compiler.plan import Plan
from lmprog.lms.fake import placeholder
from lmprog.reports.page.document import document

PATHS = (
    ("/run?stream=1", "what the LMs write and what was called, as server-sent events"),
    ("/run?stream=fields", "the outputs, piece by piece, as server-sent events"),
    (
        "/v1/chat/completions",
        "OpenAI's protocol, where the program takes a conversation or one text; /v1/models has its name",
    ),
    (
        "/runs/ID/feedback",
        "POST {score, comment, correction} on the run with this `id`: the score is from 0 to 1, the correction has the outputs "
        "that would have been right; the server keeps it beside its --trace",
    ),
    ("/mcp", "MCP over streamable HTTP, where the extra `mcp` is installed: the program is a tool"),
    ("/openapi.json", "the schemas of inputs, outputs and errors"),
    ("/metrics", "counts for Prometheus"),
    ("/health, /ready", "for probes; they need no key"),
)


def api_page(plan: Plan, url: str, key: bool) -> str:
    """Return the HTML page that documents a served program, with example inputs made up from their types; `url` is the
    server's address without a slash at its end, `key` True where requests need a key."""
    example = {name: placeholder(name, field.type) for name, field in plan.inputs.items() if not field.has_default}
    said = json.dumps(example, ensure_ascii=False)
    return document("api.html", "page.js", plan=plan, url=url, key=key, example=said, paths=PATHS)
