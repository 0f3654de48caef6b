"""A region over HTTP: which operation a request means, who may ask, and what faults do to it."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from aiohttp import web

from groupage_emulator import api_batches, api_files, api_online, profiles, replies
from groupage_emulator.faults import Call, Rule, Scope
from groupage_emulator.profiles import Profile
from groupage_emulator.region import Region
from groupage_emulator.transport import Ask, common_headers, drain, json_reply, reset

BODY_BYTES_MAX = 64 << 20
_began: ContextVar[float] = ContextVar("began")

_OPERATIONS = tuple(
    (method, re.compile(pattern), operation)
    for method, pattern, operation in (
        ("POST", r"^/files$", "upload"),
        ("GET", r"^/files$", "list_files"),
        ("POST", r"^/files/import$", "import"),
        ("GET", r"^/files/(?P<id>[^/]+)/content$", "content"),
        ("GET", r"^/files/(?P<id>[^/]+)$", "get_file"),
        ("DELETE", r"^/files/(?P<id>[^/]+)$", "delete_file"),
        ("POST", r"^/batches$", "create"),
        ("GET", r"^/batches$", "list_batches"),
        ("GET", r"^/batches/(?P<id>[^/]+)$", "get_batch"),
        ("POST", r"^/batches/(?P<id>[^/]+)/cancel$", "cancel"),
        ("POST", r"^/deployments/(?P<id>[^/]+)/chat/completions$", "online"),
        ("POST", r"^/chat/completions$", "online"),
        ("POST", r"^/responses$", "online"),
    )
)

_ANSWERS: dict[str, Callable[[Ask], Awaitable[web.StreamResponse]]] = {
    "upload": api_files.upload,
    "list_files": api_files.listing,
    "import": api_files.bring,
    "content": api_files.content,
    "get_file": api_files.get,
    "delete_file": api_files.delete,
    "create": api_batches.create,
    "list_batches": api_batches.listing,
    "get_batch": api_batches.get,
    "cancel": api_batches.cancel,
    "online": api_online.answer,
}


def operation_of(method: str, rest: str) -> tuple[str, str]:
    """The operation and the id of a path after the base; empty when there is none."""
    for wanted, pattern, operation in _OPERATIONS:
        if method == wanted and (found := pattern.match(rest)):
            return operation, found.groupdict().get("id", "")
    return "", ""


def is_allowed(region: Region, profile: Profile, request: web.Request) -> bool:
    """Whether a key or token of the request is accepted (section 1.3)."""
    keys = region.config.keys
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and bearer:
        return bearer in region.config.tokens or ("bearer" in profile.key_in and bearer in keys)
    return "api-key" in profile.key_in and request.headers.get("api-key") in keys


class Api:
    """Answers one region's requests; `handle` is the only route of its application."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def application(self) -> web.Application:
        """The region's web application."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self.handle)
        application.on_response_prepare.append(self._prepare)
        return application

    async def _prepare(self, request: web.Request, reply: web.StreamResponse) -> None:
        """Puts the service's headers on every answer, streamed ones included."""
        elapsed_s = time.perf_counter() - _began.get(time.perf_counter())
        config = self._region.config
        reply.headers.update(common_headers(config.name, config.display_name, elapsed_s))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request, and lets the faults that fit it happen."""
        region = self._region
        _began.set(time.perf_counter())
        version = request.query.get("api-version")
        route = profiles.route(request.path, version, region.config.profiles)
        operation, target = operation_of(request.method, route.rest) if route else ("", "")
        call = Call(region=region.name, operation=operation, path=request.path_qs, id=target)
        rules = region.faults.fire(Scope.HTTP, call)

        reply = await self._before(request, rules)
        if reply is None:
            reply = await self._answer(request, route, operation, target)
            lost = await self._after(request, rules)
            reply = lost if lost is not None and not reply.prepared else reply
        return reply

    async def _answer(
        self, request: web.Request, route: profiles.Route | None, operation: str, target: str
    ) -> web.StreamResponse:
        """The answer without faults."""
        try:
            return await self._dispatch(request, route, operation, target)
        except replies.Refusal as refusal:
            await drain(request)
            return json_reply(refusal.body, refusal.status)

    async def _dispatch(
        self, request: web.Request, route: profiles.Route | None, operation: str, target: str
    ) -> web.StreamResponse:
        if route is None:
            raise replies.resource_not_found()
        if not is_allowed(self._region, route.profile, request):
            raise replies.unauthorized()
        answer = _ANSWERS.get(operation)
        if answer is None:
            raise replies.resource_not_found()
        return await answer(Ask(self._region, route.profile, request, target, route.rest))

    async def _before(self, request: web.Request, rules: list[Rule]) -> web.StreamResponse | None:
        """Faults before handling; an answer of theirs takes the place of handling."""
        if self._region.is_off:
            reset(request)
            return web.Response(status=503)
        for rule in rules:
            if rule.kind == "delay":
                await self._region.clock.sleep(rule.seconds or 0.0)
        return await self._apply(request, [rule for rule in rules if rule.when == "before"])

    async def _after(self, request: web.Request, rules: list[Rule]) -> web.StreamResponse | None:
        """Faults after handling: what was done stays done, the answer is lost."""
        return await self._apply(request, [rule for rule in rules if rule.when == "after"])

    async def _apply(self, request: web.Request, rules: list[Rule]) -> web.StreamResponse | None:
        for rule in rules:
            match rule.kind:
                case "reset" | "region_off":
                    reset(request)
                    return web.Response(status=503)
                case "hang":
                    await asyncio.Event().wait()
                case "http_status":
                    await drain(request)
                    return _injected(rule)
        return None


def _injected(rule: Rule) -> web.Response:
    if rule.body is None:
        reply = json_reply(replies.injected(rule), rule.status)
    else:
        reply = web.Response(text=rule.body, status=rule.status, content_type=rule.content_type)
    reply.headers.update(rule.headers)
    return reply
