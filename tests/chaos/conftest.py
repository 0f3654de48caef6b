"""The long tests first, those that mostly wait before all: two processes share them, and nothing long may begin last."""

from pathlib import Path

import pytest

LONGEST_FIRST = ("test_failover", "test_processes", "test_simulation", "test_sweep")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By file, in the order above; whatever else there is takes seconds."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(Path(item.path).stem, len(ranks)))
