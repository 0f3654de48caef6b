"""`start`: a worker process from its start until it is ready, and the import of the producer's library."""

import subprocess
import sys
import time

import yaml
from benchmarks.speed import rig
from benchmarks.speed.measure import Figure, Report

WAIT_S = 60.0


def run(*, repetitions: int, scale: float) -> Report:  # noqa: ARG001 - nothing here has a size
    """Measure both."""
    report = Report("start", note="Wall time; processor time of the children beside it.")
    imports, bare, ready = [], [], []
    with rig.server() as server, rig.scratch() as folder:
        settings = folder / "worker.yaml"
        raw = rig.settings_of().model_dump(mode="json", exclude_unset=True)
        raw["regions"]["one"]["api_key"] = "none"
        raw |= {"redis": {"data_url": server.url}, "health": {"port": 0}, "log": {"format": "json"}}
        settings.write_text(yaml.safe_dump(raw))
        for _ in range(repetitions):
            bare.append(_seconds("pass"))
            imports.append(_seconds("import groupage"))
            ready.append(
                _until_ready([sys.executable, "-m", "groupage_worker", "run", "--config", str(settings)])
            )
    over = [max(0.0, one - other) * 1e3 for one, other in zip(imports, bare, strict=True)]
    report.figures.append(Figure("import groupage, over a bare interpreter", over, unit="ms", at_most=100))
    report.figures.append(Figure("worker start to ready", ready, unit="s", at_most=1.0))
    return report


def _seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def _until_ready(command: list[str]) -> float:
    started = time.perf_counter()
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    try:
        for line in worker.stdout:
            said.append(line)
            if "app.ready" in line:
                return time.perf_counter() - started
    finally:
        worker.terminate()
        worker.communicate()
    raise RuntimeError("the worker did not get ready:\n" + "".join(said))
