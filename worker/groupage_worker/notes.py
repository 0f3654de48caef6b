"""What works in the settings but is hardly meant: warnings at start, and in `settings` and `check`."""

import shutil
import tempfile
from collections.abc import Iterator
from urllib.parse import urlsplit

from groupage_worker import endpoints
from groupage_worker.crosscheck import is_us
from groupage_worker.settings import Settings

BYTES_PER_TOKEN = 4
"""Rule of thumb for the notes only; `quota` has the real estimate."""

GRACE_S = 30.0
"""Kubernetes kills a pod 30 s after SIGTERM unless told otherwise (kubernetes.io, "Pod lifecycle", 2026-11-20)."""


def notes(settings: Settings) -> list[str]:
    """What works but is hardly meant, one sentence each. Looks at the free disk space."""
    found: list[str] = []
    for name, region in settings.regions.items():
        found += endpoints.notes(f"regions.{name}", region)
    return [*found, *_name_notes(settings), *_size_notes(settings), *_time_notes(settings)]


def _name_notes(settings: Settings) -> Iterator[str]:
    """Entries that nobody uses, prices that give no cost, zones that look wrong."""
    used = {name for lane in settings.lanes.values() for name in (*lane.deployments, lane.online)}
    regions = {deployment.region for deployment in settings.deployments.values()}
    for name in settings.regions.keys() - regions:
        yield f"regions.{name}: no deployment is in it"
    for name, deployment in settings.deployments.items():
        if name not in used:
            yield f"deployments.{name}: no lane lists it, so its quota stays unused"
        if (deployment.input_usd is None) != (deployment.output_usd is None):
            yield f"deployments.{name}: has one price of two; costs are counted only with input_usd and output_usd"
        region = settings.regions[deployment.region]
        if deployment.zone == "us" and region.api != "openai" and not is_us(region):
            yield f"deployments.{name}.zone: us is not where {region.location} is"


def _size_notes(settings: Settings) -> Iterator[str]:
    """Sizes that lead to refusals or to a full disk."""
    for name, lane in settings.lanes.items():
        quota = max(settings.deployments[deployment].enqueued_tokens for deployment in lane.deployments)
        needed = lane.request_bytes_max // BYTES_PER_TOKEN
        if quota < needed:
            yield (
                f"lanes.{name}.request_bytes_max: a request of that size has about {needed} tokens, more than the "
                f"largest quota of the lane, {quota}; such requests are refused"
            )
        if lane.producer_requests_max > lane.open_requests_max:
            yield f"lanes.{name}.producer_requests_max: is above open_requests_max, so it bounds nothing"
    needed = settings.lease.heavy_jobs * settings.gather.file_bytes_max
    free = shutil.disk_usage(settings.gather.spool_dir or tempfile.gettempdir()).free
    if free < needed:
        yield (
            f"gather.spool_dir: has {free} bytes free; lease.heavy_jobs files of gather.file_bytes_max need {needed}, "
            "so uploads will wait for one another"
        )


def _time_notes(settings: Settings) -> Iterator[str]:
    """Durations that work but cost something."""
    if settings.submit.expires_after_s is None:
        yield (
            "submit.expires_after_s: null lets a resource hold at most "
            f"{endpoints.FILES_WITHOUT_EXPIRY_MAX} input files, 10,000 with an expiry"
        )
    is_remote = any(
        not endpoints.is_loopback(urlsplit(one.endpoint).hostname) for one in settings.regions.values()
    )
    if settings.track.poll_s < 60 and is_remote:
        yield f"track.poll_s = {settings.track.poll_s:g}: the service asks for 60 s or more between status calls"
    if settings.lease.drain_s > GRACE_S - 5:
        yield (
            f"lease.drain_s = {settings.lease.drain_s:g}: Kubernetes kills a pod {GRACE_S:g} s after SIGTERM unless "
            "terminationGracePeriodSeconds is longer"
        )
    for name, lane in settings.lanes.items():
        if lane.linger_s is not None and settings.gather.tick_s > lane.linger_s:
            yield f"lanes.{name}.linger_s = {lane.linger_s:g}: is shorter than gather.tick_s, so it cannot be kept"
