"""What the tests of metrics share."""

import pytest
from prometheus_client import CollectorRegistry

from groupage_worker.metrics import Metrics


@pytest.fixture
def metrics():
    """Metrics of a registry of their own."""
    return Metrics(CollectorRegistry())
