"""Rules between settings: what single fields cannot know, and what keeps a worker from starting.

Functions of values, but for `surroundings`. What works but is hardly meant is in `notes`.
"""

import functools
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from redis.asyncio import Redis

from groupage.connect import connect
from groupage.contract import PRODUCER_PATTERN
from groupage.errors import InvalidRequest
from groupage_worker import endpoints
from groupage_worker.errors import ConfigurationError
from groupage_worker.problems import nearest
from groupage_worker.secretfile import read_secret
from groupage_worker.settings import EXPIRES_AFTER_S, LaneSettings, RegionSettings, Settings
from groupage_worker.zones import may_process

TOKENS_MIN = 1_000
"""A quota below one short prompt can never send anything; the smallest documented one is 30 K
(azure-batch.md 6.2, 2026-11-20)."""

LINE_OVERHEAD_BYTES = 512
"""An input line is the body and at most this: custom_id, method, url, model, braces."""

EXPIRES_AFTER_S_MAX = 2_592_000
"""Largest file expiry, 30 days (azure-batch.md 2.1, 2026-11-20)."""

_US_LOCATION = re.compile(r"us\d?|.*(east|west|central)us\d?|usgov.*|usdod.*")

Declared = Mapping[str, frozenset[str]]
"""`regions`, `deployments`, `lanes` -> every name given, also of entries that are broken themselves."""


def declared(settings: Settings) -> Declared:
    """The names of whole settings."""
    return {
        "regions": frozenset(settings.regions),
        "deployments": frozenset(settings.deployments),
        "lanes": frozenset(settings.lanes),
    }


def problems(settings: Settings, names: Declared) -> list[str]:
    """Everything that keeps these settings from working, one sentence each.

    Args:
        settings: The settings, or what is valid of them.
        names: Every name given in the input, so that a broken entry is not called unknown as well.
    """
    found: list[str] = []
    for name, region in settings.regions.items():
        found += endpoints.problems(
            f"regions.{name}", region, allow_plain=settings.http.allow_plain, hosts=settings.http.hosts
        )
    found += _deployment_problems(settings, names)
    for name, lane in settings.lanes.items():
        found += _lane_problems(f"lanes.{name}", lane, settings, names)
    found += _redis_problems(settings)
    found += _timing_problems(settings)
    return found


def _deployment_problems(settings: Settings, names: Declared) -> Iterator[str]:
    """Unknown regions, quotas too small for anything, zones that cannot be, two owners of one quota."""
    owners: dict[tuple[str, str], str] = {}
    for name, deployment in settings.deployments.items():
        here = f"deployments.{name}"
        if deployment.region not in names["regions"]:
            hint = nearest(deployment.region, names["regions"])
            yield f"{here}.region: there is no region {deployment.region}; {hint}"
        if deployment.enqueued_tokens < TOKENS_MIN:
            yield (
                f"{here}.enqueued_tokens = {deployment.enqueued_tokens}: is below {TOKENS_MIN}, so hardly any request "
                "fits; give the enqueued-token quota of the deployment in tokens, not in thousands"
            )
        region = settings.regions.get(deployment.region)
        if region is None:
            continue
        if deployment.zone == "eu" and is_us(region):
            yield f"{here}.zone: eu cannot be in {region.location}; a data zone's deployments are inside the zone"
        owner = owners.setdefault((endpoints.canonical(region.endpoint), deployment.model), name)
        if owner != name:
            yield (
                f"{here}: is the same deployment as {owner} ({deployment.model} at the same resource), so the two "
                "would spend one quota twice; keep one of them and list it in both lanes"
            )


def is_us(region: RegionSettings) -> bool:
    """Whether a region's location is one of Azure's in the United States."""
    return _US_LOCATION.fullmatch(region.location.lower().replace(" ", "")) is not None


