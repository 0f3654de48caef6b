"""The settings file that the chart writes is one that the worker takes, with the places that the chart mounts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from groupage import __version__
from groupage_emulator import config as emulator_config
from groupage_worker.app import HARD_END_S
from groupage_worker.cli import _parser
from groupage_worker.reload import FIXED
from groupage_worker.work import Work
from tests.helm import schema
from tests.helm.manifests import CHART, CI_VALUES, of_kind, queries, rendered
from tests.helm.mounts import loaded, workers
from tests.image.containers import MEMORY

VALUES = pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)


@VALUES
def test_the_worker_takes_the_settings(values: Path, tmp_path: Path) -> None:
    """The rendered ConfigMap passes the worker's own checks, files included, and every figure survives unrounded."""
    settings = loaded(rendered(values), tmp_path)
    given: dict[str, Any] = yaml.safe_load(values.read_text())["config"]
    for name, deployment in given["deployments"].items():
        assert settings.deployments[name].enqueued_tokens == deployment["enqueued_tokens"]
    for name, lane in given["lanes"].items():
        assert list(settings.lanes[name].deployments) == lane["deployments"]
        assert settings.lanes[name].weights == lane.get("weights", {})
    assert settings.health.host == "0.0.0.0"
    assert settings.gather.spool_dir == tmp_path / "spool"


@VALUES
def test_probes_ask_what_the_worker_answers(values: Path, tmp_path: Path) -> None:
    """Probes and metrics use the port of the settings; live and ready ask for different things."""
    manifests = rendered(values)
    settings = loaded(manifests, tmp_path)
    for _, spec in workers(manifests):
        container = spec["containers"][0]
        assert container["ports"] == [{"name": "metrics", "containerPort": settings.health.port}]
        assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": "metrics"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}


@VALUES
def test_the_grace_period_outlasts_the_drain(values: Path, tmp_path: Path) -> None:
    """Kubernetes waits longer than the worker takes at most: the drain and its hard end."""
    manifests = rendered(values)
    settings = loaded(manifests, tmp_path)
    for _, spec in workers(manifests):
        assert spec["terminationGracePeriodSeconds"] > settings.lease.drain_s + HARD_END_S


@pytest.mark.parametrize("drain_s", ["0.5", "20", "44.2", "600"])
def test_the_grace_period_follows_the_setting(drain_s: str) -> None:
    """The grace period follows lease.drain_s, fractions included."""
    manifests = rendered(CI_VALUES[0], "--set-json", f"config.lease.drain_s={drain_s}")
    for _, spec in workers(manifests):
        assert spec["terminationGracePeriodSeconds"] > float(drain_s) + HARD_END_S


@VALUES
def test_the_spool_holds_what_heavy_steps_write(values: Path, tmp_path: Path) -> None:
    """The spool volume is bounded, and holds an input file for each heavy step."""
    manifests = rendered(values)
    settings = loaded(manifests, tmp_path)
    units = {"Mi": 2**20, "Gi": 2**30}
    for _, spec in workers(manifests):
        size = next(one["emptyDir"]["sizeLimit"] for one in spec["volumes"] if one["name"] == "spool")
        assert int(size[:-2]) * units[size[-2:]] >= settings.lease.heavy_jobs * settings.gather.file_bytes_max


def test_light_and_heavy_pools() -> None:
    """One pool does everything; with heavy.enabled two do one kind each; the worker's command takes the words."""
    kinds = {}
    for values in CI_VALUES:
        for name, spec in workers(rendered(values)):
            command, *arguments = spec["containers"][0]["args"]
            assert command == "groupage-worker"
            kinds[values.stem, name] = Work(_parser().parse_args(arguments).only)
    assert kinds["values-minimal", "groupage-worker"] is Work.ALL
    assert kinds["values-production", "groupage-worker"] is Work.LIGHT
    assert kinds["values-production", "groupage-heavy"] is Work.HEAVY


def checksum(*options: str) -> str:
    """What makes pods restart when it changes."""
    pod = of_kind(rendered(CI_VALUES[0], *options), "Deployment")[0]["spec"]["template"]
    return str(pod["metadata"]["annotations"]["checksum/settings"])


FIXED_CHANGES = {
    "cluster": "config.cluster=green",
    "redis": "config.redis.socket_timeout_s=9",
    "lease": "config.lease.drain_s=9",
    "http": "config.http.connect_timeout_s=9",
    "log": "config.log.level=debug",
    "encryption": "credentials.encryption.shop=groupage-keys-shop",
    "tracing": "config.tracing.enabled=true",
}


@pytest.mark.parametrize("change", FIXED_CHANGES.values(), ids=FIXED_CHANGES)
def test_what_is_read_at_start_rolls_the_pods(change: str) -> None:
    """A change of what workers read at start only changes the pods, so that they restart."""
    assert checksum() == checksum() != checksum("--set", change)


