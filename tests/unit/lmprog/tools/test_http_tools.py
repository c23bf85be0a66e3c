"""Http tools against a real server on this machine: what is sent, what comes back, what is tried again."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import lmprog
from lmprog import UsageError
from lmprog.boundary.wire import retry_after
from lmprog.tools import http
from tests.standing_in import standing_in


class Desk:
    """Answers with the next of `replies`: (status, headers, body) or None to cut the connection; else what was asked."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.seconds = 0.0
        self.requests: list[dict[str, Any]] = []
        desk = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers["content-length"] or 0)
                asked = {
                    "method": self.command,
                    "path": self.path,
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "body": json.loads(self.rfile.read(length)) if length else None,
                }
                desk.requests.append(asked)
                time.sleep(desk.seconds)
                told = {"content-type": "application/json"}
                reply = desk.replies.pop(0) if desk.replies else (200, told, json.dumps(asked))
                if reply is None:
                    self.close_connection = True
                    return
                status, headers, body = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *where: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    server = Desk()
    yield server
    server.close()


@pytest.fixture
def made(write, desk) -> Callable[..., lmprog.Program]:
    """A program that makes one call of the http tool of these settings."""

    def made(settings: str, given: str = "", more: str = "") -> lmprog.Program:
        spec = f"""
            lmprog: 1
            outputs: {{x: "${{{{ steps.use.found }}}}"}}
            tools:
              use: {{http: {{{settings.replace("URL", desk.url)}}}, result: found{more}}}
            steps:
              use: {{tool: use, with: {{{given}}}}}
        """
        return lmprog.load(write(spec))

    return made


def test_a_read_fills_the_address_and_the_query(made, desk) -> None:
    program = made(
        'url: "URL/pages/{title}?v=1", '
        'inputs: {title: str, k: {type: int, default: 5}, tags: "list[str]", deep: bool, none: "str?"}',
        'title: "a/b ü?", tags: [x, "y z"], deep: true',
    )
    program()
    (asked,) = desk.requests
    assert asked["method"] == "GET"
    assert asked["path"] == "/pages/a%2Fb%20%C3%BC%3F?v=1&k=5&tags=x&tags=y+z&deep=true"
    assert asked["body"] is None


def test_others_send_json(made, desk) -> None:
    made('url: "URL/pages/{title}", method: PUT, inputs: {title: str, text: str, n: "int?"}', "title: t, text: ü")()
    (asked,) = desk.requests
    assert (asked["method"], asked["path"], asked["body"]) == ("PUT", "/pages/t", {"text": "ü"})
    assert asked["headers"]["content-type"] == "application/json"


def test_headers_come_from_the_environment_and_stand_in_no_message(made, desk, monkeypatch) -> None:
    program = made('url: "${{ env.DESK }}", headers: {X-Key: "${{ env.DESK_KEY }}"}')
    with pytest.raises(UsageError, match=r"tool 'use'.*DESK"):
        program()
    monkeypatch.setenv("DESK", desk.url)
    monkeypatch.setenv("DESK_KEY", "key-987654")
    desk.replies = [(403, {}, "key-987654 is not welcome\nsecond line")]
    result = program.map([{}])[0]
    assert desk.requests[0]["headers"]["x-key"] == "key-987654"
    assert result.error.message == "use: the server answered 403: [secret] is not welcome"
    assert "key-987654" not in str(result)


@pytest.mark.parametrize("form", ["{}", "{}%", "bearer {}", "Basic {}"])
def test_a_secret_of_any_setting_stands_in_no_message_in_any_form(made, desk, monkeypatch, form) -> None:
    secret = "s3cr/t=" + form.replace("{}", "x")
    monkeypatch.setenv("DESK_KEY", secret)
    program = made('url: \'${{ join(["URL/{id}?key=", env.DESK_KEY], "") }}\', inputs: {id: str}', "id: a")
    b64 = base64.b64encode(secret.encode()).decode()
    echoed = f"{secret} {quote(secret)} {quote_plus(secret)} {quote(secret, safe='')} {b64} {json.dumps(secret)}"
    desk.replies = [(400, {}, echoed), (200, {"content-type": "text/plain"}, echoed)]
    for result in program.map([{}, {}]):
        said = f"{result!r} {[made.as_json() for made in result.records]}"
        assert "s3cr" not in said and b64.rstrip("=") not in said


