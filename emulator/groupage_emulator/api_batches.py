"""The Batch API over HTTP: create, get, cancel, list (sections 1.2 and 4 of `azure-batch.md`)."""

import itertools
from collections.abc import Iterable

import msgspec
from aiohttp import web

from groupage_emulator import replies, views
from groupage_emulator.batch import Batch
from groupage_emulator.creation import Wanted
from groupage_emulator.faults import Call, Scope
from groupage_emulator.profiles import Profile
from groupage_emulator.region import Region
from groupage_emulator.transport import Ask, json_reply

LIMIT_DEFAULT = 20


def show(region: Region, batch: Batch, profile: Profile, *, has_metadata: bool = True) -> views.JSON:
    """A batch object of this instant."""
    return views.batch(batch, profile, region.lifecycle.completed_now(batch), has_metadata=has_metadata)


async def create(ask: Ask) -> web.Response:
    """POST /batches; with the quota headers where the profile has them (section 1.4)."""
    region, profile = ask.region, ask.profile
    raw = await ask.request.read()
    try:
        wanted = msgspec.json.decode(raw, type=Wanted)
    except msgspec.DecodeError as error:
        raise replies.error_envelope(
            400, "invalidPayload", f"The request body is invalid: {error}"
        ) from error
    batch = region.create(wanted, profile)
    reply = json_reply(show(region, batch, profile), profile.create_status)
    if profile.quota_headers and batch.ledger is not None:
        reply.headers["deployment-enqueued-tokens"] = str(batch.ledger.enqueued)
        reply.headers["deployment-maximum-enqueued-tokens"] = str(batch.ledger.limit)
    return reply


def _complaint(error: str) -> str:
    """What is wrong with a body; for metadata in OpenAI's words, which the service passes on (section 4.1)."""
    if "$.metadata" in error:
        return f"Invalid type for 'metadata': expected a string. {error}"
    return f"The request body is invalid: {error}"


async def get(ask: Ask) -> web.Response:
    """GET /batches/{id}."""
    return json_reply(show(ask.region, ask.region.batch(ask.target), ask.profile))


async def cancel(ask: Ask) -> web.Response:
    """POST /batches/{id}/cancel."""
    batch = ask.region.batch(ask.target)
    await ask.region.lifecycle.cancel(batch)
    return json_reply(show(ask.region, batch, ask.profile))


async def listing(ask: Ask) -> web.Response:
    """GET /batches: newest first, by cursor; filter and order where the profile has them (section 4.5)."""
    region, profile, request = ask.region, ask.profile, ask.request
    call = Call(region=region.name, operation="list_batches", path=request.path_qs)
    faults = {rule.kind for rule in region.faults.fire(Scope.LIST, call)}
    limit = _limit(region, request.query.get("limit"))
    if "list_empty_page" in faults:
        return json_reply(views.page([], profile, has_more=True))
    after = None if "list_stuck_cursor" in faults else request.query.get("after")
    found = _in_order(region, profile, request, after)
    kept = list(itertools.islice((one for one in found if _is_listed(region, one)), limit + 1))
    has_metadata = "list_no_metadata" not in faults
    shown = [show(region, one, profile, has_metadata=has_metadata) for one in kept[:limit]]
    return json_reply(views.page(shown, profile, has_more=len(kept) > limit))


def _limit(region: Region, text: str | None) -> int:
    most = region.config.limits.list_limit_max
    if text is None:
        return LIMIT_DEFAULT
    if not text.isdigit() or int(text) > most:
        raise replies.error_envelope(400, "invalidPayload", f"limit must be between 0 and {most}.")
    return int(text)


def _is_listed(region: Region, batch: Batch) -> bool:
    return region.clock.now() >= batch.hidden_until() and not region.has_vanished(batch)


def _in_order(region: Region, profile: Profile, request: web.Request, after: str | None) -> Iterable[Batch]:
    """All batches after the cursor; lazily, because a page must not cost the whole list."""
    ascending = profile.odata and views.is_ascending(request.query.get("$orderby"))
    place = None if after is None else region.batch(after).number
    count = len(region.batches)
    if ascending:
        places = range(0 if place is None else place + 1, count)
    else:
        places = range((count if place is None else place) - 1, -1, -1)
    found: Iterable[Batch] = (region.batches[place] for place in places)
    odata = request.query.get("$filter") if profile.odata else None
    return found if odata is None else views.select(found, odata)
