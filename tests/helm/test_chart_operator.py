"""What runbooks tell a person to type works in a pod of the chart, and beside the cluster with the chart's settings."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helm.manifests import CHART, rendered
from tests.helm.mounts import environment, mounted, settings_text

PRODUCTION = CHART / "ci" / "values-production.yaml"
DOCS = CHART.parents[1] / "docs"


async def groupage(environment: dict[str, str], *words: str) -> Any:
    """What `groupage WORDS --json` says with these variables and no others of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GROUPAGE_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "groupage_worker.operator", *words, "--json"],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_the_tool_runs_in_a_pod(redis_url: str, tmp_path: Path) -> None:
    """`groupage` finds the settings by the container's own environment, so `kubectl exec ... -- groupage status` works."""
    manifests = rendered(PRODUCTION)
    mounted(manifests, tmp_path, url=redis_url)
    found = await groupage(environment(manifests, tmp_path), "status", "--once")
    assert set(found["lanes"]) == {"chat", "eu-answers"}


async def test_the_tool_runs_beside_the_cluster(redis_url: str, tmp_path: Path) -> None:
    """The recipe of docs/kubernetes.md makes, of the chart's ConfigMap, settings that the tool takes as a user of its own."""
    guide = (DOCS / "kubernetes.md").read_text()
    sed = next(line.partition("sed -E ")[2] for line in guide.splitlines() if "sed -E " in line)
    made = subprocess.run(
        ["bash", "-c", f"sed -E {sed.partition(' >')[0]}"],
        input=settings_text(rendered(PRODUCTION)),
        capture_output=True,
        text=True,
        check=True,
    )
    config, secret = tmp_path / "fleet.yaml", tmp_path / "operator-url"
    config.write_text(made.stdout)
    secret.write_text(redis_url)
    variables = {
        "GROUPAGE_CONFIG": str(config),
        "GROUPAGE_REDIS__DATA_URL_FILE": str(secret),
        "GROUPAGE_REDIS__CONTROL_URL_FILE": str(secret),
    }
    assert all(name in guide for name in variables)
    found = await groupage(variables, "drain", "mini-eu", "--reason", "a trial", "--yes")
    assert found["state"] == "drained"
