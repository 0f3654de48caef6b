"""Exact counts of input tokens: what the service is known to count, and how a producer uses them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage import InvalidRequest, Producer
from groupage.contract import Endpoint
from groupage.door import check_body
from groupage.testing import announce_lane, open_requests
from groupage.tokens import TEXT_MAX, TokenCounter

JARGON = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
"""The cookbook's example, of which the API counted 124 tokens for gpt-4o."""

count = TokenCounter()


def test_counts_what_the_service_counted() -> None:
    """The messages whose count by the service is published come out the same, as a dictionary and as bytes."""
    body = {"messages": JARGON}
    assert count(body) == count(msgspec.json.encode(body)) == 124


def test_encodings_differ() -> None:
    """Text that the newer encoding cuts better counts less with it, and an unknown encoding is refused by name."""
    body = {"messages": [{"role": "user", "content": "Größenordnung, 数え方, подсчёт"}]}
    assert count(body) < TokenCounter("cl100k_base")(body)
    with pytest.raises(InvalidRequest, match="encoding"):
        TokenCounter("p50k")


@pytest.mark.parametrize(
    ("one", "other", "more"),
    [
        ({"input": "hello world"}, {"input": [{"role": "user", "content": "hello world"}]}, 1),
        ({"input": "hello"}, {"input": "hello", "instructions": "hello"}, 4),
        ({"input": "hello"}, {"input": "hello", "temperature": 0.5, "max_output_tokens": 9}, 0),
    ],
)
def test_responses_count_like_messages(one: dict[str, Any], other: dict[str, Any], more: int) -> None:
    """Input and instructions are messages; a role is a token; numbers that steer the model are not shown to it."""
    assert count(other) - count(one) == more


def test_images_count_by_their_detail_and_not_by_their_bytes() -> None:
    """An image counts what the door counts for it, whichever way it is given, and its URL is no text."""

    def tokens(part: dict[str, Any]) -> int:
        content = [{"type": "text", "text": "look"}, part]
        body = {"messages": [{"role": "user", "content": content}]}
        check_body(body, endpoint=Endpoint.CHAT, request_bytes_max=1_000_000)
        return count(body) - count({"messages": [{"role": "user", "content": content[:1]}]})

    url = "data:image/png;base64," + "A" * 5_000
    assert tokens({"type": "image_url", "image_url": {"url": url}}) == 1_105
    assert tokens({"type": "image_url", "image_url": {"url": url, "detail": "low"}}) == 85
    assert tokens({"type": "input_image", "image_url": url, "detail": "low"}) == 85
    assert tokens({"type": "input_file", "file_url": "https://files.example/a.pdf"}) == 0


def test_tools_count_as_their_json() -> None:
    """What describes tools and answers is part of the prompt."""
    body: dict[str, Any] = {"messages": JARGON}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    assert count(body | {"tools": tools}) > count(body) + 10


def test_a_very_long_text_counts_like_its_beginning() -> None:
    """Past the limit a text is extrapolated, so that nobody's loop stands still for it."""
    word = "groupage "
    body = {"messages": [{"role": "user", "content": word * (4 * TEXT_MAX // len(word))}]}
    half = {"messages": [{"role": "user", "content": word * (TEXT_MAX // len(word) // 2)}]}
    assert count(body) == pytest.approx(8 * count(half), rel=0.01)


@given(
    st.recursive(
        st.text(max_size=20) | st.integers() | st.none(),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=3),
    )
)
def test_any_content_counts_something(content: Any) -> None:
    """Whatever stands in a message, the count is a whole number above 0."""
    assert count({"messages": [{"role": "user", "content": content}]}) >= 7


def test_no_object_is_refused() -> None:
    """What is no JSON object has no tokens."""
    for text in (b"[]", b"7"):
        with pytest.raises(TypeError):
            count(text)


async def test_a_producer_counts_what_it_submits(redis_url: str) -> None:
    """With a counter requests carry its count; a request that says its own tokens is believed."""
    await announce_lane(redis_url, "chat")
    async with Producer(redis_url, name="shop", lane="chat", count_tokens=count) as producer:
        await producer.submit({"messages": JARGON}, id="counted")
        await producer.submit({"messages": JARGON}, id="told", tokens=7)
    found = {one.id: one.tokens for one in await open_requests(redis_url, "chat", "shop")}
    assert found == {"counted": 124, "told": 7}


async def test_a_counter_that_counts_nonsense_is_refused(redis_url: str) -> None:
    """A count that is no whole number above 0 is an error of its own name, and nothing is accepted."""
    await announce_lane(redis_url, "chat")
    async with Producer(redis_url, name="shop", lane="chat", count_tokens=lambda _: 0) as producer:
        with pytest.raises(InvalidRequest, match="count_tokens"):
            await producer.submit({"messages": JARGON})
