"""The effective settings for people: masked, one a line, with their origin."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from groupage.connect import redact
from groupage_worker.configfile import Loaded
from groupage_worker.problems import Path
from groupage_worker.settings import Settings

REDIS_URLS = ("data_url", "control_url")


def masked(settings: Settings) -> dict[str, Any]:
    """The settings as plain values; secrets are stars, Redis addresses lose user, password and query."""
    tree: dict[str, Any] = settings.model_dump(mode="json")
    for name in REDIS_URLS:
        url = getattr(settings.redis, name)
        if url is not None:
            tree["redis"][name] = redact(url.get_secret_value())
    return tree


def lines(loaded: Loaded) -> Iterator[str]:
    """One setting a line, `path = value  # origin`; then the notes."""
    rows = list(_leaves(masked(loaded.settings)))
    width = max(len(f"{'.'.join(path)} = {value}") for path, value in rows)
    # a few long values shall not push every origin off the screen
    width = min(width, 72)
    for path, value in rows:
        origin = loaded.sources.origin(path) or "default"
        yield f"{'.'.join(path)} = {value}".ljust(width) + f"  # {origin}"
    for note in loaded.notes:
        yield f"note: {note}"


def _leaves(tree: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, str]]:
    for key, value in tree.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value if isinstance(value, str) else json.dumps(value)