def test_every_group_that_is_read_at_start_rolls_the_pods() -> None:
    """The chart knows every group of settings that a running worker does not take; its own `health` never changes."""
    assert {*FIXED_CHANGES, "health"} == set(FIXED)


@pytest.mark.parametrize(
    "change", ["config.lanes.chat.linger_s=7", "config.deployments.mini-east.enqueued_tokens=7000000"]
)
def test_what_workers_reload_restarts_nobody(change: str) -> None:
    """Other settings reach running workers by the mounted file, so the pods stay."""
    assert checksum() == checksum("--set", change)


@VALUES
def test_what_may_change_is_mounted_as_a_folder(values: Path) -> None:
    """Settings and secrets of workers are mounted as folders: a file mounted by subPath would never be renewed."""
    for name, spec in workers(rendered(values)):
        for mount in spec["containers"][0]["volumeMounts"]:
            assert "subPath" not in mount, (name, mount)


def test_the_emulator_takes_its_configuration(tmp_path: Path) -> None:
    """The emulator's ConfigMap is one that the emulator takes; ports, keys and names meet those of the workers."""
    manifests = rendered(CHART / "ci" / "values-emulator.yaml")
    text = next(one for one in of_kind(manifests, "ConfigMap") if "emulator.yaml" in one["data"])["data"][
        "emulator.yaml"
    ]
    file = tmp_path / "emulator.yaml"
    file.write_text(text)
    made = {region.name: region for region in emulator_config.load(file).regions}
    ports = {p["name"]: p["port"] for p in of_kind(manifests, "Service")[0]["spec"]["ports"]}
    keys = of_kind(manifests, "Secret")[0]["stringData"]
    settings = loaded(manifests, tmp_path)
    for name, region in settings.regions.items():
        assert region.endpoint == f"http://groupage-emulator:{ports[name]}"
        assert made[name].port == ports[name]
        assert made[name].keys == [keys[name]]


def test_the_schema_is_the_worker_s() -> None:
    """values.schema.json is made from the worker's settings of today; `.ci/chart --renew` renews it."""
    assert schema.TARGET.read_text() == schema.text(), "run .ci/chart --renew"


def test_versions_and_limits_agree() -> None:
    """The chart's versions are the product's, and the image is tried with the memory limit that the chart sets."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for pool in ("worker", "heavy"):
        resources = values[pool]["resources"]
        assert resources["limits"]["memory"] == resources["requests"]["memory"] == MEMORY.replace("m", "Mi")


def test_values_are_short_and_known() -> None:
    """values.yaml has under 200 lines, and each of its names is in the schema, and the other way round."""
    text = (CHART / "values.yaml").read_text()
    assert len(text.splitlines()) < 200
    assert set(yaml.safe_load(text)) == set(schema.values_schema()["properties"]) - {"global"}


def test_keys_of_producers_are_where_the_worker_looks(tmp_path: Path) -> None:
    """Each producer's Secret is mounted, read-only, as the folder of its name; others have none."""
    manifests = rendered(CHART / "ci" / "values-production.yaml")
    settings = loaded(manifests, tmp_path)
    assert settings.encryption.keys_dir is not None
    assert {path.name for path in settings.encryption.keys_dir.iterdir()} == {"shop", "catalog"}
    for _, spec in workers(manifests):
        secrets = {one["name"]: one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one}
        mounts = {one["name"]: one for one in spec["containers"][0]["volumeMounts"]}
        assert {mounts[name]["mountPath"]: secret for name, secret in secrets.items()} == {
            f"/etc/groupage/keys/{name}": f"groupage-keys-{name}" for name in ("shop", "catalog")
        }
        assert all(mounts[name]["readOnly"] for name in secrets)


def test_the_guide_s_values_work(tmp_path: Path) -> None:
    """The values in docs/kubernetes.md render, and the worker takes the settings that they make."""
    guide = (CHART.parents[1] / "docs" / "kubernetes.md").read_text()
    values = tmp_path / "values.yaml"
    values.write_text(guide.partition("# values.yaml\n")[2].partition("```")[0])
    assert set(loaded(rendered(values), tmp_path).lanes) == {"chat"}


def test_the_guide_s_query_is_the_chart_s() -> None:
    """The query for prometheus-adapter in docs/kubernetes.md is the one that the chart writes for KEDA."""
    guide = (CHART.parents[1] / "docs" / "kubernetes.md").read_text()
    theirs = (
        guide.partition("metricsQuery: >-\n")[2]
        .partition("```")[0]
        .replace("<<.LabelMatchers>>", 'namespace="llm"')
    )
    ours = next(queries(rendered(CHART / "ci" / "values-production.yaml")))
    assert "".join(theirs.split()) == "".join(ours.split())
