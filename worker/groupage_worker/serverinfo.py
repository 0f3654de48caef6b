"""Whether a Redis server can be trusted with accepted requests: what it says of itself, and what must change."""

import dataclasses
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

Role = Literal["data", "control"]

REDIS_VERSION_MIN = (7, 0)
"""Script flags such as allow-oom, which keep the way out of a full server open (arq-redis.md 5, 2026-11-20)."""

VALKEY_VERSION_MIN = (8, 0)

CLOCK_OFFSET_S_MAX = 5.0
"""Workers correct their clocks by the server's; more than this hints at a machine without time service."""

_SNAPSHOT_ONLY = "keeps snapshots only: a crash loses minutes of accepted requests; set appendonly yes"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What one server says of itself; None where it does not say (managed services hide some of it).

    Attributes:
        product: `redis` or `valkey`.
        version: Major, minor, patch.
        is_cluster: Whether it is a node of a Redis Cluster.
        is_replica: Whether it only follows another server.
        is_loading: Whether it still reads its data from disk.
        maxmemory_bytes: Memory limit; 0 for none.
        maxmemory_policy: What it does when that is reached.
        has_aof: Whether every write goes to an append-only file.
        has_snapshots: Whether snapshots are made on schedule.
        clock_offset_s: Its time minus ours, at the middle of the question.
        replicas: How many servers follow it now.
        waits_for_replicas: Whether it refuses writes while too few of them follow (min-replicas-to-write).
    """

    product: str
    version: tuple[int, ...]
    is_cluster: bool
    is_replica: bool
    is_loading: bool
    maxmemory_bytes: int | None
    maxmemory_policy: str | None
    has_aof: bool | None
    has_snapshots: bool | None
    clock_offset_s: float
    replicas: int = 0
    waits_for_replicas: bool = False

    @property
    def name(self) -> str:
        """Product and version, for sentences."""
        return f"{self.product} {'.'.join(map(str, self.version))}"


async def inspect(redis: Redis | RedisCluster) -> ServerFacts:
    """Ask a server about itself: INFO and TIME, and CONFIG where that is allowed; of a cluster, one node.

    Raises:
        RedisError: If it does not answer.
    """
    one: dict[str, Any] = {}
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        one["target_nodes"] = redis.get_default_node()
    info: Mapping[str, Any] = await redis.info("everything", **one)
    config = await _config(redis, one)
    before_s = time.time()
    seconds, micros = await redis.time(**one)
    offset_s = seconds + micros / 1e6 - (before_s + time.time()) / 2
    return facts(info, config, offset_s)


async def _config(redis: Redis | RedisCluster, one: Mapping[str, Any]) -> Mapping[str, str]:
    """What INFO does not tell; empty where CONFIG is blocked, as on Azure Managed Redis."""
    try:
        answer: dict[str, str] = await redis.config_get("save", **one)
    except ResponseError:
        # blocked by ACL (NOPERM) or unknown: what remains unknown becomes a note, never a refusal
        return {}
    return answer


def facts(info: Mapping[str, Any], config: Mapping[str, str], clock_offset_s: float) -> ServerFacts:
    """Read a server's answers.

    Args:
        info: INFO, decoded.
        config: CONFIG GET, empty where it is blocked.
        clock_offset_s: Measured offset of its clock, seconds.
    """
    product = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{product}_version", "0"))
    aof, limit = info.get("aof_enabled"), info.get("maxmemory")
    return ServerFacts(
        product=product,
        version=tuple(int(part) for part in re.findall(r"\d+", version)[:3]),
        is_cluster=bool(int(info.get("cluster_enabled", 0))),
        is_replica=str(info.get("role", "master")) in {"slave", "replica"},
        is_loading=bool(int(info.get("loading", 0))),
        maxmemory_bytes=None if limit is None else int(limit),
        maxmemory_policy=info.get("maxmemory_policy"),
        has_aof=None if aof is None else bool(int(aof)),
        has_snapshots=bool(config["save"].strip()) if "save" in config else None,
        clock_offset_s=clock_offset_s,
        replicas=int(info.get("connected_slaves", 0)),
        # INFO has this line only where the setting is in force
        waits_for_replicas="min_slaves_good_slaves" in info,
    )


def problems(facts: ServerFacts, role: Role) -> list[str]:
    """Why this server must not hold accepted requests, one sentence each; empty if it may.

    Args:
        facts: What it says of itself.
        role: Which of the two URLs it stands behind.
    """
    here = f"redis {role} server ({facts.name})"
    least = VALKEY_VERSION_MIN if facts.product == "valkey" else REDIS_VERSION_MIN
    found = []
    if facts.version[:2] < least:
        needed = ".".join(map(str, least))
        found.append(f"{here}: is too old; use Redis 7.0 or newer, or Valkey 8 or newer (at least {needed})")
    if role == "control" and facts.is_cluster:
        found.append(
            f"{here}: is a cluster, on which arq cannot run; set redis.control_url to a single server"
        )
    if facts.is_replica:
        found.append(f"{here}: is a replica and takes no writes; use the address of the primary")
    if facts.is_loading:
        found.append(f"{here}: is still loading its data; start again in a moment")
    policy = facts.maxmemory_policy
    # a policy bites only at a limit, but somebody will set the limit one day
    if policy is not None and policy != "noeviction":
        found.append(f"{here}: may evict accepted requests ({policy}); set maxmemory-policy noeviction")
    if facts.has_aof is False and facts.has_snapshots is False:
        found.append(f"{here}: keeps nothing on disk, so a restart loses every request; set appendonly yes")
    return found


def notes(facts: ServerFacts, role: Role, *, memory_bytes: int | None = None) -> list[str]:
    """What is worth knowing of this server but no reason to refuse it, one sentence each.

    Args:
        facts: What it says of itself.
        role: Which of the two URLs it stands behind.
        memory_bytes: Its memory limit as set; None where it is left to the server.
    """
    here = f"redis {role} server ({facts.name})"
    found = list(_memory_notes(facts, role, memory_bytes))
    if facts.has_aof is False and facts.has_snapshots is not False:
        doubt = "may keep nothing on disk (CONFIG is blocked); make sure that it does"
        found.append(f"{here}: {_SNAPSHOT_ONLY if facts.has_snapshots else doubt}")
    if facts.has_aof is None:
        found.append(f"{here}: does not say whether it keeps anything on disk; make sure that it does")
    if facts.maxmemory_policy is None:
        found.append(f"{here}: does not say its eviction policy; make sure that it is noeviction")
    if facts.replicas and not facts.waits_for_replicas:
        found.append(
            f"{here}: a failover may lose what it has just acknowledged, which then is asked for and paid again; set "
            "min-replicas-to-write 1, or have producers ask for durability replicated"
        )
    if abs(facts.clock_offset_s) > CLOCK_OFFSET_S_MAX:
        found.append(
            f"{here}: its clock is {abs(facts.clock_offset_s):.0f} s {'ahead of' if facts.clock_offset_s > 0 else 'behind'} "
            "ours; deadlines follow the server's clock, so check the time service on both machines",
        )
    return found


def _memory_notes(facts: ServerFacts, role: Role, memory_bytes: int | None) -> Iterator[str]:
    """A limit that nobody knows never closes the door; one that is not the server's closes it too late."""
    here, setting = f"redis {role} server ({facts.name})", f"redis.{role}_memory_bytes"
    match facts.maxmemory_bytes, memory_bytes:
        case 0, None:
            yield f"{here}: has no maxmemory; set it below the machine's memory, or the machine will kill it"
        case None, None:
            yield (
                f"{here}: does not say its memory limit, so nothing is refused before it is full; set {setting} to what "
                "it may hold"
            )
        case int(told), int(given) if 0 < told < given:
            yield f"{here}: {setting} = {given} is above its maxmemory {told}, which holds"
