"""Every Redis key of the system, both sides: one function a key, with type, writer and time to live.

Data keys of a lane share the hash tag `{lane}`, so that each script touches one cluster slot. Control keys
carry no tag: control is never a cluster, because arq cannot run on one. `g1` is the layout version; a key
whose meaning changes gets a new version.

Inside scripts request, reply and queue keys are built from the lane's prefix, which travels as an argument:
a claim finds out only there which of a million keys it needs, and all of them have the lane's hash tag.
"""

from collections.abc import Iterable

LAYOUT = "g1"

LANES = f"{LAYOUT}:lanes"
"""data, hash: lane -> its announcement as JSON (`contract.LaneInfo`). Written by workers at start, no TTL."""

DUE_LIGHT = f"{LAYOUT}:due:light"
"""control, zset: step name -> next step due (Unix ms); short steps such as a poll."""

DUE_HEAVY = f"{LAYOUT}:due:heavy"
"""control, zset: the same for steps that move whole files."""

EPOCH = f"{LAYOUT}:epoch"
"""data and control, hash: identity of this server's history, a number that grows with every freeze, the newest beat.

Written by workers (`beat`, `unfreeze`); producers read `number`: when it changes, something may have been lost. No TTL.
On a Redis Cluster producers read that of the lane."""

REFUSALS = f"{LAYOUT}:refusals"
"""control, hash: worker -> settings that it refused while it runs, and why (JSON). TTL: a week after the last one."""


def lane_prefix(lane: str) -> str:
    """Start of every data key of a lane; handed to scripts."""
    return f"{LAYOUT}:{{{lane}}}:"


def request(lane: str, producer: str, id: str) -> str:  # noqa: A002 - the word of the contract
    """String: header + body (`codec`). Its existence means the request is open. TTL: deadline + a week."""
    return f"{LAYOUT}:{{{lane}}}:p:{producer}:req:{id}"


def requests(lane: str, custom_ids: Iterable[bytes]) -> list[bytes]:
    """`request` of each `producer:id`, made in bytes, because a file has 100,000 of them."""
    start = f"{lane_prefix(lane)}p:".encode()
    return [start + custom_id.replace(b":", b":req:", 1) for custom_id in custom_ids]


def reply(lane: str, producer: str, id: str) -> str:  # noqa: A002 - as above
    """String: the one terminal reply, written once by `settle`. TTL: the lane's `reply_ttl_s`."""
    return f"{LAYOUT}:{{{lane}}}:p:{producer}:rep:{id}"


def trace(lane: str, producer: str, id: str) -> str:  # noqa: A002 - as above
    """String: context of the submit, where that is traced (`traceparent`). TTL: deadline + the lane's `reply_ttl_s`."""
    return f"{LAYOUT}:{{{lane}}}:p:{producer}:trace:{id}"


def queue(lane: str, producer: str, priority: str) -> str:
    """List of `id|tokens|bytes|accepted_at_ms`: waiting requests of one producer. Vanishes when empty."""
    return f"{LAYOUT}:{{{lane}}}:p:{producer}:q:{priority}"


def producer_load(lane: str, producer: str) -> str:
    """Hash: counters of one producer in one lane (`open_requests`, `reply_bytes`, totals ...). No TTL."""
    return f"{LAYOUT}:{{{lane}}}:p:{producer}:load"


def kept(lane: str, producer: str) -> str:
    """Hash: hour (since 1970) at whose start they have expired -> bytes of a producer's replies. TTL: until the last."""
    return f"{LAYOUT}:{{{lane}}}:p:{producer}:kept"


def ready(lane: str, priority: str) -> str:
    """Zset: producer -> virtual time; who has waiting requests, and who is served next."""
    return f"{LAYOUT}:{{{lane}}}:ready:{priority}"


def lane_epoch(lane: str) -> str:
    """Hash: what `EPOCH` is, of a lane on a Redis Cluster: each node has a history of its own. No TTL."""
    return f"{LAYOUT}:{{{lane}}}:epoch"


def load(lane: str) -> str:
    """Hash: counters and limits of a lane, for admission and gathering. No TTL."""
    return f"{LAYOUT}:{{{lane}}}:load"


def due_slot(lane: str, slot: int) -> str:
    """List of `producer:id` whose deadline falls into one slot of the wheel. TTL: deadline + a week."""
    return f"{LAYOUT}:{{{lane}}}:due:{slot}"


def manifest(lane: str, batch: str) -> str:
    """Hash: custom_id -> `tokens|line bytes|accepted_at_ms` of each request a batch still owes a reply; `#` fields are its sums.

    Claim fills it, requeue and settle empty it. TTL: 30 days, renewed by each claim.
    """
    return f"{LAYOUT}:{{{lane}}}:batch:{batch}:ids"


def inbox(producer: str, client: str) -> str:
    """Data, stream: hints that replies arrived for one client process. TTL: an hour, renewed by the client."""
    return f"{LAYOUT}:inbox:{producer}:{client}"


def batch(batch: str) -> str:
    """Control, hash: the record of a batch. TTL: none while open, `retention.closed_s` once closed."""
    return f"{LAYOUT}:batch:{batch}"


def history(batch: str) -> str:
    """Control, list: what happened to a batch, newest last, at most a hundred events. TTL: as of its record."""
    return f"{LAYOUT}:batch:{batch}:history"


def quota(deployment: str) -> str:
    """Control, hash: `batch:attempt` -> reserved tokens. One field per open attempt; no TTL."""
    return f"{LAYOUT}:quota:{deployment}"


def deployment(name: str) -> str:
    """Control, hash: what was learned of a deployment: pause, failures in a row, factors. No TTL."""
    return f"{LAYOUT}:deployment:{name}"


def region(name: str) -> str:
    """Control, hash: `files`, what the last sweep counted at a region. No TTL."""
    return f"{LAYOUT}:region:{name}"
