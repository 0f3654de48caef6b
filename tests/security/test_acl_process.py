"""A worker process and a backend service, each as its own user, through arq, gathering and replies."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from groupage import Producer
from groupage_emulator import Config, Emulator
from groupage_emulator.demo.children import Crew, wait_until
from tests.acceptance.site import LANE, WAIT_S, Site
from tests.security.guarded import guarded

COUNT = 60


async def test_processes_work_as_their_users(tmp_path: Path) -> None:
    """A real worker drains and a real producer is answered, and the server refused nothing to anybody."""
    (tmp_path / "logs").mkdir()
    async with (
        guarded(tmp_path) as server,
        Emulator(Config(time_scale=200.0)) as emulator,
        Crew(tmp_path / "logs") as crew,
    ):
        redis = cast("Any", SimpleNamespace(url=server.url("worker")))
        site = Site(redis, emulator, crew, tmp_path)
        worker = await site.start_worker()
        async with Producer(server.url("producer-shop"), name="shop", lane=LANE, sweep_s=1.0) as producer:
            ids = await site.submit(producer, COUNT)
            site.assert_all_right(await site.replies(producer, ids), COUNT)
        # a minute's worth of background tasks begins at once, so whatever a worker does has been done by now
        assert await wait_until(lambda: worker.says("janitor.batch_closed"), WAIT_S)
        assert await server.refusals() == []
