"""Batch files: what is a line, which id it gets, what comes out, and where a second call goes on."""

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage import checks
from groupage.contract import Endpoint, Reply, ReplyError, Status
from groupage_worker.operator.batchfile import check_url, entries, id_of, is_result_of, result_line
from groupage_worker.operator.bulk import PAGE_BYTES, pages
from groupage_worker.operator.errors import Mistake
from groupage_worker.operator.outfile import open_output, skip_written
from groupage_worker.operator.progress import Progress

BODY = {"messages": [{"role": "user", "content": "hello"}]}


def line(custom_id: object = "a", **changes: object) -> dict[str, object]:
    return {"custom_id": custom_id, "method": "POST", "url": "/chat/completions", "body": BODY, **changes}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def reply(id: str, **changes: object) -> Reply:  # noqa: A002 - the word of the contract
    known = {
        **dict.fromkeys(("usage", "error", "cost_usd", "online_cost_usd", "batch", "deployment", "region")),
        **dict.fromkeys(("submitted_at_ms", "finished_at_ms")),
        "id": id,
        "lane": "chat",
        "status": Status.SUCCEEDED,
        "status_code": 200,
        "body": {"n": 1},
        "attempts": 0,
        "accepted_at_ms": 1,
        "settled_at_ms": 2,
    }
    return Reply(**(known | changes))  # type: ignore[arg-type] # a table of a test


@given(st.text(min_size=1, max_size=200), st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True))
def test_every_custom_id_has_its_own_id(custom_id: str, producer: str) -> None:
    """Any custom_id becomes an id that the producer may use, always the same one; a good one stays as it is."""
    made = id_of(custom_id, producer)
    assert checks.check_id(made, producer) == made
    assert id_of(custom_id, producer) == made
    assert id_of(made, producer) == made


