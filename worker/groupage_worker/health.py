"""`/live`, `/ready` and `/metrics` on one port, served by a thread, so that it can say no while the loop is blocked.

Live means that the event loop ticks: only a stuck process should be restarted, never one whose Redis is away.
Ready means that the start is done, Redis answers, leases are renewed, and no stop was asked for. Answers name reasons in words; no
version, host or name of anything goes to whoever asks.
"""

import asyncio
import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from groupage.clock import Clock
from groupage_worker.metrics import Metrics

log = structlog.get_logger("health")

TICK_S: Final = 0.25
"""How often the loop proves that it runs."""

LIVE_S: Final = 30.0
"""A loop that has not ticked for this long is stuck: the longest stall measured is 1.2 s (performance.md,
2026-11-20)."""

READY_S: Final = 15.0
"""Redis must have answered within this time."""

PING_S: Final = 3.0
"""How often Redis is asked."""

CONNECTION_S: Final = 5.0
"""Longest a client may take over its request; a thread each, so a slow one holds up nobody."""


class LoopWatch:
    """Ticks in the event loop, and measures how late.

    Args:
        clock: For the age of the last tick.
        metrics: Gets the stalls.
    """

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._ticked_s = clock.monotonic_s()

    def age_s(self) -> float:
        """Seconds since the last tick; safe to call from any thread."""
        return self._clock.monotonic_s() - self._ticked_s

    def tick(self) -> None:
        """The loop runs: note it, and by how much it is late."""
        late_s = self.age_s() - TICK_S
        self._ticked_s = self._clock.monotonic_s()
        self._metrics.loop_stalled(late_s)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()


class Health:
    """What the worker knows of itself; written by the loop, read by the server's threads.

    Args:
        clock: For ages.
        watch: Knows whether the loop runs.
        servers: Names of what must answer for the worker to be ready.
        leases: Names of the leases that must be renewed for it to be ready.
        renewed_within_s: How old a lease's last renewal may be.
    """

    def __init__(
        self,
        clock: Clock,
        watch: LoopWatch,
        servers: tuple[str, ...] = ("data", "control"),
        leases: tuple[str, ...] = (),
        renewed_within_s: float = READY_S,
    ) -> None:
        self._clock = clock
        self._watch = watch
        self._answered_s: dict[str, float | None] = dict.fromkeys(servers)
        self._renewed_s: dict[str, float | None] = dict.fromkeys(leases)
        self._renewed_within_s = renewed_within_s
        self._starting: str | None = "the start is not done"
        self._is_stopping = False
        self._refused = 0

    def started(self) -> None:
        """Everything is built; work is taken."""
        self._starting = None

    def waits(self, reason: str) -> None:
        """The start waits for something outside."""
        self._starting = f"the start waits: {reason}"

    def stopping(self) -> None:
        """A stop was asked for; no new work is taken."""
        self._is_stopping = True

    def refused(self, problems: int) -> None:
        """Newer settings were refused for so many problems; 0: those in force are the newest."""
        self._refused = problems

    def notes(self) -> list[str]:
        """What is wrong without keeping the worker from its work."""
        if not self._refused:
            return []
        return [f"the newest settings were refused for {self._refused} problems; the log names them"]

    def answered(self, server: str) -> None:
        """A Redis server has just answered."""
        self._answered_s[server] = self._clock.monotonic_s()

    def renewed(self, lease: str) -> None:
        """Steps of a kind are being taken, and those that run are still ours."""
        self._renewed_s[lease] = self._clock.monotonic_s()

    def not_live(self) -> list[str]:
        """Why the process should be restarted; empty if it should not."""
        age_s = self._watch.age_s()
        return [f"the event loop has not run for {age_s:.0f} s"] if age_s > LIVE_S else []

    def not_ready(self) -> list[str]:
        """Why the worker does no work now; empty if it does."""
        reasons = self.not_live()
        if self._starting is not None:
            reasons.append(self._starting)
        if self._is_stopping:
            reasons.append("the worker is stopping")
        now_s = self._clock.monotonic_s()
        for server, at_s in self._answered_s.items():
            if at_s is None:
                reasons.append(f"the {server} server has not answered yet")
            elif now_s - at_s > READY_S:
                reasons.append(f"the {server} server has not answered for {now_s - at_s:.0f} s")
        for lease, at_s in self._renewed_s.items():
            if at_s is None:
                reasons.append(f"no {lease} steps are taken yet")
            elif now_s - at_s > self._renewed_within_s:
                reasons.append(f"the lease of {lease} steps has not been renewed for {now_s - at_s:.0f} s")
        return reasons

    async def keep_asking(self, server: str, ping: Callable[[], Awaitable[object]]) -> None:
        """Ask a Redis server now and then until cancelled.

        Args:
            server: Its name.
            ping: Asks it; whatever it raises means no answer, and shows as the age of the last one.
        """
        is_quiet = False
        while True:
            try:
                await ping()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer, and readiness tells
                if not is_quiet:
                    log.warning("health.no_answer", role=server, error=type(error).__name__)
                is_quiet = True
            else:
                is_quiet = False
                self.answered(server)
            await asyncio.sleep(PING_S)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread per connection; ends with the process."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the resolver for our own name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none of our errors; the library would print a traceback."""


class HealthServer:
    """Serves probes and metrics from a daemon thread.

    Args:
        health: Answers `/live` and `/ready`.
        registry: Answers `/metrics`.
        host: Address to listen on.
        port: 0 for any free one; see `port`.

    Raises:
        OSError: If the address cannot be bound.
    """

    def __init__(self, health: Health, registry: CollectorRegistry, *, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server_class = type("_FamilyServer", (_Server,), {"address_family": family})
        handler = type("_BoundHandler", (_Handler,), {"health": health, "registry": registry})
        self._server: _Server = server_class((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    health: Health
    registry: CollectorRegistry
    timeout = CONNECTION_S

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        match self.path.partition("?")[0]:
            case "/live":
                self._verdict(self.health.not_live())
            case "/ready":
                self._verdict(self.health.not_ready())
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept") or "")
                self._send(HTTPStatus.OK, encode(self.registry), content_type)
            case _:
                self._send(HTTPStatus.NOT_FOUND, b'{"reasons":["use /live, /ready or /metrics"]}')

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _verdict(self, reasons: list[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        answer: dict[str, object] = {"ok": not reasons, "reasons": reasons}
        if notes := self.health.notes():
            answer["notes"] = notes
        self._send(status, json.dumps(answer).encode())

    def _send(self, status: HTTPStatus, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """The Server header: no version of anything."""
        return "groupage"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's signature
        """Probes every few seconds are no news."""
