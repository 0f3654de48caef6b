"""The type of the clients that the stores are given."""

from typing import Any, TypeAlias

RedisClient: TypeAlias = Any
"""A `redis.asyncio` client, plain or of a cluster. redis-py 5 types every answer as awaitable *or* value, so its
own types would be wrong at each call; the stores' signatures are what the rest of the worker relies on."""
