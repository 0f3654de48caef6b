"""Rendered manifests as objects; `python -m tests.helm.manifests --builtin|--queries FILE...` for `.ci/chart`."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.helm.schema import CHART

Manifest = dict[str, Any]
CI_VALUES = sorted(CHART.glob("ci/values-*.yaml"))
CUSTOM = ("monitoring.coreos.com/", "keda.sh/")
KUBE_VERSION = "1.36.0"


def helm(major: int) -> str:
    """The program of a Helm major.

    Raises:
        RuntimeError: Without `.ci/chart`, which gets it.
    """
    name = f"GROUPAGE_HELM{major}"
    if name not in os.environ:
        raise RuntimeError("these tests need Helm: run `make chart`")
    return os.environ[name]


def run(major: int, *words: str) -> "subprocess.CompletedProcess[str]":
    """A Helm command; nothing is raised if it fails."""
    return subprocess.run([helm(major), *words], capture_output=True, text=True, check=False)


@functools.cache
def template(major: int, values: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`helm template` with a values file and further options; the same call is made once."""
    kube = ("--kube-version", KUBE_VERSION)
    return run(major, "template", "groupage", str(CHART), "-n", "llm", *kube, "-f", str(values), *words)


def parse(text: str) -> list[Manifest]:
    """Every object of a rendered chart."""
    return [one for one in yaml.safe_load_all(text) if one]


def rendered(values: Path, *words: str, major: int = 4) -> list[Manifest]:
    """Every object that a values file makes."""
    done = template(major, values, *words)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [one for one in manifests if one["kind"] == kind]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Name, labels and spec of each pod that will run."""
    for one in manifests:
        name = one["metadata"]["name"]
        if one["kind"] == "Pod":
            yield name, one["metadata"]["labels"], one["spec"]
        if one["kind"] == "Deployment":
            inner = one["spec"]["template"]
            yield name, inner["metadata"]["labels"], inner["spec"]


def queries(manifests: list[Manifest]) -> Iterator[str]:
    """Queries that the chart writes for Prometheus, one a line."""
    for one in of_kind(manifests, "ScaledObject"):
        yield from (trigger["metadata"]["query"] for trigger in one["spec"]["triggers"])
    for one in of_kind(manifests, "PrometheusRule"):
        for group in one["spec"]["groups"]:
            yield from (" ".join(rule["expr"].split()) for rule in group["rules"])


def main(what: str, *files: str) -> None:
    """Print what is asked for."""
    manifests = [one for file in files for one in parse(Path(file).read_text())]
    if what == "--queries":
        print("\n".join(queries(manifests)))
        return
    builtin = [one for one in manifests if not one["apiVersion"].startswith(CUSTOM)]
    # a name may stand in one file once only
    for number, one in enumerate(builtin):
        one["metadata"]["name"] = f"n{number}-{one['metadata']['name']}"
    print(yaml.safe_dump_all(builtin, sort_keys=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
