"""`groupage status` and `groupage quota` show the limit that the fleet keeps, and where it comes from."""

import dataclasses

from groupage_worker.quota import SharedLimit
from tests.cli.tool import Tool
from tests.support.fleet import Fleet


async def test_a_quota_that_others_share(fleet: Fleet, tool: Tool) -> None:
    """What refusals told of others is the limit, and both commands say until when; the rest is no free room."""
    name = next(iter(fleet.settings.deployments))
    # in a hundred years: the tool's clock is the server's, the fleet's stands still
    cap = SharedLimit(cap_tokens=700, until_ms=2**42, strikes=1)
    await fleet.batches.known.update(name, lambda known: dataclasses.replace(known, shared=cap))
    row = (await tool("quota", name, "--json")).data[name]
    assert (row["limit_tokens"], row["learned_limit_tokens"], row["learned_until_ms"]) == (700, 700, 2**42)
    assert row["quota_tokens"] == fleet.settings.deployments[name].enqueued_tokens
    assert "refused beyond 700 tokens" in (await tool("status", "--once")).out
    await fleet.batches.known.update(
        name, lambda known: dataclasses.replace(known, shared=dataclasses.replace(cap, cap_tokens=0))
    )
    assert (await tool("quota", name, "--json")).data[name]["reserved_ratio"] == 1.0, "no room at all"


async def test_a_quota_that_the_service_reports_smaller(fleet: Fleet, tool: Tool) -> None:
    """Where the service's headers tell a smaller quota than the settings, that one counts and is shown."""
    name, other, *_ = fleet.settings.deployments
    await fleet.batches.known.update(name, lambda known: dataclasses.replace(known, quota_tokens=2_000))
    rows = (await tool("quota", "--json")).data
    margin = fleet.settings.gather.quota_margin_ratio
    assert (rows[name]["reported_quota_tokens"], rows[name]["limit_tokens"]) == (2_000, int(2_000 * margin))
    assert (rows[other]["reported_quota_tokens"], rows[other]["learned_limit_tokens"]) == (None, None)
    assert rows[other]["limit_tokens"] == fleet.context.limit_tokens(other)
    assert "the service says its quota is 2,000 tokens" in (await tool("quota")).out
