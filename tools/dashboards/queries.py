"""Queries by deployment."""

from typing import Final

MINE: Final = 'job=~"$job", deployment=~"$deployment"'
"""Chooses what the variables at the top say."""


def by(metric: str, *labels: str) -> str:
    """A figure of the fleet, which every worker shows."""
    return f"max by ({', '.join(labels)}) ({metric}{{{MINE}}})"


def increase(metric: str, *labels: str) -> str:
    """How often something happened in the last hour, on all workers together."""
    return f"sum by ({', '.join(labels)}) (increase({metric}{{{MINE}}}[1h]))"
