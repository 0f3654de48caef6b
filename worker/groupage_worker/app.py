"""The composition root: builds every part once, runs it, and takes it down in order."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator

import structlog
from arq.connections import ArqRedis
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from groupage.connect import connect
from groupage.contract import LaneInfo
from groupage_worker import serverinfo
from groupage_worker.azure.client import AzureClient
from groupage_worker.clock import SystemClock
from groupage_worker.errors import ConfigurationError
from groupage_worker.fleet import LeasedWorker, Waker, Watchdog, dumps, make_worker, serve
from groupage_worker.health import HealthServer, LoopWatch
from groupage_worker.metrics import FleetCollector, Metrics
from groupage_worker.pipeline import Pipeline
from groupage_worker.quota import usable_tokens
from groupage_worker.settings import Settings
from groupage_worker.stages.context import Context
from groupage_worker.store import BatchStore, RequestStore

log = structlog.get_logger("app")

CLOCK_EVERY_S = 60.0
SNAPSHOT_EVERY_S = 5.0
