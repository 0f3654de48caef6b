"""The Files API over HTTP: upload, get, list, delete, content (sections 1.2 and 2 of `azure-batch.md`)."""

from pathlib import Path

from aiohttp import BodyPartReader, MultipartReader, web

from groupage_emulator import replies, views
from groupage_emulator.creation import Expiry, check_expiry
from groupage_emulator.faults import Call, Rule, Scope
from groupage_emulator.profiles import Profile
from groupage_emulator.region import Region
from groupage_emulator.transport import Ask, json_reply, reset

CHUNK_BYTES = 1 << 18
FIELD_BYTES_MAX = 4096

_SECONDS = ("expires_after[seconds]", "expires_after.seconds", "seconds")
_ANCHOR = ("expires_after[anchor]", "expires_after.anchor", "anchor")


async def upload(ask: Ask) -> web.StreamResponse:
    """POST /files: streams the part to disk, in constant memory."""
    region, profile, request = ask.region, ask.profile, ask.request
    if not request.content_type.startswith("multipart/"):
        raise replies.error_envelope(400, "invalidPayload", "The body must be multipart/form-data.")
    file_id = region.files.new_id(is_output=False)
    path = region.files.path(file_id)
    try:
        fields, filename, size_bytes = await _parts(region, request, path)
        expiry = _expiry(region, profile, fields)
        expires = expiry is not None and profile.honours_expiry
        region.files.check_cap(profile, expires=expires)
        stored = region.files.accept(
            file_id, filename, size_bytes, profile, None if expiry is None else expiry.seconds
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    reply = json_reply(views.file(stored, profile), 201)
    reply.headers["Location"] = f"{request.url.with_query(None)}/{file_id}"
    return reply


async def _parts(region: Region, request: web.Request, path: Path) -> tuple[dict[str, str], str, int]:
    """Reads the form: plain fields, the file's name, and its size with its bytes put at `path`."""
    fields: dict[str, str] = {}
    filename, size_bytes = None, 0
    async for part in await _multipart(request):
        if not isinstance(part, BodyPartReader):
            raise replies.error_envelope(400, "invalidPayload", "Nested parts are not supported.")
        if part.name == "file":
            if not part.filename or not part.headers.get("Content-Type"):
                raise replies.error_envelope(
                    400, "invalidPayload", "The file part has a missing or empty content type or file name."
                )
            filename = part.filename
            size_bytes = await _save(part, path, region.config.limits.file_bytes_max)
        else:
            fields[part.name or ""] = (await part.read()).decode("utf-8", "replace")[:FIELD_BYTES_MAX]
    if filename is None:
        raise replies.error_envelope(400, "invalidPayload", "The file field is required.")
    if fields.get("purpose") != "batch":
        raise replies.error_envelope(
            400, "invalidPayload", f"The purpose '{fields.get('purpose')}' is not supported."
        )
    return fields, filename, size_bytes


async def _multipart(request: web.Request) -> MultipartReader:
    try:
        return await request.multipart()
    except (ValueError, AssertionError) as error:
        raise replies.error_envelope(400, "invalidPayload", f"The form is malformed: {error}") from error


async def _save(part: BodyPartReader, path: Path, most: int) -> int:
    """Streams a part to disk; returns its size in bytes."""
    size_bytes = 0
    with path.open("wb") as target:
        while chunk := await part.read_chunk(CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes <= most:
                target.write(chunk)
    if size_bytes > most:
        raise replies.error_envelope(
            400, "invalidPayload", f"The file is larger than the maximum of {most} bytes."
        )
    return size_bytes


def _expiry(region: Region, profile: Profile, fields: dict[str, str]) -> Expiry | None:
    """The expiry in any of the three wire forms of section 2.1, checked where it is honoured."""
    seconds = next((fields[name] for name in _SECONDS if name in fields), None)
    if seconds is None:
        return None
    anchor = next((fields[name] for name in _ANCHOR if name in fields), "created_at")
    if not seconds.isdigit():
        raise replies.error_envelope(400, "invalidPayload", "expires_after.seconds must be an integer.")
    expiry = Expiry(int(seconds), anchor)
    if profile.honours_expiry:
        check_expiry(region.config.limits, expiry)
    return expiry


async def bring(ask: Ask) -> web.Response:
    """POST /files/import: always refused.

    Raises:
        Refusal: E5 `fileImportFailed`.
    """
    raise replies.error_envelope(400, "fileImportFailed", f"The emulator imports no files: {ask.rest}.")


async def get(ask: Ask) -> web.Response:
    """GET /files/{id}."""
    return json_reply(views.file(ask.region.files.get(ask.target), ask.profile))


async def delete(ask: Ask) -> web.Response:
    """DELETE /files/{id}."""
    ask.region.files.delete(ask.target)
    return json_reply({"object": "file", "deleted": True, "id": ask.target})


async def listing(ask: Ask) -> web.Response:
    """GET /files: all of them in old profiles, pages in new ones (section 2.3)."""
    region, profile, request = ask.region, ask.profile, ask.request
    purpose = request.query.get("purpose")
    found = [one for one in region.files.all() if purpose in (None, one.purpose)]
    if not profile.file_paging:
        return json_reply({"object": "list", "data": [views.file(one, profile) for one in found]})
    if request.query.get("order", "desc") == "desc":
        found.reverse()
    after = request.query.get("after")
    if after is not None:
        place = next((place for place, one in enumerate(found) if one.id == after), None)
        if place is None:
            raise replies.not_found("file", after)
        found = found[place + 1 :]
    limit = request.query.get("limit", "10000")
    if not limit.isdigit() or not 1 <= int(limit) <= 10_000:
        raise replies.error_envelope(400, "invalidPayload", "limit must be between 1 and 10000.")
    shown = [views.file(one, profile) for one in found[: int(limit)]]
    return json_reply(views.page(shown, profile, has_more=len(found) > int(limit)))


async def content(ask: Ask) -> web.StreamResponse:
    """GET /files/{id}/content: streams the bytes, with what faults do to them."""
    region, request, file_id = ask.region, ask.request, ask.target
    stored = region.files.get(file_id)
    call = Call(region=region.name, operation="content", path=request.path_qs, id=file_id)
    rules = {rule.kind: rule for rule in region.faults.fire(Scope.DOWNLOAD, call)}
    if "content_gone" in rules:
        raise replies.not_found("file", file_id)
    cut, slow = rules.get("truncate"), rules.get("slow_body")
    size_bytes = stored.path.stat().st_size
    end = size_bytes if cut is None else min(size_bytes, cut.at_byte)
    start = 0 if "no_ranges" in rules else request.http_range.start or 0
    reply = _content_reply(start, size_bytes)
    reply.content_length = max(0, (end if cut is not None and cut.clean else size_bytes) - start)
    with stored.path.open("rb") as source:  # opened before the first await: a deletion meanwhile does no harm
        await reply.prepare(request)
        source.seek(start)
        step = CHUNK_BYTES if slow is None else max(1, int(slow.bytes_per_s))
        while (left := end - source.tell()) > 0:
            await reply.write(source.read(min(step, left)))
            await _pause(region, slow)
    if cut is not None and not cut.clean and end < size_bytes:
        reset(request)
    else:
        await reply.write_eof()
    return reply


def _content_reply(start: int, size_bytes: int) -> web.StreamResponse:
    """Headers of a whole file or of the rest of one (RFC 9110, 14.2; not documented for the service)."""
    if start and start >= size_bytes:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size_bytes}"})
    headers = {"Content-Type": "application/octet-stream"}
    if not start:
        return web.StreamResponse(headers=headers)
    headers["Content-Range"] = f"bytes {start}-{size_bytes - 1}/{size_bytes}"
    return web.StreamResponse(status=206, headers=headers)


async def _pause(region: Region, slow: Rule | None) -> None:
    """One service second between the chunks of a slow body."""
    if slow is not None:
        await region.clock.sleep(1.0)
