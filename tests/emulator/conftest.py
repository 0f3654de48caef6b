"""One emulator with a manual clock per test, and a plain HTTP client for its East US region."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from groupage_emulator import Config, DeploymentConfig, Emulator, RegionConfig, Span, Timing

DEPLOYMENT = "gpt-4o-mini-batch"
ONLINE = "gpt-4o-mini-online"


def timing() -> Timing:
    """Durations that a test can reckon with."""
    return Timing(
        file_pending=Span(fixed=5),
        validating=Span(fixed=200),
        in_progress=Span(fixed=100),
        finalizing=Span(fixed=50),
        cancelling=Span(fixed=60),
    )


def region_config(name: str = "eastus", **changes: Any) -> RegionConfig:
    """A region with fixed durations, unlimited speed and two deployments."""
    values = {
        "display_name": "East US",
        "timing": timing(),
        "tokens_per_s": 0.0,
        "deployments": [
            DeploymentConfig(name=DEPLOYMENT, enqueued_tokens_max=1_000_000),
            DeploymentConfig(name="other-batch", sku="DataZoneBatch"),
            DeploymentConfig(name=ONLINE, sku="Standard"),
        ],
    }
    return RegionConfig(name=name, **(values | changes))


def line(custom_id: str, text: str = "hello", url: str = "/chat/completions", **body: Any) -> dict[str, Any]:
    """One line of an input file."""
    if url.endswith("/responses"):
        return {
            "custom_id": custom_id,
            "method": "POST",
            "url": url,
            "body": {"model": DEPLOYMENT, "input": text} | body,
        }
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": {"model": DEPLOYMENT, "messages": messages} | body,
    }


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """Lines as the bytes of a file."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


@dataclass
class Caller:
    """Calls one region over HTTP, in one profile."""

    emulator: Emulator
    http: httpx.AsyncClient
    params: dict[str, str]

    @property
    def region(self):
        """The region called."""
        return self.emulator.regions["eastus"]

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """GET below the base."""
        return await self.http.get(path, params=self.params | params)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        """POST of JSON below the base."""
        return await self.http.post(path, params=self.params, json=body)

    async def delete(self, path: str) -> httpx.Response:
        """DELETE below the base."""
        return await self.http.delete(path, params=self.params)

    async def upload(self, content: bytes, **fields: str) -> httpx.Response:
        """POST /files."""
        return await self.http.post(
            "/files",
            params=self.params,
            data={"purpose": "batch"} | fields,
            files={"file": ("input.jsonl", content, "application/json")},
        )

    async def uploaded(self, lines: list[dict[str, Any]] | bytes) -> str:
        """The id of a file that is uploaded and processed."""
        content = lines if isinstance(lines, bytes) else jsonl(lines)
        reply = await self.upload(content)
        assert reply.status_code == 201, reply.text
        if reply.json()["status"] != "processed":
            await self.emulator.clock.advance(5)
        return reply.json()["id"]

    async def create(self, file_id: str, **fields: Any) -> httpx.Response:
        """POST /batches."""
        wanted = {"input_file_id": file_id, "endpoint": "/chat/completions", "completion_window": "24h"}
        return await self.post("/batches", wanted | fields)

    async def created(self, lines: list[dict[str, Any]] | bytes, **fields: Any) -> str:
        """The id of a batch that is created of these lines."""
        reply = await self.create(await self.uploaded(lines), **fields)
        assert reply.status_code in (200, 201), reply.text
        return reply.json()["id"]

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """GET /batches/{id}."""
        reply = await self.get(f"/batches/{batch_id}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def finished(self, lines: list[dict[str, Any]] | bytes, **fields: Any) -> dict[str, Any]:
        """A batch that ran to its end."""
        batch_id = await self.created(lines, **fields)
        await self.emulator.clock.advance(1000)
        return await self.batch(batch_id)

    async def rows(self, file_id: str | None) -> list[dict[str, Any]]:
        """The rows of an output or error file; none without a file."""
        if not file_id:
            return []
        reply = await self.get(f"/files/{file_id}/content")
        assert reply.status_code == 200, reply.text
        return [json.loads(row) for row in reply.content.split(b"\n") if row]


@pytest.fixture
async def emulate() -> AsyncIterator[Callable[..., Any]]:
    """Starts emulators on demand: by profile, with changes to the region or a whole configuration."""
    opened: list[Emulator] = []
    clients: list[httpx.AsyncClient] = []

    async def start(profile: str = "v1", *, config: Config | None = None, **changes: Any) -> Caller:
        emulator = Emulator(config or Config(clock="manual", regions=[region_config(**changes)]))
        opened.append(emulator)
        await emulator.start()
        region = emulator.regions["eastus"]
        dated = profile[0] == "2"
        base = {"v1": region.v1_url, "openai": region.openai_url}.get(profile, region.azure_url)
        headers = (
            {"Authorization": f"Bearer {region.key}"} if profile == "openai" else {"api-key": region.key}
        )
        http = httpx.AsyncClient(base_url=base, headers=headers, timeout=20)
        clients.append(http)
        return Caller(emulator, http, {"api-version": profile} if dated else {})

    yield start
    for client in clients:
        await client.aclose()
    for emulator in opened:
        await emulator.stop()


@pytest.fixture
async def call(emulate) -> Caller:
    """A region in the v1 profile."""
    return await emulate()