def _lane_problems(here: str, lane: LaneSettings, settings: Settings, names: Declared) -> Iterator[str]:
    """What is wrong with one lane."""
    yield from _lane_deployment_problems(here, lane, settings, names)
    yield from _lane_limit_problems(here, lane, settings.gather.file_bytes_max)
    for producer in lane.weights:
        if not PRODUCER_PATTERN.fullmatch(producer):
            yield (
                f"{here}.weights: {producer!r} cannot be a producer's name; 1 to 31 lower-case letters, digits and "
                "'-', the first a letter or digit"
            )


def _lane_deployment_problems(
    here: str, lane: LaneSettings, settings: Settings, names: Declared
) -> Iterator[str]:
    """What is wrong with the deployments a lane lists."""
    yield from _lane_online_problems(here, lane, settings, names)
    for name in dict.fromkeys(lane.deployments):
        if lane.deployments.count(name) > 1:
            yield f"{here}.deployments: lists {name} more than once"
        deployment = settings.deployments.get(name)
        if name not in names["deployments"]:
            yield f"{here}.deployments: there is no deployment {name}; {nearest(name, names['deployments'])}"
        elif deployment is not None and deployment.kind == "online":
            yield f"{here}.deployments: {name} answers single calls; name it as {here}.online"
        elif deployment is not None and not may_process(lane.zone, deployment.zone):
            yield (
                f"{here}.deployments: {name} processes data in zone {deployment.zone}, but the lane is bound to "
                f"{lane.zone}; list only deployments of zone {lane.zone}, or set the lane's zone to any"
            )


def _lane_online_problems(
    here: str, lane: LaneSettings, settings: Settings, names: Declared
) -> Iterator[str]:
    """What is wrong with the online deployment of a lane."""
    name = lane.online
    if name is None:
        return
    deployment = settings.deployments.get(name)
    if name not in names["deployments"]:
        yield f"{here}.online: there is no deployment {name}; {nearest(name, names['deployments'])}"
    elif deployment is not None and deployment.kind != "online":
        yield f"{here}.online: {name} takes batches; give a deployment of kind online"
    elif deployment is not None and not may_process(lane.zone, deployment.zone):
        yield (
            f"{here}.online: {name} processes data in zone {deployment.zone}, but the lane is bound to {lane.zone}"
        )


def _lane_limit_problems(here: str, lane: LaneSettings, file_bytes_max: int) -> Iterator[str]:
    """Limits of one lane that defeat one another."""
    if lane.linger_s is not None and lane.linger_s > lane.deadline_s:
        yield (
            f"{here}.linger_s = {lane.linger_s:g}: is longer than deadline_s = {lane.deadline_s:g}, so requests "
            "would expire before they are sent"
        )
    if lane.linger_s is not None and lane.linger_s > lane.reply_ttl_s:
        yield (
            f"{here}.linger_s = {lane.linger_s:g}: is longer than reply_ttl_s = {lane.reply_ttl_s:g}; replies "
            "must outlive the wait for a batch by far"
        )
    if lane.request_bytes_max + LINE_OVERHEAD_BYTES > file_bytes_max:
        yield (
            f"{here}.request_bytes_max = {lane.request_bytes_max}: does not fit into gather.file_bytes_max = "
            f"{file_bytes_max}"
        )
    if lane.request_bytes_max > lane.open_bytes_max:
        yield f"{here}.open_bytes_max = {lane.open_bytes_max}: is below request_bytes_max = {lane.request_bytes_max}"


def _redis_problems(settings: Settings) -> Iterator[str]:
    """What is wrong with the Redis addresses; they hold passwords, so they are not repeated."""
    redis = settings.redis
    for role in ("data", "control"):
        url, file = getattr(redis, f"{role}_url"), getattr(redis, f"{role}_url_file")
        given = f"{role}_url" in redis.model_fields_set and url is not None
        if given and file is not None:
            yield f"redis: has {role}_url and {role}_url_file; leave one of them"
        if url is not None and file is None:
            yield from redis_url_problems(f"redis.{role}_url", url.get_secret_value())