def test_the_password_of_an_address_is_a_secret(made, desk) -> None:
    url = desk.url.replace("http://", "http://user:pass-word-1@")
    basic = base64.b64encode(b"user:pass-word-1").decode()
    desk.replies = [(400, {}, f"Authorization: Basic {basic} of pass-word-1")]
    result = made(f'url: "{url}/a"').map([{}])[0]
    assert desk.requests[0]["headers"]["authorization"] == f"Basic {basic}"
    assert "pass-word-1" not in str(result) and basic not in str(result)


@pytest.mark.parametrize("id", [".", "..", ""])
def test_no_argument_changes_the_path(made, desk, id) -> None:
    program = made('url: "URL/users/{id}/profile", inputs: {id: str}', f'id: "{id}"')
    error = program.map([{}])[0].error
    assert error.kind == "tool" and not desk.requests
    assert "path" in error.message


@pytest.mark.parametrize("id", ["a.b", "...", "%2e%2e", "../x", "a\\b"])
def test_other_arguments_stay_within_their_part_of_the_path(made, desk, id) -> None:
    made('url: "URL/users/{id}/profile", inputs: {id: str}', f"id: '{id}'")()
    assert desk.requests[0]["path"] == f"/users/{quote(id, safe='')}/profile"


def test_half_a_surrogate_pair_fails_its_row(write, desk) -> None:
    spec = f"""
        lmprog: 1
        inputs: {{id: str}}
        outputs: {{x: "${{{{ steps.use.found }}}}"}}
        tools:
          use: {{http: {{url: "{desk.url}/users/{{id}}", inputs: {{id: str}}}}, result: found}}
        steps:
          use: {{tool: use, with: {{id: "${{{{ inputs.id }}}}"}}}}
    """
    half, whole = lmprog.load(write(spec)).map([{"id": "a\ud83d"}, {"id": "a"}])
    assert half.error is not None and half.error.kind == "tool" and "half a surrogate pair" in half.error.message
    assert whole.error is None


@pytest.mark.parametrize("address", ["http://{id}/a", "http://127.0.0.1:{id}/a", "http://api.{id}.test/"])
def test_an_argument_names_no_host(made, address) -> None:
    with pytest.raises(UsageError, match="not in its host or port"):
        made(f'url: "{address}", inputs: {{id: str}}', "id: a")()


def test_redirects_stay_outside_of_private_networks(made, desk, monkeypatch) -> None:
    away = desk.url.replace("127.0.0.1", "localhost")
    desk.replies = [(302, {"location": f"{away}/metadata"}, "")]
    error = made('url: "URL/a"').map([{}])[0].error
    assert (
        error.message == "use: the server redirects to the private address localhost; write it as url where it is right"
    )
    assert len(desk.requests) == 1
    desk.replies = [(302, {"location": "/b"}, "")]
    made('url: "URL/a", output: json')()  # the same server
    assert desk.requests[-1]["path"] == "/b"
    desk.replies = [(302, {"location": "/a"}, "")] * 10
    assert "redirects more than 5 times" in made('url: "URL/a"').map([{}])[0].error.message
    desk.replies = [(302, {"location": "ftp://x/a"}, "")]
    assert "no http address" in made('url: "URL/a"').map([{}])[0].error.message


def test_an_answer_that_is_too_long_is_no_result(made, desk) -> None:
    desk.replies = [(200, JSON, json.dumps("x" * 2000))]
    error = made('url: "URL/a", output: str', more=", answer_mb: 0.001").map([{}])[0].error
    assert error.message == (
        "use: the answer is longer than 0.001 MB; raise tools.use.answer_mb where such an answer is right"
    )


@pytest.mark.parametrize("body", ["[" * 100_000, "{", '"\\ud83d"', "9" * 5000])
def test_what_is_no_value_fails_its_call_alone(made, desk, body) -> None:
    desk.replies = [(200, JSON, body), (200, JSON, "[1]")]
    first, second = made('url: "URL/a", output: "list[int]"').map([{}, {}], concurrency=1)
    assert first.error is not None and first.error.kind == "tool"
    assert second.outputs == {"x": [1]}


JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("output", "headers", "body", "found"),
    [
        ("json", JSON, '{"a": 1}', {"a": 1}),
        ("json", {}, "plain words", "plain words"),
        ("str", {"content-type": "text/plain"}, "12", "12"),
        ("str", JSON, '"said"', "said"),
        ("int", {"content-type": "text/plain"}, "12", 12),
        ("list[str]", JSON, '["a"]', ["a"]),
        ("str?", {}, "", None),
    ],
)
def test_the_answer_has_the_declared_type(made, desk, output, headers, body, found) -> None:
    desk.replies = [(200, headers, body)]
    assert made(f'url: "URL", output: "{output}"')().outputs == {"x": found}


@pytest.mark.parametrize(
    ("output", "body", "said"),
    [
        ("int", '"four"', 'use returned what it does not declare: "four" is not a value of type int'),
        ("int", "<html>", "use answered with what is no JSON: '<html>'"),
    ],
)
def test_an_answer_of_another_type_is_a_failure(made, desk, output, body, said) -> None:
    desk.replies = [(200, JSON, body)]
    error = made(f'url: "URL", output: {output}').map([{}])[0].error
    assert error.kind == "tool" and said in error.message


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds of each wait, none of which is waited for."""
    asked: list[float] = []

    async def recorded(seconds: float) -> None:
        asked.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(http, "asyncio", standing_in(asyncio, sleep=recorded))
    return asked


def test_a_read_is_tried_again(made, desk, monkeypatch, waits) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    desk.replies = [(503, {}, ""), None, (429, {"retry-after": "0.3"}, "")]
    assert made('url: "URL"')().outputs["x"]["method"] == "GET"
    assert len(desk.requests) == 4 and waits[-1] == 0.3 and sum(waits) < 3
    desk.replies = [(502, {}, "crowded")] * 9
    error = made('url: "URL"').map([{}])[0].error
    assert error.message == "use: the server answered 502: crowded (tried 4 times)"
    desk.replies = [(404, {}, "no such page")]
    before = len(desk.requests)
    assert "404: no such page" in made('url: "URL"').map([{}])[0].error.message
    assert len(desk.requests) == before + 1


def test_a_write_is_sent_once(made, desk) -> None:
    for reply in ((503, {}, "crowded"), None):
        desk.replies, before = [reply], len(desk.requests)
        error = made('url: "URL", method: POST', more=", effects: write").map([{}])[0].error
        assert error.kind == "connection" and len(desk.requests) == before + 1


def test_a_server_that_is_not_there(made, closed_port, monkeypatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    error = made(f'url: "http://127.0.0.1:{closed_port}/"').map([{}])[0].error
    assert error.kind == "connection" and "the connection failed" in error.message and "tried 4 times" in error.message
    assert made('url: "no address"').map([{}])[0].error.kind == "tool"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599])
def test_a_server_that_fails_is_an_outage_after_all_tries(made, desk, monkeypatch, status) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    desk.replies = [(status, {}, "")] * 9
    error = made('url: "URL"').map([{}])[0].error
    assert (error.kind, error.message) == ("connection", f"use: the server answered {status} (tried 4 times)")


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 409, 413, 422])
def test_what_a_server_refuses_is_the_tools_failure(made, desk, status) -> None:
    desk.replies = [(status, {}, "bad query")]
    error = made('url: "URL"').map([{}])[0].error
    assert (error.kind, error.message) == ("tool", f"use: the server answered {status}: bad query")
    assert len(desk.requests) == 1


def test_a_server_that_asks_for_more_time_than_there_is_is_an_outage_at_once(made, desk, waits) -> None:
    desk.replies = [(503, {"retry-after": "3600"}, "")]
    error = made('url: "URL"', more=", timeout: 30").map([{}])[0].error
    assert (error.kind, error.message) == ("connection", "use: the server answered 503")
    assert len(desk.requests) == 1 and waits == []


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_an_outage_and_one_that_does_not_answer_is_not(made, desk) -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    held = [socket.socket() for _ in range(4)]
    for each in held:
        each.setblocking(False)
        each.connect_ex(full.getsockname())  # until the system takes no further connection
    error = made(f'url: "http://127.0.0.1:{full.getsockname()[1]}/"', more=", timeout: 1").map([{}])[0].error
    assert error.kind == "connection" and "the connection failed" in error.message
    desk.seconds = 1.0
    error = made('url: "URL"', more=", timeout: 0.3").map([{}])[0].error
    assert (error.kind, error.message) == ("tool", "use did not end within 0.3 seconds")
    for each in [full, *held]:
        each.close()


def test_it_ends_in_time_and_leaves_no_task(made, desk) -> None:
    desk.seconds = 2.0

    async def run() -> None:
        program = made('url: "URL"', more=", timeout: 0.2")
        error = (await program.run({})).error
        assert error.message == "use did not end within 0.2 seconds"
        task = asyncio.create_task(program.run({}))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await program.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_wait_that_a_server_asks_for_may_be_a_date(monkeypatch) -> None:
    from email.utils import formatdate

    monkeypatch.setattr("lmprog.boundary.wire.time", standing_in(time, time=lambda: 1_800_000_000.0))
    assert retry_after({"Retry-After": formatdate(1_800_000_005, usegmt=True)}) == 5.0
    assert retry_after({"Retry-After": "2"}) == 2.0
    assert retry_after({"Retry-After": "soon"}) is None and retry_after({}) is None


API = """
    openapi: 3.0.0
    servers:
      - url: "URL/{version}"
        variables: {version: {default: v2}}
    paths:
      /pages/{title}:
        parameters: [{$ref: "#/components/parameters/title"}]
        get:
          operationId: getPage
          summary: The page of a title.
          parameters:
            - {name: lang, in: query, schema: {type: string}}
            - {name: X-Trace, in: header, required: true, schema: {type: string}}
          responses: {"200": {content: {application/json: {schema: {$ref: "#/components/schemas/page"}}}}}
      /pages:
        post:
          operationId: addPage
          parameters: [{name: dry, in: query, schema: {type: boolean}}]
          requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/page"}}}}
          responses: {"204": {description: done}}
      /lines:
        post:
          operationId: addLines
          requestBody: {content: {application/json: {schema: {type: array, items: {type: string}}}}}
          responses: {"200": {content: {application/json: {schema: {type: integer}}}}}
    components:
      parameters:
        title: {name: title, in: path, required: true, schema: {type: string}}
      schemas:
        page: {type: object, required: [title], properties: {title: {type: string}, text: {type: string}}}
