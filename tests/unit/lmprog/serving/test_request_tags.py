"""Tags of a request: its header and body, and what is no tag."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="needs the extra 'serve'")

from starlette.requests import Request

from lmprog.serving.refusals import Refused
from lmprog.serving.request_tags import tags_of


def request(*headers: str) -> Request:
    return Request({"type": "http", "headers": [(b"lmprog-tags", header.encode()) for header in headers]})


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        ((), {}, {}),
        (("session=abc, user=7",), {}, {"session": "abc", "user": "7"}),
        (("session=a%2Cb%3D1,", " user = ada "), {}, {"session": "a,b=1", "user": "ada"}),
        (("user=ada",), {"user": "bob", "app": "shop"}, {"user": "ada", "app": "shop"}),
    ],
)
def test_tags_of_header_and_body(headers, body, found) -> None:
    assert tags_of(request(*headers), body) == found


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        (("session",), {}, "holds pairs"),
        (("=abc",), {}, "has no name"),
        ((), {"user": 7}, "tags are texts"),
        ((), {"plan": {"a": "b"}}, "tags are texts"),
        ((), {str(n): "a" for n in range(17)}, "16 tags at most"),
        (("a=%0A",), {}, "cannot be printed"),
    ],
)
def test_what_is_no_tag_is_refused(headers, body, said) -> None:
    with pytest.raises(Refused) as refused:
        tags_of(request(*headers), body)
    assert said in refused.value.body["error"]["message"] and refused.value.status == 422
