"""HTTP on the wire: JSON answers, the service's headers, and connections that break."""

import socket
import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from aiohttp import web

from groupage_emulator.profiles import Profile
from groupage_emulator.region import Region

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that is allowed to be asked.

    Attributes:
        region: Who is asked.
        profile: How the answer is to look.
        request: The request itself.
        target: The id in its path: of a file, a batch or a deployment; or empty.
        rest: The path after the base.
    """

    region: Region
    profile: Profile
    request: web.Request
    target: str
    rest: str


def json_reply(body: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=_encode(body), status=status, content_type="application/json", charset="utf-8")


def raw_json_reply(body: bytes, status: int = 200) -> web.Response:
    """An answer of JSON bytes."""
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def common_headers(region: str, display_name: str, elapsed_s: float) -> dict[str, str]:
    """Headers that every answer of the service carries (section 1.4)."""
    return {
        "apim-request-id": str(uuid.uuid4()),
        "x-ms-region": display_name,
        "x-aml-cluster": f"vienna-{region}-01",
        "x-request-time": f"{elapsed_s:.3f}",
        "x-ms-response-type": "standard",
        "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        "x-content-type-options": "nosniff",
        "Vary": "Accept-Encoding",
    }


def reset(request: web.Request) -> None:
    """Breaks the connection with a TCP reset, so that no client takes it for an end."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def drain(request: web.Request) -> None:
    """Reads a body that nobody wants, so that the client gets to see the answer."""
    with suppress(ConnectionError, web.HTTPException):
        async for _ in request.content.iter_any():
            pass
