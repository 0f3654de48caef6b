"""The guard of Redis' memory: the door opens again whoever closed it."""

from redis.asyncio import Redis

from groupage import keys
from groupage.connect import disconnect
from groupage_worker.app import App
from groupage_worker.settings import Settings
from tests.support.fleet import LANE


async def test_a_door_that_a_dead_worker_closed_is_opened_by_the_others(
    redis: "Redis[bytes]", redis_url: str
) -> None:
    """A worker that saw a short peak closed the door and died; one that never saw it finds room and opens it."""
    app = App(
        Settings.model_validate(
            {
                "cluster": "test",
                "redis": {"data_url": redis_url, "data_memory_bytes": 1 << 40},
                "regions": {"east": {"endpoint": "https://x.invalid", "location": "east", "api_key": "k"}},
                "deployments": {"d": {"region": "east", "model": "m", "enqueued_tokens": 1_000}},
                "lanes": {LANE: {"deployments": ["d"]}},
            }
        )
    )
    try:
        await app._guard_memory()
        await app._admission.refuse(LANE, "redis_memory")
        await app._guard_memory()
    finally:
        await disconnect(app._data)
    assert not await redis.hexists(keys.load(LANE), "refused")
