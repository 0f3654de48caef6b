"""What is rendered keeps the rules: Pod Security restricted, no rights, no secrets in the open, selectors that meet."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.manifests import CHART, CI_VALUES, Manifest, of_kind, parse, pods, rendered, run, template

VALUES = pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
ALLOWED_VOLUMES = {"configMap", "projected", "emptyDir", "secret"}


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector selects."""
    equal = selector.get("matchLabels", {})
    within = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in equal.items()) and all(
        labels.get(one["key"]) in one["values"] for one in within
    )


@VALUES
def test_both_helm_majors_render_the_same(values: Path) -> None:
    """Helm 3 and Helm 4 make the same objects of every values file."""
    old, new = (template(major, values) for major in (3, 4))
    assert old.returncode == new.returncode == 0, old.stderr + new.stderr

    def by_name(text: str) -> dict[tuple[str, str], Manifest]:
        return {(one["kind"], one["metadata"]["name"]): one for one in parse(text)}

    assert by_name(old.stdout) == by_name(new.stdout)


@VALUES
def test_pods_are_restricted(values: Path) -> None:
    """Every pod keeps the profile `restricted` (kubernetes.io, "Pod Security Standards", 2026-11-20) and more."""
    found = list(pods(rendered(values)))
    assert found
    for name, _, spec in found:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 10_000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= ALLOWED_VOLUMES
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            resources = container["resources"]
            assert resources["limits"]["memory"] == resources["requests"]["memory"]


@VALUES
def test_no_rights_and_no_secrets(values: Path) -> None:
    """The release has no Role, makes no Secret but the emulator's made-up keys, and passes none in the environment."""
    manifests = rendered(values)
    kinds = {one["kind"] for one in manifests}
    assert not {kind for kind in kinds if "Role" in kind}
    for secret in of_kind(manifests, "Secret"):
        assert all(value.startswith("emulator-key-") for value in secret["stringData"].values())
    for _, _, spec in pods(manifests):
        for variable in spec["containers"][0].get("env", []):
            assert "secretKeyRef" not in json.dumps(variable)


@VALUES
def test_selectors_meet_their_pods(values: Path) -> None:
    """Every policy, budget, monitor, scaler and service selects pods that exist, and only the right ones."""
    manifests = rendered(values)
    labels = {name: found for name, found, _ in pods(manifests)}
    workers = {name for name, found in labels.items() if found.get("groupage/role") == "worker"}
    deployments = {one["metadata"]["name"] for one in of_kind(manifests, "Deployment")}

    def selected(selector: dict[str, Any]) -> set[str]:
        return {name for name, found in labels.items() if matches(selector, found)}

    for one in of_kind(manifests, "Deployment"):
        assert selected(one["spec"]["selector"]) == {one["metadata"]["name"]}
    for one in of_kind(manifests, "PodDisruptionBudget"):
        assert selected(one["spec"]["selector"]) == {one["metadata"]["name"]}
    for one in of_kind(manifests, "PodMonitor"):
        assert selected(one["spec"]["selector"]) == workers
    for one in of_kind(manifests, "Service"):
        assert selected({"matchLabels": one["spec"]["selector"]}) == {one["metadata"]["name"]}
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for one in of_kind(manifests, kind):
            assert one["spec"]["scaleTargetRef"]["name"] in deployments
            target = next(
                d
                for d in of_kind(manifests, "Deployment")
                if d["metadata"]["name"] == one["metadata"]["name"]
            )
            assert "replicas" not in target["spec"], "the scaler owns the number of replicas"
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "NetworkPolicy")}
    if policies:
        assert selected(policies["groupage-deny"]["podSelector"]) == set(labels)
        assert not {"ingress", "egress"} & policies["groupage-deny"].keys()
        assert selected(policies["groupage-worker"]["podSelector"]) == workers | {"groupage-trial"}


@VALUES
def test_spans_may_leave_only_where_workers_send_them(values: Path) -> None:
    """The way to a collector is open exactly if tracing is on, and only to the peers that are named."""
    given = yaml.safe_load(values.read_text())
    is_on = given["config"].get("tracing", {}).get("enabled", False)
    peers = given.get("networkPolicy", {}).get("collector", {}).get("to")
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered(values), "NetworkPolicy")}
    if policies:
        ways = [
            way
            for way in policies["groupage-worker"]["egress"]
            if {"port": 4318, "protocol": "TCP"} in way.get("ports", [])
        ]
        assert [way.get("to") for way in ways] == ([peers] if is_on else [])


