"""Lua scripts of this package, loaded once and run by hash."""

import importlib.resources
from typing import Any

from redis.asyncio import Redis


def load_script(redis: "Redis[bytes]", name: str, *, package: str = "groupage_worker") -> Any:
    """Register `lua/<name>.lua` of a package; redis-py runs it by hash and loads it where it is missing."""
    text = importlib.resources.files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")
    return redis.register_script(text)
