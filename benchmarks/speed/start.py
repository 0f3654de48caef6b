"""`start`: a worker process from its start until it is ready, and the import of the producer's library.

The worker starts as in its image, where `rich` is not installed; here other tools bring it, and importing it takes long.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from benchmarks.speed import rig
from benchmarks.speed.measure import Figure, Report

AS_IN_THE_IMAGE = """
import sys
sys.modules["rich"] = None
from groupage_worker.__main__ import main
sys.exit(main())
"""


def run(*, repetitions: int, scale: float) -> Report:  # noqa: ARG001 - nothing here has a size
    """Measure both."""
    report = Report(
        "start", note="Processor time is of the worker alone, from its first instruction until it is ready."
    )
    imports, bare, ready, cpu = [], [], [], []
    with rig.server() as server, rig.scratch() as folder:
        settings = folder / "worker.yaml"
        raw = rig.settings_of().model_dump(mode="json", exclude_unset=True)
        raw["regions"]["one"]["api_key"] = "none"
        raw |= {"redis": {"data_url": server.url}, "health": {"port": 0}, "log": {"format": "json"}}
        settings.write_text(yaml.safe_dump(raw))
        for _ in range(repetitions):
            bare.append(_seconds("pass"))
            imports.append(_seconds("import groupage"))
            wall_s, cpu_s = _until_ready(
                [sys.executable, "-c", AS_IN_THE_IMAGE, "run", "--config", str(settings)]
            )
            ready.append(wall_s)
            cpu.append(cpu_s)
    over = [max(0.0, one - other) * 1e3 for one, other in zip(imports, bare, strict=True)]
    report.figures.append(Figure("import groupage, over a bare interpreter", over, unit="ms", at_most=100))
    report.figures.append(Figure("worker start to ready", ready, unit="s", at_most=1.0))
    report.figures.append(Figure("worker start to ready, processor time", cpu, unit="s"))
    return report


def _seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def _until_ready(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds from the start of a worker until it says that it is ready."""
    started = time.perf_counter()
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    try:
        for line in worker.stdout:
            said.append(line)
            if "app.ready" in line:
                wall_s = time.perf_counter() - started
                fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(") ")[2].split()
                return wall_s, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        worker.terminate()
        worker.communicate()
    raise RuntimeError("the worker did not get ready:\n" + "".join(said))
