"""The client of a Redis Cluster: redis-py's, mended where the loss of a node would last longer than the node."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException


class Cluster(RedisCluster):
    """Cluster client for many calls at once, through the loss of nodes.

    When one call fails redis-py (5.3.1, 2026-11-22) closes the connections of all others. Theirs end as an
    `AttributeError` on the stream that is gone, a bug by its looks, so nobody would try again; or as broken, and for each
    the node is struck off the list of those to ask for the others. A client whose list is empty finds the
    cluster never again: `RedisClusterException`, which is no `RedisError`, until the process is started anew.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._seeds = dict(self.nodes_manager.startup_nodes)

    async def initialize(self, **options: Any) -> Self:
        """Find the nodes, by any of those that are known or were given; options as newer versions of redis-py have them.

        Raises:
            redis.exceptions.RedisError: If none of them answers.
        """
        known = self.nodes_manager.startup_nodes
        struck = {name: node for name, node in self._seeds.items() if name not in known}
        # last, because everybody waits while one that is silent is asked; another dict, because somebody may be going
        # through this one
        self.nodes_manager.startup_nodes = known | struck
        try:
            with _as_broken():
                await super().initialize(**options)
        except RuntimeError as error:
            # the list changed while it was gone through
            raise RedisConnectionError(f"the cluster cannot be used: {error}") from error
        return self

    async def close_all(self) -> None:
        """Close it for good; `aclose` does nothing once a call has failed, and others may have connected since."""
        await self.aclose()
        manager = self.nodes_manager
        for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values(), *self._seeds.values()):
            await node.disconnect()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """One command; as in redis-py.

        Raises:
            redis.exceptions.RedisError: If it failed, its connection was closed under it, or no node answers.
        """
        with _as_broken():
            return await super().execute_command(*args, **kwargs)

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        """Commands that are sent together; as in redis-py, with the errors of `execute_command`."""
        pipe: Any = super().pipeline(*args, **kwargs)
        execute = pipe.execute

        async def execute_all(*args: Any, **kwargs: Any) -> Any:
            with _as_broken():
                return await execute(*args, **kwargs)

        pipe.execute = execute_all
        return pipe


@contextlib.contextmanager
def _as_broken() -> Iterator[None]:
    try:
        yield
    except (AttributeError, RedisClusterException) as error:
        raise RedisConnectionError(f"the cluster cannot be used: {error}") from error
