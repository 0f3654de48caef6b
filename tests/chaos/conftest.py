"""The long tests first: two processes share them, and the last one to begin must not be the longest."""

from pathlib import Path

import pytest

LONGEST_FIRST = ("test_simulation", "test_sweep", "test_processes", "test_failover")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By file, in the order above; whatever else there is takes seconds."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(Path(item.path).stem, len(ranks)))
