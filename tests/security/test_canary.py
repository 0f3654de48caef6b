"""The canary scan: it finds what it must, and a worker in trouble at debug level gives it nothing to find."""

import re
from pathlib import Path

import httpx
import pytest
import structlog
import yaml

from groupage import Request, Status
from groupage_emulator import Config, Emulator
from groupage_emulator.answers import DIRECTIVES
from groupage_emulator.demo.children import Crew, wait_for
from groupage_emulator.redis_server import EmbeddedRedis
from tests.acceptance.site import LANE, WAIT_S, Site, worker_settings
from tests.support.canary import WATCH, leaks, leaks_in_logs

TROUBLE = (
    "status=400",
    "status=429",
    "content_filter",
    "completion_filter",
    "duplicate",
    "unknown",
    "zero",
    "corrupt",
)


@pytest.mark.parametrize(
    "text",
    [
        "hello r00042",
        "x The crates are in the yard. y",
        "api-key: emulator-key-eastus",
        '{"content":"sha256:0123456789abcdef0123456789abcdef"}',
        "canary-prompt",
    ],
)
def test_the_scan_finds_what_is_planted(text: str, tmp_path: Path) -> None:
    """Each kind of secret is found in a text and in the log of a child; plain output holds none."""
    assert leaks(f"before {text} after")
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "worker.log"
    log.write_text(text)
    assert list(leaks_in_logs(tmp_path))
    log.write_text('{"event": "app.ready", "batch": "019a1f"}')
    assert list(leaks_in_logs(tmp_path)) == []


def test_every_log_of_a_test_is_watched() -> None:
    """What a module logs under an allowed name is read, at debug level too; what the filter drops is not there."""
    structlog.get_logger("x").debug("x.y", batch="canary-key")
    assert WATCH.found
    WATCH.found.clear()
    structlog.get_logger("x").error("x.y", body="canary-prompt")
    assert WATCH.found == []


async def test_a_worker_in_trouble_says_nothing(tmp_path: Path) -> None:
    """Refused lines, filtered content, broken files, a wrong key: logs at debug level and metrics hold none of it."""
    assert {word.partition("=")[0] for word in TROUBLE} <= set(DIRECTIVES)
    (tmp_path / "logs").mkdir()
    async with Emulator(Config(time_scale=200.0)) as emulator, Crew(tmp_path / "logs") as crew:
        with EmbeddedRedis(data_dir=tmp_path / "redis") as redis:
            site = Site(redis, emulator, crew, tmp_path)
            tree = worker_settings(site.redis.url, site.emulator)
            tree["log"] = {"format": "json", "level": "debug"}
            tree["regions"]["eastus"]["api_key"] = "canary-key"
            # a new fleet looks at every region first, and this one never answers
            tree["retention"]["recover_wait_s"] = 1.0
            path = tmp_path / "debug.yaml"
            path.write_text(yaml.safe_dump(tree))
            worker = crew.start("worker", ["groupage_worker", "run", "--config", str(path)])
            await wait_for(worker, lambda: worker.says("app.ready"), WAIT_S, "did not get ready")
            async with site.producer() as producer:
                requests = [
                    Request(
                        body={
                            "messages": [{"role": "user", "content": f"canary-prompt {n} [[emulate:{word}]]"}]
                        },
                        id=f"r{n}",
                    )
                    for n, word in enumerate(TROUBLE * 3)
                ]
                ids = [ticket.id for ticket in await producer.submit_many(requests, lane=LANE)]
                replies = await site.replies(producer, ids)
            assert {reply.status for reply in replies.values()} == {Status.SUCCEEDED, Status.FAILED}
            text = worker.log.read_text()
            port = re.search(r'"port": (\d+)', text)
            assert port
            async with httpx.AsyncClient() as client:
                metrics = (await client.get(f"http://127.0.0.1:{port[1]}/metrics")).text
    assert "groupage_requests_settled_total" in metrics
    assert leaks(metrics) == []
    assert "deliverer.batch_delivered" in text
    assert leaks(worker.log.read_text()) == []
