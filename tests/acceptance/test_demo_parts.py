"""Parts of the demo on their own: bodies, children, views, summary."""

import asyncio
import io
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage.contract import Endpoint
from groupage.door import check_body
from groupage_emulator import config, digest
from groupage_emulator.demo import bodies, books, summary, view, world
from groupage_emulator.demo.checker import Rule, Violation
from groupage_emulator.demo.children import ChildError, Crew, wait_for, wait_until
from groupage_emulator.demo.fleet import Fleet
from groupage_emulator.demo.options import Options
from groupage_emulator.demo.watch import Figures, LaneFigures, RegionFigures

FIGURES = Figures(
    lanes={lane: LaneFigures(submitted=10, waiting=3, settled=5, succeeded=4) for lane in world.LANES},
    regions={
        region: RegionFigures(
            tokens={name: (limit // 2, limit) for name, limit in deployments.items()},
            batches={"in_progress": 2, "completed": 1},
            files=4,
        )
        for region, deployments in world.QUOTAS.items()
    },
)


@given(st.sampled_from(world.LANES), st.integers(0, 10**6), st.integers(0, 99))
def test_every_body_passes_the_door(lane: str, number: int, seed: int) -> None:
    """A body is a function of its arguments, passes the producers' door, and keeps its digest on the way."""
    made = bodies.make(lane, "shop", number, seed)
    assert made == bodies.make(lane, "shop", number, seed)
    endpoint = Endpoint.CHAT if lane == bodies.CHAT else Endpoint.RESPONSES
    checked = check_body(made.body, endpoint=endpoint, request_bytes_max=100_000)
    assert digest(msgspec.json.decode(checked.canonical)) == digest(made.body)


def test_bodies_differ_and_cover_every_kind() -> None:
    """No two bodies are equal, and together they have tools, schemas, images of both kinds, and blocked prompts."""
    made = [bodies.make(bodies.CHAT, "shop", number, 1) for number in range(2_000)]
    assert len({digest(one.body) for one in made}) == len(made)
    text = b"".join(msgspec.json.encode(one.body) for one in made)
    for words in (
        b"json_schema",
        b'"tools"',
        b"data:image/png;base64,",
        b"https://pictures.example/",
        b"assistant",
    ):
        assert words in text
    for language in bodies.LANGUAGES:
        assert bodies.passages(language)[0].encode()[:40] in text
    assert 0 < Counter(one.expected for one in made)["failed"] < 40


@given(st.integers(1, 10**6))
def test_producers_share_all_requests(requests: int) -> None:
    """Whatever the number of requests, the services' shares add up to it."""
    specs = world.producer_specs(Options(requests=requests), "redis://x", Path())
    assert sum(spec.total for spec in specs) == requests
    assert [spec.manner for spec in specs] == ["steady", "bursty", "upload"]


@pytest.mark.parametrize("is_calm", [True, False])
def test_emulator_takes_the_configuration(is_calm: bool) -> None:
    """The emulator accepts the demo's configuration, with quotas that differ."""
    made = config.decode(world.emulator_config(Options(is_calm=is_calm)))
    quotas = [one.enqueued_tokens_max for region in made.regions for one in region.deployments]
    assert len(set(quotas)) == len(quotas)
    assert bool(made.faults) is not is_calm


async def test_worker_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    """A worker with impossible settings is an error that shows the end of its log, within seconds."""
    settings = tmp_path / "worker.yaml"
    settings.write_text("cluster: demo\nlames: {}\n")
    async with asyncio.timeout(20), Crew(tmp_path) as crew:
        fleet = Fleet(crew, settings, view.PlainView(io.StringIO(), 1))
        with pytest.raises(ChildError, match=r"worker-1 ended with status 2(?s:.*)lames"):
            await fleet.start(1)


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Leaving the crew ends a child that ignores SIGTERM."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    (tmp_path / "stubborn.py").write_text(stubborn)
    async with Crew(tmp_path, {"PYTHONPATH": str(tmp_path)}) as crew:
        child = crew.start("stubborn", ["stubborn"])
        await wait_for(child, lambda: child.says("up"), 20, "did not come up")
    assert child.exit_status() == -signal.SIGKILL
    assert not crew.running()


async def test_wait_ends_with_its_time() -> None:
    """Waiting for what never becomes true ends, and says so."""
    assert not await wait_until(lambda: False, 0.01)


def test_plain_view_writes_few_lines() -> None:
    """Without a terminal figures become one line in a few seconds, and a note comes at once."""
    sink = io.StringIO()
    plain = view.PlainView(sink, 20)
    for _ in range(50):
        plain.show(FIGURES)
    plain.note("a worker was killed")
    first, second = sink.getvalue().splitlines()
    assert "in 20 out 10 of 20 | eastus 50% (2 batches)" in first
    assert second.endswith("a worker was killed")


def test_live_view_shows_every_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    """The live picture names each deployment with its use of quota, each lane, and the notes."""
    live = view.LiveView(20)
    live.show(FIGURES)
    live.note("a worker was killed")
    live.close()
    shown = capsys.readouterr().out
    for name in (*world.LANE_OF, *world.LANES, "50%", "a worker was killed"):
        assert name in shown


def test_summary_names_what_is_wrong() -> None:
    """A summary with violations says so instead of claiming that all was checked."""
    made = summary.summarise(
        {},
        books.Books(),
        [Violation(Rule.LOST, "shop:r1")],
        prices=world.PRICES,
        online_price_ratio=2.0,
        killed=0,
        wall_s=1.0,
        total_s=2.0,
    )
    text = summary.text_of(made, "")
    assert "NOT RIGHT:\n  1 x a request has no reply: shop:r1" in text
    assert "checked" not in text


def test_pictures_are_png() -> None:
    """The picture made in code starts as a PNG does and ends with its last chunk."""
    picture = bodies.png(1, 2, 3)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    assert sys.getsizeof(picture) < 300
