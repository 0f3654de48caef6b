"""A download that goes on where an earlier one ended."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_worker import errors
from groupage_worker.azure.resume import known_bytes, range_of
from tests.azure.raw import reply, serving


@pytest.mark.parametrize("has_ranges", [True, False])
async def test_the_rest_is_the_rest(service, tmp_path, *, has_ranges):
    """From any byte on, to the very end, the rest comes and nothing else, with and without ranges."""
    it = await service()
    content = it.lines(50)
    file = await it.upload(tmp_path / "in.jsonl", content)
    if not has_ranges:
        it.emulator.faults.add(kind="no_ranges")
    for start in (0, 1, len(content) // 2, len(content) - 1, len(content)):
        async with it.client.content(file.id, from_byte=start) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == content[start:]


async def test_another_part_than_asked_for_is_refused(connect):
    """An answer that begins elsewhere is not taken for the rest: its lines would be counted twice or left out."""
    async with serving(reply(206, b"x", {"content-range": "bytes 7-7/8"})) as server:
        with pytest.raises(errors.Transient):
            async with connect(server.url).client.content("file-1", from_byte=5):
                pass
        assert server.requests[0].headers["range"] == "bytes=5-"


@given(st.integers(0, 10**12), st.sampled_from([200, 206, 416]), st.integers(0, 10**12))
def test_what_is_known_is_never_more_than_was_read(from_byte: int, status: int, begins: int) -> None:
    """Of a whole body the head is known, of the range asked for nothing, beyond the end everything."""
    response = httpx.Response(status, headers={"content-range": f"bytes {begins}-{begins}/*"})
    known = known_bytes(response, from_byte)
    if status == 206:
        assert known == (0 if begins == from_byte else None)
    elif status == 200:
        assert known == from_byte
    assert bool(range_of(from_byte)) is (from_byte > 0)
