"""Workers that take one kind of work only, as processes."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
from redis import Redis

from groupage import keys
from groupage_emulator.demo.children import Child, wait_until
from tests.acceptance.site import WAIT_S, running_site

pytestmark = pytest.mark.timeout(120)

COUNT = 50


async def test_light_and_heavy_work_scale_apart(tmp_path: Path) -> None:
    """A light and a heavy worker together do everything; each alone leaves the other's steps to the other."""
    async with running_site(tmp_path) as site:
        light = await site.start_worker("--only", "light")
        async with site.producer() as producer:
            ids = await site.submit(producer, COUNT)
            with Redis.from_url(site.redis.url) as redis:
                assert await wait_until(lambda: heavy_waits(redis), WAIT_S), "no heavy step was due"
            assert site.batches() == 0, "claiming and uploading are heavy, and nobody does heavy work yet"
            assert light.exit_status() is None
            assert kinds(light) == {"light"}
            heavy = await site.start_worker("--only", "heavy")
            assert kinds(heavy) == {"heavy"}, "an alert tells of the half that is missing"
            site.assert_all_right(await site.replies(producer, ids), COUNT)


def kinds(worker: Child) -> set[str]:
    """The kinds of steps that a worker takes, as it shows them to Prometheus."""
    lines = (json.loads(line) for line in worker.log.read_text().splitlines() if "app.ready" in line)
    (port,) = {line["port"] for line in lines}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return set(re.findall(r'^groupage_worker_takes\{kind="(\w+)"\} 1\.0$', text, re.MULTILINE))


def heavy_waits(redis: Redis) -> bool:
    """Whether a step is due that only heavy work takes: the look at every region after a start, or a batch."""
    return bool(redis.zcard(keys.DUE_HEAVY))


@pytest.mark.parametrize("only", ["ligth", "all", ""])
async def test_a_kind_that_does_not_exist_is_refused(only: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--only` takes two words; anything else is refused with the words it takes."""
    from groupage_worker.cli import main  # noqa: PLC0415 - the command as a function, only here

    with pytest.raises(SystemExit) as ended:
        main(["run", "--only", only])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "light" in said
    assert "heavy" in said
    assert "--only" in said
