"""Queries by deployment, and what panels of lanes choose by."""

from typing import Final

MINE: Final = 'job=~"$job", deployment=~"$deployment"'
"""Chooses what the variables at the top say."""

LANE_MINE: Final = 'job=~"$job", lane=~"$lane"'
"""The same on the dashboard of lanes."""


def by(metric: str, *labels: str) -> str:
    """A figure of the fleet, which every worker shows."""
    return f"max by ({', '.join(labels)}) ({metric}{{{MINE}}})"


def increase(metric: str, *labels: str) -> str:
    """How often something happened in the last hour, on all workers together."""
    return f"sum by ({', '.join(labels)}) (increase({metric}{{{MINE}}}[1h]))"
