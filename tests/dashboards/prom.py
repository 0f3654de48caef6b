"""A real Prometheus as a child process, and its query API."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from groupage_emulator.redis_server import free_port

READY_S = 20.0
ANSWER_S = 15.0
PAUSE_S = 0.1

Series = dict[str, Any]
"""As the API gives it: `metric` with its labels, `values` or `value`."""


class PrometheusError(Exception):
    """It did not start, or refused a query; the message says why."""


class Prometheus:
    """The API of a running server.

    Args:
        url: Base of the API.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **params: str) -> Any:
        """One answer's `data`.

        Raises:
            PrometheusError: If the server refuses the question; with its reason.
        """
        query = urllib.parse.urlencode(params)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{path}: {json.load(error).get('error')}") from error

    def range(self, expr: str, *, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """Series of a query over a time."""
        found: list[Series] = self.ask(
            "query_range", query=expr, start=f"{start_s:.3f}", end=f"{end_s:.3f}", step=f"{step_s:g}"
        )["result"]
        return found

    def ready(self) -> bool:
        """Whether it answers questions; while it starts it refuses them, which is an `OSError` too."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=ANSWER_S):
                return True
        except OSError:
            return False


@contextmanager
def running_prometheus(
    binary: Path, folder: Path, *, targets: list[str], rules: Path
) -> Iterator[Prometheus]:
    """A server that scrapes once a second, until the block ends.

    Raises:
        PrometheusError: If it does not come up; with its log.
    """
    port = free_port()
    config = folder / "prometheus.yml"
    scrape = {"job_name": "groupage", "static_configs": [{"targets": targets}]}
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "2s"},
                "rule_files": [str(rules.resolve())],
                "scrape_configs": [scrape],
            }
        )
    )
    log = folder / "prometheus.log"
    command = [str(binary), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=sink, stderr=subprocess.STDOUT
        )
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        end_s = time.monotonic() + READY_S
        while not server.ready():
            if process.poll() is not None or time.monotonic() > end_s:
                raise PrometheusError(f"did not start; its log says:\n{log.read_text()[-2000:]}")
            time.sleep(PAUSE_S)
        yield server
    finally:
        process.terminate()
        process.wait(READY_S)
