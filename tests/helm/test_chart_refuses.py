"""Values that cannot work are refused by both Helm majors, with the place, and with what would be right."""

from pathlib import Path

import pytest

from tests.helm.manifests import CHART, template

MINIMAL = CHART / "ci" / "values-minimal.yaml"
MAJORS = (3, 4)

TYPOS = [
    ("worker.replicaz=3", ["worker", "replicaz"]),
    ("heavyy.enabled=true", ["heavyy"]),
    ("config.lanes.chat.lingers_s=3", ["chat", "lingers_s"]),
    ("config.regions.east.endpont=x", ["east", "endpont"]),
    ("config.gather.slice=3", ["gather", "slice"]),
    ("networkPolicy.redis.port=3", ["redis", "port"]),
    ("credentials.regions.east.name=x", ["east", "name"]),
]
WRONG = [
    ("worker.replicas=two", ["replicas", "string"]),
    ("worker.replicas=-1", ["replicas"]),
    ("config.gather.slices=65", ["slices", "64"]),
    ("config.lanes.chat.zone=mars", ["zone"]),
    ("config.cluster=Blue", ["cluster"]),
    ("credentials.encryption.Shop=keys", ["Shop"]),
    ("image.digest=latest", ["digest"]),
    ("image.pullPolicy=Sometimes", ["pullPolicy"]),
    ("autoscaling.kind=vpa", ["kind"]),
    ("spoolSize=2 gigabytes", ["spoolSize"]),
    ("workloadIdentity.clientId=mine", ["clientId"]),
    ("networkPolicy.azure.ports={70000}", ["ports"]),
    ("networkPolicy.redis.ports[0].port=8500", ["ports"]),
    ("networkPolicy.redis.ports[0].port=8500,networkPolicy.redis.ports[0].endport=8599", ["ports"]),
    ("emulator.regions.East_US=5", ["East_US"]),
    ("prometheusRule.runbookBase=docs", ["runbookBase"]),
    ("podMonitor.interval=often", ["interval"]),
]
RULES = [
    ("config.cluster=", ["config.cluster is empty"]),
    ("credentials.redis.secret=", ["credentials.redis.secret is empty", "Redis URL"]),
    ("config.redis.data_url=redis://canary@host", ["config.redis.data_url", "credentials.redis"]),
    ("config.redis.control_url_file=/x", ["config.redis.control_url_file", "credentials.redis"]),
    ("config.regions.east.api_key=canary", ["config.regions.east.api_key", "credentials.regions.east"]),
    ("config.regions.east.api_key_file=/x", ["config.regions.east.api_key_file"]),
    ("config.regions.east.entra=true", ["config.regions.east.entra", "leave one"]),
    ("credentials.regions.west.secret=s,credentials.regions.west.key=k", ["no such region", "(east)"]),
    (
        "config.regions.west.endpoint=https://w.openai.azure.com,config.regions.west.location=westus",
        ["config.regions.west has no credential", "entra: true"],
    ),
    ("config.encryption.keys_dir=/x", ["config.encryption.keys_dir", "credentials.encryption"]),
    ("config.gather.spool_dir=/x", ["config.gather.spool_dir", "spoolSize"]),
    ("config.log.format=console", ["config.log.format"]),
    ("config.health.port=80", ["config.health"]),
    ("config.deployments.mini-east.region=est", ["config.deployments.mini-east.region = est", "(east)"]),
    ("config.lanes.chat.deployments[0]=mini", ["no deployment mini", "(mini-east)"]),
    (
        "networkPolicy.redis.ports[0].port=8599,networkPolicy.redis.ports[0].endPort=8500",
        ["networkPolicy.redis.ports", "from 8599 to 8500"],
    ),
    ("test.lane=chart", ["test.lane = chart", "(chat)"]),
    ("worker.autoscaling.minReplicas=11", ["worker.autoscaling.minReplicas = 11", "maxReplicas = 10"]),
    ("worker.autoscaling.enabled=true,autoscaling.kind=keda", ["autoscaling.prometheusAddress"]),
    ("heavy.autoscaling.enabled=true", ["heavy.autoscaling.enabled", "heavy.enabled"]),
    ("prometheusRule.enabled=true", ["prometheusRule.runbookBase is empty", "docs/operations.md"]),
    ("serviceAccount.create=false", ["serviceAccount.name is empty", "serviceAccount.create is false"]),
    ("workloadIdentity.enabled=true", ["workloadIdentity.clientId is empty", "UUID"]),
]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize(("change", "words"), [*TYPOS, *WRONG, *RULES], ids=lambda v: str(v)[:40])
def test_wrong_values_are_refused(major: int, change: str, words: list[str]) -> None:
    """Each typo, wrong value and broken rule ends the command, names its place, and never repeats a secret."""
    done = template(major, MINIMAL, "--set", change)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr
    assert "canary" not in done.stderr + done.stdout


@pytest.mark.parametrize("major", MAJORS)
def test_an_installation_without_values_is_told_what_is_missing(major: int, tmp_path: Path) -> None:
    """Without any values every missing one is named at once, each with what to write."""
    empty = tmp_path / "empty.yaml"
    empty.write_text("{}")
    done = template(major, empty)
    assert done.returncode != 0
    for name in (
        "config.cluster",
        "config.regions",
        "config.deployments",
        "config.lanes",
        "credentials.redis",
    ):
        assert name in done.stderr


@pytest.mark.parametrize("major", MAJORS)
def test_old_kubernetes_is_refused(major: int) -> None:
    """A cluster older than what the renders are checked against is refused with both versions."""
    done = template(major, MINIMAL, "--kube-version", "1.29.0")
    assert done.returncode != 0
    assert "1.30" in done.stderr
    assert "1.29" in done.stderr
