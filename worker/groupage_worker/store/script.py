"""Lua scripts of this package, loaded once and run by hash."""

import importlib.resources
from typing import Any, TypeAlias

RedisClient: TypeAlias = Any
"""A `redis.asyncio` client, plain or of a cluster. redis-py 5 types every answer as awaitable *or* value, so its
own types would be wrong at each call; the stores' signatures are what the rest of the worker relies on."""


def load_script(redis: RedisClient, name: str, *, package: str = "groupage_worker") -> Any:
    """Register `lua/<name>.lua` of a package; redis-py runs it by hash and loads it where it is missing."""
    text = importlib.resources.files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")
    return redis.register_script(text)
