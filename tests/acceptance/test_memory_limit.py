"""A Redis server that tells no memory limit, as managed ones do: the settings tell it, and the door closes by it."""

from pathlib import Path

import pytest

from groupage.errors import Overloaded
from groupage_emulator.demo.children import wait_until
from tests.acceptance.site import WAIT_S, body, running_site


async def test_the_door_closes_by_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server without maxmemory that holds more than its set limit allows, producers are told to come back."""
    # less than any server uses with nothing in it
    monkeypatch.setenv("GROUPAGE_REDIS__DATA_MEMORY_BYTES", "100000")
    async with running_site(tmp_path) as site:
        worker = await site.start_worker()
        assert await wait_until(lambda: worker.says("app.redis_nearly_full"), WAIT_S)
        async with site.producer() as producer:
            with pytest.raises(Overloaded, match="redis_memory"):
                await producer.submit(body(0), id="r0")