"""


@pytest.fixture
def api(write, desk) -> None:
    write(API.replace("URL", desk.url), "api.yaml")


def test_an_operation_sends_each_parameter_where_it_belongs(made, desk, api) -> None:
    desk.replies = [(200, JSON, '{"title": "Oslo", "more": 1}')]
    program = made("openapi: api.yaml, operation: getPage", 'title: "New York", lang: no, X_Trace: t1')
    assert program().outputs["x"]["title"] == "Oslo"
    (asked,) = desk.requests
    assert (asked["method"], asked["path"], asked["headers"]["x-trace"]) == (
        "GET",
        "/v2/pages/New%20York?lang=no",
        "t1",
    )
    assert program.plan.tools["use"].about == "The page of a title."
    assert str(program.plan.tools["use"].type) == "{title: str, text: str?}"


def test_an_operation_with_a_body(made, desk, api) -> None:
    desk.replies = [(204, {}, "")]
    made("openapi: api.yaml, operation: addPage", "title: Oslo, dry: true", ", effects: write")()
    assert (desk.requests[0]["path"], desk.requests[0]["body"]) == ("/v2/pages?dry=true", {"title": "Oslo"})
    desk.replies = [(200, JSON, "2")]
    assert made("openapi: api.yaml, operation: addLines", "body: [a, b]")().outputs == {"x": 2}
    assert desk.requests[1]["body"] == ["a", "b"]


def test_an_answer_that_the_description_does_not_allow(made, desk, api) -> None:
    desk.replies = [(200, JSON, '{"text": "no title"}')]
    error = made("openapi: api.yaml, operation: getPage", "title: a, X_Trace: t").map([{}])[0].error
    assert error.message == "use returned what it does not declare: field title is missing"


def test_a_description_without_a_whole_address_needs_url(made, write, desk) -> None:
    write(API.replace("URL/{version}", "/v3"), "api.yaml")
    with pytest.raises(UsageError, match=r"names no server by a whole address; add url:"):
        made("openapi: api.yaml, operation: addLines", "body: []")()
    desk.replies = [(200, JSON, "0")]
    made('openapi: api.yaml, operation: addLines, url: "URL/v4/"', "body: []")()
    assert desk.requests[0]["path"] == "/v4/lines"


def test_the_address_has_no_unknown_placeholder(made) -> None:
    with pytest.raises(lmprog.SpecError, match=r"has \{titel\}, which is no input of it.*\n(.*\n)*.*`title`"):
        made('url: "URL/{titel}", inputs: {title: str}', "title: a")