@given(st.sets(st.text(min_size=1, max_size=90), min_size=2, max_size=20))
def test_ids_do_not_meet(names: set[str]) -> None:
    """Different custom_ids have different ids."""
    assert len({id_of(name, "shop") for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("not json secret-prompt", "must be a JSON object such as"),
        ("[]", "Expected `object`"),
        (json.dumps({"custom_id": "a", "url": "/x"}), "missing required field `body`"),
        (json.dumps(line(7)), "Expected `str`"),
        (json.dumps(line("")), "custom_id must not be empty"),
        (json.dumps(line(method="GET")), "method must be POST"),
        ("\xff\xfe", "must be a JSON object"),
        ('{"body": ' + "[" * 200_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, part: str) -> None:
    """The sentence says file, line and field, and repeats nothing of what the line says."""
    path = write(tmp_path / "in.jsonl", line())
    path.write_bytes(path.read_bytes() + b"\n" + text.encode("latin-1"))
    with pytest.raises(Mistake, match="line 3") as caught:
        list(entries(path, "shop"))
    assert part in str(caught.value)
    assert "secret-prompt" not in str(caught.value)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the cap is refused before it is in memory as a whole."""
    monkeypatch.setattr("groupage_worker.operator.batchfile.LINE_BYTES_MAX", 1_000)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * 5_000)
    with pytest.raises(Mistake, match="line 1: longer than 1000 bytes"):
        list(entries(path, "shop"))


@pytest.mark.parametrize(
    ("url", "endpoint", "fits"),
    [
        ("/chat/completions", Endpoint.CHAT, True),
        ("/v1/chat/completions", Endpoint.CHAT, True),
        ("/v1/responses", Endpoint.CHAT, False),
        ("/v1/responses", Endpoint.RESPONSES, True),
        ("/chat/completions", Endpoint.RESPONSES, False),
    ],
)
def test_urls_are_the_lanes(tmp_path: Path, url: str, endpoint: Endpoint, fits: bool) -> None:
    """A line for another endpoint than the lane's is refused, in OpenAI's spelling or Azure's."""
    path = write(tmp_path / "in.jsonl", line(url=url))
    (entry,) = entries(path, "shop")
    if fits:
        check_url(path, entry, endpoint)
    else:
        with pytest.raises(Mistake, match="line 1: url must be"):
            check_url(path, entry, endpoint)


@given(st.lists(st.integers(1, PAGE_BYTES), max_size=40), st.integers(1, 9))
def test_pages_hold_everything_in_order(sizes: list[int], most: int) -> None:
    """Rounds are bounded in lines and bytes, and nothing is left out or moved."""
    source = [(n, "c", f"r{n}", "u", b"", size) for n, size in enumerate(sizes)]
    from groupage_worker.operator.batchfile import Entry  # noqa: PLC0415 - the shape is of this test alone

    made = list(pages((Entry(*one) for one in source), most=most))
    assert [tuple(entry) for page in made for entry in page] == source
    for page in made:
        assert 1 <= len(page) <= most
        assert sum(entry.size for entry in page[:-1]) < PAGE_BYTES


def test_results_are_openais(tmp_path: Path) -> None:
    """A success has its response, a failure its error, and the service's body where there was one."""
    path = write(tmp_path / "in.jsonl", line("a"), line("b"))
    one, two = entries(path, "shop")
    good = json.loads(result_line(one, reply("a")))
    assert good["custom_id"] == "a"
    assert good["response"] == {"status_code": 200, "request_id": "", "body": {"n": 1}}
    assert good["error"] is None
    failed = reply(
        "b",
        status=Status.EXPIRED,
        status_code=None,
        body=None,
        error=ReplyError(code="late", message="too late"),
    )
    bad = json.loads(result_line(two, failed))
    assert bad["response"] is None
    assert bad["error"] == {"code": "late", "message": "too late"}


@given(written=st.integers(0, 6), cut=st.integers(0, 200))
def test_a_second_call_goes_on(tmp_path_factory: pytest.TempPathFactory, written: int, cut: int) -> None:
    """Whole lines are kept, a half one is cut off, and reading goes on at the first that is missing."""
    folder = tmp_path_factory.mktemp("goes-on")
    path = write(folder / "in.jsonl", *(line(f"c{n}") for n in range(6)))
    every = list(entries(path, "shop"))
    text = b"".join(result_line(entry, reply(entry.id)) for entry in every[:written])
    text = text[: max(0, len(text) - cut)]
    whole = text.count(b"\n")
    out, left = io.BytesIO(text), entries(path, "shop")
    assert skip_written(path, folder / "out.jsonl", out, left) == whole
    assert [entry.custom_id for entry in left] == [f"c{n}" for n in range(whole, 6)]
    assert out.getvalue() == b"".join(result_line(entry, reply(entry.id)) for entry in every[:whole])


def test_another_files_output_is_not_overwritten(tmp_path: Path) -> None:
    """An output that does not belong to the input is refused and stays as it is."""
    path = write(tmp_path / "in.jsonl", line("a"), line("b"), line("c"))
    (ours, *_), source = entries(path, "shop"), path.read_bytes()
    (other,) = entries(write(tmp_path / "other.jsonl", line("z")), "shop")
    good = result_line(ours, reply("a"))
    for text in (
        b'{"custom_id": "a"}\n',
        b"precious notes\n",
        b'["x"]\n',
        b'{"precious": 1}',
        b"-----BEGIN PRIVATE KEY-----",
        source,
        source.rstrip(),
        result_line(other, reply("z")),
        good + good,
        good + b"precious",
        b'{"id":"batch_req_a","custom_id":"a"}\n',
    ):
        out = io.BytesIO(text)
        with pytest.raises(Mistake, match="name another file"):
            skip_written(path, tmp_path / "out.jsonl", out, entries(path, "shop"))
        assert out.getvalue() == text
    assert is_result_of(good, ours)
    assert not is_result_of(b"[" * 200_000, ours)


def test_the_input_file_is_no_output(tmp_path: Path) -> None:
    """The input under any name, and a folder, are refused as output and stay as they are."""
    path = write(tmp_path / "in.jsonl", line("a"))
    text = path.read_bytes()
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "soft").symlink_to(path)
    for name in ("in.jsonl", "hard", "soft", "../" + tmp_path.name + "/in.jsonl"):
        with pytest.raises(Mistake, match="is the file that was submitted"):
            open_output(path, tmp_path / name)
    with pytest.raises(Mistake, match="cannot be written"):
        open_output(path, tmp_path)
    assert path.read_bytes() == text


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_the_bar_is_for_terminals() -> None:
    """A terminal sees how far it is and why it waits; a file sees nothing."""
    screen, file = Terminal(), io.StringIO()
    for stream in (screen, file):
        bar = Progress(10, stream)
        bar.show(5, "waiting: open_requests is at its limit")
        bar.show(10)
        bar.end()
    assert "50%  5 of 10" in screen.getvalue()
    assert "waiting: open_requests" in screen.getvalue()
    assert "100%  10 of 10" in screen.getvalue()
    assert file.getvalue() == ""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of many pages is read in the memory of one."""
    path = tmp_path / "in.jsonl"
    text = json.dumps(line("cX", body={"messages": [{"role": "user", "content": "x" * 4_000}]}))
    with path.open("w") as file:
        for n in range(8_000):
            file.write(text.replace("cX", f"c{n}") + "\n")
    tracemalloc.start()
    try:
        total = sum(len(page) for page in pages(entries(path, "shop"), most=500))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 8_000
    assert path.stat().st_size > 3 * PAGE_BYTES
    assert peak < 1.5 * PAGE_BYTES
