"""A worker's pod on this machine: what the chart mounts lies below a folder, and the settings name it there."""

from collections.abc import Iterator
from pathlib import Path

from groupage_worker import configfile
from groupage_worker.settings import Settings
from tests.helm.manifests import Manifest, of_kind, pods

URL = "redis://127.0.0.1:6379/0"
ROOTS = ("/etc/groupage/", "/spool")


def workers(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Name and spec of each pod that is a worker."""
    return [(name, spec) for name, labels, spec in pods(manifests) if labels.get("groupage/role") == "worker"]


def secrets_of(spec: Manifest, container: Manifest) -> Iterator[str]:
    """Paths of the secrets that a container finds, but for keys of producers, whose names nobody knows."""
    volumes = {one["name"]: one for one in spec["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        for secret in [*sources, volume.get("secret", {})]:
            yield from (f"{mount['mountPath']}/{item['path']}" for item in secret.get("items", []))


def settings_text(manifests: list[Manifest]) -> str:
    """The settings file that the chart writes."""
    maps = of_kind(manifests, "ConfigMap")
    return str(next(one for one in maps if "worker.yaml" in one["data"])["data"]["worker.yaml"])


def mounted(manifests: list[Manifest], folder: Path, *, url: str = URL) -> Path:
    """Mount what the chart mounts below a folder; returns the settings file.

    Args:
        manifests: The rendered chart.
        folder: Stands for `/`.
        url: What the mounted URLs of Redis say.
    """
    _, spec = workers(manifests)[0]
    volumes = {one["name"]: one for one in spec["volumes"]}
    container, text = spec["containers"][0], settings_text(manifests)
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "projected" not in volume:
            (folder / mount["mountPath"].lstrip("/")).mkdir(parents=True)
    for path in secrets_of(spec, container):
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(url if path.endswith("url") else "a-key")
    for root in ROOTS:
        text = text.replace(f": {root}", f": {folder}{root}")
    file = folder / "etc/groupage/settings/worker.yaml"
    file.write_text(text)
    return file


def loaded(manifests: list[Manifest], folder: Path) -> Settings:
    """Mount what the chart mounts below a folder, and read the settings there with the worker's own code."""
    return configfile.load(mounted(manifests, folder), {})


def environment(manifests: list[Manifest], folder: Path) -> dict[str, str]:
    """The variables of a worker's container, with the places of `mounted`."""
    _, spec = workers(manifests)[0]
    found = {one["name"]: str(one["value"]) for one in spec["containers"][0].get("env", [])}
    return {name: f"{folder}{value}" if value.startswith(ROOTS) else value for name, value in found.items()}
