"""Settings as a file would give them, with one detail changed."""

import copy
from typing import Any

import yaml

BASE: dict[str, Any] = {
    "cluster": "blue",
    "redis": {"data_url": "redis://127.0.0.1:6379/0"},
    "regions": {
        "east": {
            "endpoint": "https://contoso-east.openai.azure.com",
            "location": "eastus",
            "api_key": "key-east",
        },
        "sweden": {
            "endpoint": "https://contoso-sweden.openai.azure.com",
            "location": "swedencentral",
            "api_key": "key-sweden",
        },
    },
    "deployments": {
        "mini-east": {"region": "east", "model": "mini-batch", "enqueued_tokens": 5_000_000},
        "mini-eu": {"region": "sweden", "model": "mini-batch", "enqueued_tokens": 5_000_000, "zone": "eu"},
    },
    "lanes": {"chat": {"deployments": ["mini-east", "mini-eu"]}},
}

REMOVED = object()


def tree(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """`BASE` with the values at dotted paths replaced, or taken away by `REMOVED`."""
    result = copy.deepcopy(BASE)
    for path, value in (changes or {}).items():
        *groups, last = path.split(".")
        node = result
        for group in groups:
            node = node.setdefault(group, {})
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value
    return result


def write(folder: Any, changes: dict[str, Any] | None = None) -> Any:
    """Write such settings into a YAML file and return its path."""
    path = folder / "worker.yaml"
    path.write_text(yaml.safe_dump(tree(changes)), encoding="utf-8")
    return path
