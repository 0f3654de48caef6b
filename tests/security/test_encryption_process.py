"""A worker process and two backend services, one with keys, one without, and what Redis holds meanwhile."""

import os
from pathlib import Path

import yaml
from redis.asyncio import Redis

from groupage import Producer
from groupage.connect import connect, disconnect
from groupage_emulator import digest, digest_of_reply
from groupage_emulator.demo.children import wait_for
from tests.acceptance.site import LANE, WAIT_S, body, running_site, worker_settings
from tests.support.canary import everything_in

COUNT = 60


async def test_redis_never_sees_a_word(tmp_path: Path) -> None:
    """Every reply is right, while neither waiting requests nor kept replies can be read in Redis or in its log."""
    for name in ("shop", "mail"):
        folder = tmp_path / "keys" / name
        folder.mkdir(parents=True)
        (folder / "2026-11").write_text(os.urandom(32).hex())
    async with running_site(tmp_path) as site:
        settings = tmp_path / "sealed.yaml"
        settings.write_text(
            yaml.safe_dump(
                worker_settings(site.redis.url, site.emulator)
                | {"encryption": {"keys_dir": str(tmp_path / "keys")}}
            )
        )
        worker = site.crew.start("worker", ["groupage_worker", "run", "--config", str(settings)])
        await wait_for(worker, lambda: worker.says("app.ready"), WAIT_S, "did not get ready")
        redis: Redis[bytes] = connect(site.redis.url)
        keys_dir = tmp_path / "keys" / "shop"
        async with Producer(
            site.redis.url, name="shop", lane=LANE, sweep_s=1.0, keys_dir=keys_dir
        ) as producer:
            ids = await site.submit(producer, COUNT)
            assert b"The crates are" not in await everything_in(redis)
            site.assert_all_right(await site.replies(producer, ids), COUNT)
        assert b"sha256:" not in await everything_in(redis)
        async with Producer(site.redis.url, name="plain", lane=LANE, sweep_s=1.0) as plain:
            ticket = await plain.submit(body(1))
            assert digest_of_reply((await plain.reply(ticket, timeout_s=WAIT_S)).body) == digest(body(1))
        await disconnect(redis)
        for path in (tmp_path / "redis").rglob("*"):
            if path.is_file() and path.name.endswith((".aof", ".rdb")):
                assert path.read_bytes().count(b"The crates are in the yard") <= 2 * 10, (
                    "more than the plain request"
                )
