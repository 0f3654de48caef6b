"""What a Redis server refused to its users since it started: somebody tries what is not theirs, or a user lacks a right."""

from typing import Final

from redis.asyncio.cluster import RedisCluster

from groupage_worker.store.client import RedisClient

KINDS: Final = ("auth", "cmd", "key", "channel")
"""Wrong passwords; commands, keys and channels outside a user's rights: `acl_access_denied_*` of INFO."""


async def denials_of(redis: RedisClient) -> dict[str, int]:
    """Refusals by kind, of a cluster over all nodes; nothing where the server does not count them."""
    if isinstance(redis, RedisCluster):
        answers = await redis.info("stats", target_nodes=RedisCluster.PRIMARIES)
        # redis-py answers with the bare value where there is one node only
        infos = [answers] if "total_commands_processed" in answers else list(answers.values())
    else:
        infos = [await redis.info("stats")]
    return {
        kind: sum(int(info[f"acl_access_denied_{kind}"]) for info in infos)
        for kind in KINDS
        if all(f"acl_access_denied_{kind}" in info for info in infos)
    }