def redis_url_problems(here: str, url: str) -> Iterator[str]:
    """What is wrong with one Redis address.

    Args:
        here: Path of the setting; `control` in it means that a cluster is refused.
        url: The address.
    """
    try:
        # makes a client without sending anything; a class of its own marks what cannot be a cluster
        connect(url, redis_class=functools.partial(Redis) if "control" in here else Redis)
    except InvalidRequest as error:
        yield f"{here}: must be {error.limit}"


def _timing_problems(settings: Settings) -> Iterator[str]:
    """Durations that defeat one another."""
    lease, redis, submit = settings.lease, settings.redis, settings.submit
    if lease.lease_s <= redis.socket_timeout_s:
        yield (
            f"lease.lease_s = {lease.lease_s:g}: must be longer than redis.socket_timeout_s = "
            f"{redis.socket_timeout_s:g}, or one slow answer loses every lease"
        )
    if lease.poll_delay_s * 3 > lease.lease_s:
        yield f"lease.poll_delay_s = {lease.poll_delay_s:g}: must be at most a third of lease_s = {lease.lease_s:g}"
    if lease.watchdog_s > 10 * lease.lease_s:
        yield (
            f"lease.watchdog_s = {lease.watchdog_s:g}: is more than ten times lease_s = {lease.lease_s:g}, so the "
            "steps of a dead worker would wait for the watchdog, not for the lease"
        )
    if submit.file_poll_s > submit.file_wait_s:
        yield (
            f"submit.file_poll_s = {submit.file_poll_s:g}: is longer than file_wait_s = {submit.file_wait_s:g}, so "
            "every file would be uploaded again unseen"
        )
    expiry = submit.expires_after_s
    is_azure = any(region.api != "openai" for region in settings.regions.values())
    if is_azure and expiry is not None and not EXPIRES_AFTER_S <= expiry <= EXPIRES_AFTER_S_MAX:
        yield (
            f"submit.expires_after_s = {expiry}: Azure takes {EXPIRES_AFTER_S} (14 days) to {EXPIRES_AFTER_S_MAX} "
            "(30 days), or null for none"
        )


def surroundings(settings: Settings) -> list[str]:
    """What the machine lacks for these settings: files, folders, libraries. Looks at the file system."""
    found: list[str] = []
    files: list[tuple[str, Path | None]] = [
        ("redis.data_url_file", settings.redis.data_url_file),
        ("redis.control_url_file", settings.redis.control_url_file),
    ]
    files += [
        (f"regions.{name}.api_key_file", region.api_key_file) for name, region in settings.regions.items()
    ]
    for place, path in files:
        if path is None:
            continue
        try:
            secret = read_secret(path, place)
        except ConfigurationError as error:
            found += error.problems
        else:
            if place.startswith("redis."):
                found += redis_url_problems(place, secret.get_secret_value())
    found += _keys_problems(settings.encryption.keys_dir)
    spool = settings.gather.spool_dir
    if spool is not None and not (spool.is_dir() and os.access(spool, os.W_OK)):
        found.append(f"gather.spool_dir = {spool}: is not a folder that this process may write to")
    if (
        any(region.entra for region in settings.regions.values())
        and importlib.util.find_spec("azure") is None
    ):
        found.append("regions: entra needs the library azure-identity; install groupage[worker,entra]")
    if settings.tracing.enabled and not _has_exporter():
        found.append("tracing.enabled: needs the OpenTelemetry SDK; install groupage[worker,otlp]")
    return found


def _keys_problems(keys_dir: Path | None) -> Iterator[str]:
    """Why bodies and replies cannot be encrypted as asked for."""
    if keys_dir is None:
        return
    if not keys_dir.is_dir():
        yield f"encryption.keys_dir = {keys_dir}: is not a folder"
    if importlib.util.find_spec("cryptography") is None:
        yield "encryption.keys_dir: needs the library cryptography; install groupage[worker,encryption]"


def _has_exporter() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        # raised for a missing parent package
        return False
