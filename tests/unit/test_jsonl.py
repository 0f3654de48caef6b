"""Input lines are spliced, output is cut at newlines: laws of both."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.jsonl import LineSplitter, line_frame, line_overhead, line_parts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    body=st.dictionaries(st.text(min_size=1, max_size=8), JSON, min_size=1, max_size=4),
    model=st.text(min_size=1, max_size=20),
)
def test_spliced_lines_are_json(body: dict[str, object], model: str) -> None:
    """A spliced line is one JSON line with the four members, the body unchanged behind the model."""
    body.pop("model", None)
    if not body:
        return
    canonical = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        canonical.decode()
    except UnicodeDecodeError:
        return  # lone surrogates are refused at the door
    frame = line_frame(url="/chat/completions", model=model)

    line = b"".join(line_parts(frame, b"shop:1", b"header\n" + canonical))

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "custom_id": "shop:1",
        "method": "POST",
        "url": "/chat/completions",
        "body": {"model": model, **body},
    }
    assert len(line) <= len(canonical) + line_overhead(url="/chat/completions", model=model)


@given(
    lines=st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b and b.strip())),
    cuts=st.lists(st.integers(0, 400), max_size=20),
    ends_with_newline=st.booleans(),
)
def test_splitting_does_not_depend_on_chunks(
    lines: list[bytes], cuts: list[int], ends_with_newline: bool
) -> None:
    """Wherever the stream is cut into chunks, the same lines come out, the last one without newline included."""
    stream = b"\n".join(lines) + (b"\n" if ends_with_newline else b"")
    points = sorted({min(c, len(stream)) for c in cuts} | {0, len(stream)})
    splitter = LineSplitter()

    out = [line for a, b in itertools.pairwise(points) for line in splitter.feed(stream[a:b])]
    out += splitter.close()

    assert out == lines


def test_separators_of_unicode_do_not_split() -> None:
    """U+2028, U+2029, U+0085, form feed and carriage return may stand raw in a line and do not cut it."""
    line = '{"a":"x\u2028y\u2029z\u0085\x0c\r"}'.encode()
    assert list(LineSplitter().feed(line + b"\n")) == [line]


def test_overlong_lines_are_dropped_whole() -> None:
    """A line above the limit is thrown away and counted; its neighbours come through."""
    splitter = LineSplitter(line_bytes_max=10)
    out = [line for chunk in (b"ok\n12345", b"678901", b"2\nfine\n") for line in splitter.feed(chunk)]
    assert (out, splitter.dropped) == ([b"ok", b"fine"], 1)


def test_blank_lines_are_skipped() -> None:
    """Empty and blank lines, and an empty file, yield nothing."""
    splitter = LineSplitter()
    assert [*splitter.feed(b"\n\r\n \n"), *splitter.feed(b""), *splitter.close()] == []
