"""`compression`: memory in Redis of a pending 2 kB request, and what submit and gather cost, plain and compressed.

Bodies of real English: the language reference that Python brings along (`pydoc_data`), cut into pieces. Each body is
compressed by itself, so that pieces which come again do not help.
"""

import asyncio
import itertools
import secrets
from pydoc_data import topics
from typing import Any

from benchmarks.speed import intake, rig, workload
from benchmarks.speed.growth import used
from benchmarks.speed.measure import Figure, Meter, Report

REQUESTS = 20_000
BODY_BYTES = 2_048
AROUND_BYTES = 120
MEMORY_RATIO_MAX = {"plain": 1.4, "compressed": 0.6}


def run(*, repetitions: int, scale: float) -> Report:
    """Measure both ways in turn."""
    bodies = bodies_of_prose(max(2_000, int(REQUESTS * scale)))
    size = sum(len(workload.compact(body)) for body in bodies)
    report = Report(
        "compression",
        note=f"{len(bodies)} requests of {size // len(bodies)} bytes; processor time of client and Redis.",
    )
    found: dict[str, list[dict[str, float]]] = {way: [] for way in MEMORY_RATIO_MAX}
    with rig.server(appendonly=False) as server:
        for _ in range(repetitions):
            for way, each in found.items():
                each.append(
                    asyncio.run(
                        _measure(server.url, server.pid, bodies, compress=way == "compressed", size=size)
                    )
                )
    for way, each in found.items():
        ratios = [one["memory"] for one in each]
        name = f"Redis memory of a pending request / its body, {way}"
        report.figures.append(Figure(name, ratios, at_most=MEMORY_RATIO_MAX[way]))
        for stage in ("submit", "gather"):
            report.figures.append(Figure(f"{stage}, {way}", [one[stage] for one in each], unit="us"))
    return report


def bodies_of_prose(n: int) -> list[dict[str, Any]]:
    """Chat bodies of about 2 kB, each different."""
    text = " ".join(" ".join(topics.topics[name].split()) for name in sorted(topics.topics))
    step = BODY_BYTES - AROUND_BYTES
    pieces = [text[start : start + step] for start in range(0, len(text) - step, step)]
    system = {"role": "system", "content": "Answer in one sentence."}
    return [
        {"messages": [system, {"role": "user", "content": f"{index} {piece}"}]}
        for index, piece in zip(range(n), itertools.cycle(pieces), strict=False)
    ]


async def _measure(
    url: str, pid: int, bodies: list[dict[str, Any]], *, compress: bool, size: int
) -> dict[str, float]:
    await rig.empty(url)
    submit, gather = Meter(pid), Meter(pid)
    async with rig.worker(url) as context:
        before = await used(url)
        await intake.submit_into(submit, url, bodies, compress=compress)
        memory = (await used(url) - before) / size
        with gather:
            gather.units = await rig.gather(context, rig.batch_of(secrets.token_hex(8)))
    if gather.units != len(bodies):
        raise AssertionError(f"{gather.units} lines of {len(bodies)}")
    costs = {
        stage: (meter.client_s + meter.server_s) / meter.units * 1e6
        for stage, meter in (("submit", submit), ("gather", gather))
    }
    return {"memory": memory, **costs}