@pytest.mark.parametrize("place", ["redis", "azure"])
def test_ports_may_be_ranges(place: str) -> None:
    """A range of ports, as a cluster on Azure has them, opens all of them beside the single ones."""
    ports = f'networkPolicy.{place}.ports=[10000, {{"port": 8500, "endPort": 8599}}]'
    policies = of_kind(rendered(CHART / "ci" / "values-minimal.yaml", "--set-json", ports), "NetworkPolicy")
    egress = next(one for one in policies if one["metadata"]["name"] == "groupage-worker")["spec"]["egress"]
    assert [
        {"port": 10_000, "protocol": "TCP"},
        {"port": 8_500, "endPort": 8_599, "protocol": "TCP"},
    ] in [way["ports"] for way in egress]


@VALUES
def test_a_node_that_is_drained_takes_one_worker_at_a_time(values: Path) -> None:
    """Each pool has a budget of one disrupted pod, unless it is switched off, and its pods spread over nodes and zones."""
    manifests = rendered(values)
    pools = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["topologySpreadConstraints"]
        for one in of_kind(manifests, "Deployment")
        if one["spec"]["template"]["metadata"]["labels"].get("groupage/role") == "worker"
    }
    budgets = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "PodDisruptionBudget")}
    given = yaml.safe_load(values.read_text()).get("podDisruptionBudget", {})
    assert set(budgets) == (set(pools) if given.get("enabled", True) else set())
    assert {spec["maxUnavailable"] for spec in budgets.values()} <= {1}
    for spread in pools.values():
        assert {one["topologyKey"] for one in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }


def test_alerts_and_dashboards_arrive_whole() -> None:
    """The rules object holds every group of files/alerts.yaml, and each dashboard file is in a ConfigMap as it is."""
    manifests = rendered(CHART / "ci" / "values-production.yaml")
    rules = of_kind(manifests, "PrometheusRule")[0]["spec"]
    base = "https://git.example.net/groupage/"
    expected = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    for group in expected["groups"]:
        for rule in group["rules"]:
            if "annotations" in rule:
                rule["annotations"]["runbook_url"] = base + rule["annotations"]["runbook_url"]
    assert rules == expected
    files = {
        f"groupage-{path.name}": json.loads(path.read_text())
        for path in (CHART / "files" / "dashboards").iterdir()
    }
    maps = [
        one for one in of_kind(manifests, "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"]
    ]
    assert {name: json.loads(text) for one in maps for name, text in one["data"].items()} == files


def test_workload_identity() -> None:
    """With workload identity, worker pods carry the label and the account the client id; the trial needs neither."""
    manifests = rendered(CHART / "ci" / "values-production.yaml")
    account = of_kind(manifests, "ServiceAccount")[0]
    assert account["metadata"]["annotations"]["azure.workload.identity/client-id"]
    assert account["automountServiceAccountToken"] is False
    for name, labels, _ in pods(manifests):
        assert ("azure.workload.identity/use" in labels) == (labels["groupage/role"] == "worker"), name


def test_notes_tell_three_steps() -> None:
    """NOTES.txt tells the next three steps and how to call the tool, with the names of this release."""
    values = CHART / "ci" / "values-emulator.yaml"
    done = run(4, "install", "blue", str(CHART), "-n", "llm", "--dry-run=client", "-f", str(values))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    worker = "deployment/blue-groupage-worker"
    for words in (
        "1. ",
        "2. ",
        "3. ",
        worker,
        "helm -n llm test blue",
        f"{worker} -- groupage status",
        "made up",
    ):
        assert words in notes


def test_long_release_names_stay_within_limits() -> None:
    """The longest release name that Helm takes makes no name longer than 63 characters, which Services allow."""
    done = run(
        *(4, "template", "r" * 53, str(CHART), "--kube-version", "1.36.0"),
        *("-f", str(CHART / "ci" / "values-emulator.yaml"), "--set", "dashboards.enabled=true"),
    )
    assert done.returncode == 0, done.stderr
    for one in parse(done.stdout):
        if one["kind"] != "ConfigMap":
            assert len(one["metadata"]["name"]) <= 63
