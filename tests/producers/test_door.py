"""Which bodies come in, what they become, and what the refusal says."""

import json
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest

from groupage import InvalidRequest
from groupage.contract import Endpoint
from groupage.door import check_body
from groupage.leaves import DEPTH_MAX, INTEGER_MAX

MESSAGE = {"role": "user", "content": "hi"}
SECRET = "the-prompt-is-secret"


def check(body: Any, endpoint: Endpoint = Endpoint.CHAT, most: int = 1_000_000) -> Any:
    return check_body(body, endpoint=endpoint, request_bytes_max=most)


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [MESSAGE], **fields}


def image(url: Any, **detail: Any) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": "what is it"},
        {"type": "image_url", "image_url": {"url": url, **detail}},
    ]
    return {"messages": [{"role": "user", "content": parts}]}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


PATHS = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [MESSAGE, {"content": SECRET}]}, "messages[1].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"text": SECRET}]}]}, "messages[0].content[0]"),
    ({"messages": [MESSAGE] * 2_049}, "messages"),
    (chat(stream=True), "stream"),
    (chat(stream=False), "stream"),
    (chat(stream_options={}), "stream_options"),
    (chat(data_sources=[]), "data_sources"),
    (chat(background=True), "background"),
    (chat(n=0), "n"),
    (chat(n=129), "n"),
    (chat(n=True), "n"),
    (chat(tools=[{}] * 129), "tools"),
    (chat(tools={}), "tools"),
    (chat(functions=[{}] * 129), "functions"),
    (chat(temperature=float("nan")), "temperature"),
    (chat(logit_bias={"1": float("inf")}), "logit_bias.1"),
    (chat(seed=INTEGER_MAX + 1), "seed"),
    (chat(seed=-(2**70)), "seed"),
    (chat(deep=nested(DEPTH_MAX)), "deep" + "[0]" * (DEPTH_MAX - 1)),
    (chat(deep=nested(100_000)), None),
    (chat(user="\ud800"), "user"),
    (chat(metadata={"\udfff": 1}), None),
    (chat(metadata={1: "a"}), "metadata"),
    (chat(stop=("a", "b")), "stop"),
    (chat(price=Decimal(1)), "price"),
    (chat(raw=b"bytes"), "raw"),
    (chat(tags={"a"}), "tags"),
]


@pytest.mark.parametrize(("body", "path"), PATHS)
def test_refused_with_its_path(body: Any, path: str | None) -> None:
    """A dictionary that breaks a rule is refused with the path of the field, and without prompt text."""
    with pytest.raises(InvalidRequest) as refusal:
        check(body)
    assert path is None or refusal.value.field == (path if len(path) <= 80 else f"{path[:77]}...")
    assert SECRET not in str(refusal.value)


TEXTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xef\xbb\xbf" + json.dumps(chat()).encode(),
    json.dumps(chat()).encode("utf-16"),
    b'{"messages":[{"role":"user","content":"\xff"}]}',
    b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
    b'{"messages":[{"role":"user","content":"hi"}],"temperature":1e999}',
    b'{"messages":[{"role":"user","content":"hi"}],"seed":9007199254740993}',
    b'{"messages":[{"role":"user","content":"hi"}],"seed":' + b"9" * 5_000 + b"}",
    b'{"messages":[{"role":"user","content":"hi"}],"user":"a","user":"b"}',
    b'{"messages":[{"role":"user","content":"hi","content":"the-prompt-is-secret"}]}',
    b'{"messages":[{"role":"user","content":"hi"}],"user":"a", "\\u0075ser":"a"}',
    b'{"messages":[{"role":"user","content":"hi"}],"x":' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"messages":[{"role":"user","content":"hi"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "\ud800",
    7,
    None,
]


@pytest.mark.parametrize("body", TEXTS)
def test_text_refused(body: Any) -> None:
    """Text that is not one well-formed JSON object in UTF-8, each key once, is refused without quoting it."""
    with pytest.raises(InvalidRequest) as refusal:
        check(body)
    assert SECRET not in str(refusal.value)


REFUSED_URLS = [
    "http://example.com/a.png",
    "ftp://example.com/a.png",
    "file:///etc/passwd",
    "//example.com/a.png",
    "https:example.com",
    "https://",
    "https://user:pw@example.com/a.png",
    "https://example.com:8443/a.png",
    "https://127.0.0.1/a.png",
    "https://[::1]/a.png",
    "https://2130706433/a.png",
    "https://0x7f.1/a.png",
    "https://127.1/a.png",
    "https://1.2.3.4./a.png",
    "https://localhost/a.png",
    "https://example.com\\@evil.test/a.png",
    "https://exa mple.com/a.png",
    "https://ex\u00e4mple.com/a.png",
    "https://exam%70le.com/a.png",
    "https://example.com:x/",
    "data:image/png,plain",
    "data:,",
    "",
    5,
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_links_refused(url: Any) -> None:
    """Only https URLs of named hosts and base64 data URLs come in, because the service fetches what we pass on."""
    with pytest.raises(InvalidRequest) as refusal:
        check(image(url))
    assert refusal.value.field == "messages[0].content[1].image_url.url"
    for item in ({"type": "input_image", "image_url": url}, {"type": "input_file", "file_url": url}):
        with pytest.raises(InvalidRequest):
            check({"input": [{"role": "user", "content": [item]}]}, Endpoint.RESPONSES)


def test_links_accepted_and_counted() -> None:
    """An image counts by its detail, not by the length of its URL; a property of a tool may have any name."""
    data = "data:image/png;base64," + "A" * 40_000
    text = check({"messages": [MESSAGE]}).tokens
    for url in ("https://example.com/a.png?x=1", "HTTPS://cdn.example.com:443/a", data):
        assert 1_105 < check(image(url)).tokens < 1_105 + text + 60
        assert 85 < check(image(url, detail="low")).tokens < 85 + text + 60
    schema = {"type": "object", "properties": {"image_url": {"type": "string", "url": "http://x"}}}
    check(chat(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}]))
    item = {"type": "input_image", "image_url": None, "file_id": "file-1"}
    check({"input": [{"role": "user", "content": [item]}]}, Endpoint.RESPONSES)


def test_accepted() -> None:
    """Unknown fields, absent content, subclasses of dict and both endpoints come in; `model` goes."""
    ordered = OrderedDict(
        model="gpt", zebra={"z": 1, "a": 2}, messages=[{"role": "assistant", "content": None}]
    )
    found = check(ordered)
    assert found.canonical == b'{"zebra":{"z":1,"a":2},"messages":[{"role":"assistant","content":null}]}'
    assert ordered["model"] == "gpt"
    assert found.tokens == -(-len(found.canonical) // 4)
    assert check({"input": "hi"}, Endpoint.RESPONSES).canonical == b'{"input":"hi"}'
    assert check(chat(deep=nested(DEPTH_MAX - 1), seed=INTEGER_MAX, tools=[{}] * 128, n=None))
    with pytest.raises(InvalidRequest, match="input"):
        check({"input": []}, Endpoint.RESPONSES)
    with pytest.raises(InvalidRequest, match="input"):
        check(chat(), Endpoint.RESPONSES)


def test_line_splitters_are_escaped() -> None:
    """U+2028, U+2029 and U+0085 never stand in canonical bytes as themselves."""
    found = check({"messages": [{"role": "user", "content": "a\u2028b\u2029c\u0085d\u00e9"}]})
    assert found.canonical.decode().splitlines() == [found.canonical.decode()]
    assert json.loads(found.canonical)["messages"][0]["content"] == "a\u2028b\u2029c\u0085d\u00e9"


def test_size() -> None:
    """The limit counts canonical bytes, whichever form the body came in."""
    body = {"messages": [{"role": "user", "content": "\u4e2d" * 100}]}
    size = len(check(body).canonical)
    for form in (body, json.dumps(body), json.dumps(body).encode()):
        assert len(check(form, most=size).canonical) == size
        with pytest.raises(InvalidRequest, match="bytes"):
            check(form, most=size - 1)
    with pytest.raises(InvalidRequest, match="bytes"):
        check(b" " * 10_000, most=1_000)
