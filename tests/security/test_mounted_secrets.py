"""Settings and secrets that Kubernetes renews under a running worker, as the kubelet does it: behind a link that is swapped."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from redis.asyncio import Redis

from groupage import Producer
from groupage.connect import connect, disconnect
from groupage_emulator import Config, Emulator
from groupage_emulator.config import RegionConfig
from groupage_emulator.demo.children import Crew, wait_for, wait_until
from groupage_emulator.redis_server import EmbeddedRedis
from tests.acceptance.site import LANE, WAIT_S, Site, worker_settings

pytestmark = pytest.mark.timeout(120)

OLD, NEW = "the-first-password", "the-second-password"


class Mount:
    """A Secret or ConfigMap as a pod sees it: names that point through `..data` into a folder that is made anew each time.

    Source: kubernetes/pkg/volume/util/atomic_writer.go, read 2026-11-21.

    Args:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._version = folder, 0
        folder.mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        """Bring new content in one step; returns the path that a process opens."""
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        (version / name).write_text(text)
        fresh = self._folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.rename(self._folder / "..data")
        path = self._folder / name
        if not path.is_symlink():
            path.symlink_to(f"..data/{name}")
        return path


async def test_a_running_worker_takes_what_is_mounted_anew(tmp_path: Path) -> None:
    """New settings, a new key of the service and a new Redis password come into force without a restart."""
    (tmp_path / "logs").mkdir()
    config = Config(time_scale=200.0, regions=[RegionConfig(name="eastus", keys=[OLD])])
    with EmbeddedRedis(port=0) as server:
        admin: Redis[bytes] = connect(server.url)
        await admin.execute_command("ACL", "SETUSER", "worker", "on", f">{OLD}", "~*", "&*", "+@all")
        async with Emulator(config) as emulator, Crew(tmp_path / "logs") as crew:
            site = Site(cast("Any", SimpleNamespace(url=server.url)), emulator, crew, tmp_path)
            urls, region_keys, settings = (
                Mount(tmp_path / name) for name in ("redis", "regions", "settings")
            )
            with_password = functools.partial(server.url.replace, "://")
            tree = worker_settings(site.redis.url, site.emulator)
            del tree["redis"]["data_url"]
            tree["redis"]["data_url_file"] = str(urls.write("data-url", with_password(f"://worker:{OLD}@")))
            region = tree["regions"]["eastus"]
            del region["api_key"]
            region["api_key_file"] = str(region_keys.write("eastus", OLD))
            path = settings.write("worker.yaml", yaml.safe_dump(tree))
            worker = crew.start("worker", ["groupage_worker", "run", "--config", str(path)])
            await wait_for(worker, lambda: worker.says("app.ready"), WAIT_S, "did not get ready")

            tree["lanes"][LANE]["linger_s"] = 0.4
            settings.write("worker.yaml", yaml.safe_dump(tree))
            assert await wait_until(lambda: worker.says("reload.done"), WAIT_S)

            region_keys.write("eastus", NEW)
            emulator.regions["eastus"].config.keys = [NEW]
            await admin.execute_command("ACL", "SETUSER", "worker", f">{NEW}", f"<{OLD}")
            urls.write("data-url", with_password(f"://worker:{NEW}@"))
            await admin.execute_command("CLIENT", "KILL", "USER", "worker")
            async with Producer(server.url, name="shop", lane=LANE, sweep_s=1.0) as producer:
                ids = await site.submit(producer, 20)
                site.assert_all_right(await site.replies(producer, ids), 20)
            assert worker.exit_status() is None
        await disconnect(admin)
