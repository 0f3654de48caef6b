"""`helm test`: its pod is there to be read afterwards, and gets nothing that it does not need."""

from pathlib import Path
from typing import Any

import pytest

from tests.helm.manifests import CI_VALUES, Manifest, of_kind, rendered
from tests.helm.mounts import secrets_of, workers

VALUES = pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)


def trial(values: Path) -> Manifest:
    """The pod of `helm test`."""
    (pod,) = of_kind(rendered(values), "Pod")
    return pod


@VALUES
def test_the_pod_outlives_its_success(values: Path) -> None:
    """`helm test --logs` reads the log after the hook has ended: Helm 3 would have deleted a pod with hook-succeeded."""
    annotations = trial(values)["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "test"
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"


@VALUES
def test_the_trial_gets_one_url_and_no_key(values: Path) -> None:
    """The trial finds the data server's URL where it is told, and no key of a region, while workers have them."""
    spec = trial(values)["spec"]
    (container,) = spec["containers"]
    told: dict[str, Any] = {one["name"]: one["value"] for one in container["env"]}
    assert list(secrets_of(spec, container)) == [told["TRIAL_REDIS_URL_FILE"]]
    for _, worker in workers(rendered(values)):
        assert told["TRIAL_REDIS_URL_FILE"] in secrets_of(worker, worker["containers"][0])
