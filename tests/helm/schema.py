"""`python -m tests.helm.schema --write` renews helm/groupage/values.schema.json; without `--write` it prints it.

The settings under `config` are the worker's own, so the chart refuses what the worker would refuse.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from groupage.contract import PRODUCER_PATTERN
from groupage_worker.settings import Settings

CHART: Final = Path(__file__).parents[2] / "helm" / "groupage"
TARGET: Final = CHART / "values.schema.json"

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
POSITIVE: Final[Schema] = {"type": "integer", "minimum": 1}
SECONDS: Final[Schema] = {"type": "number", "exclusiveMinimum": 0}
WORDS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}
PEERS: Final[Schema] = {"type": "array", "items": {"type": "object", "minProperties": 1}}
QUANTITY: Final[Schema] = {"type": ["string", "number"], "pattern": r"^[0-9.]+([EPTGMk]i?|m)?$"}
UUID_OR_EMPTY: Final[Schema] = {
    "type": "string",
    "pattern": "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$",
}
NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
SECRET_NAME: Final[Schema] = {"type": "string", "pattern": f"^$|{NAME}"}
KEY: Final[Schema] = {"type": "string", "pattern": r"^[-._a-zA-Z0-9]+$"}
FREE: Final[Schema] = {"type": "object"}
LIST: Final[Schema] = {"type": "array"}


def closed(properties: dict[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    """An object with these names only."""
    made: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"required": list(required)} if required else {})


def optional(*words: str) -> Schema:
    """One of these words."""
    return {"enum": list(words)}


PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65_535}
PORTS: Final[Schema] = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [PORT, closed({"port": PORT, "endPort": PORT}, required=("port", "endPort"))]},
}
RESOURCES: Final[Schema] = closed(
    {name: {"type": "object", "additionalProperties": QUANTITY} for name in ("requests", "limits")}
)
SWITCH: Final[dict[str, Schema]] = {"enabled": FLAG, "labels": WORDS}
POOL: Final[dict[str, Schema]] = {
    "replicas": COUNT,
    "resources": RESOURCES,
    "autoscaling": closed({"enabled": FLAG, "minReplicas": POSITIVE, "maxReplicas": POSITIVE}),
    "nodeSelector": WORDS,
    "tolerations": LIST,
    "affinity": FREE,
    "podAnnotations": WORDS,
    "env": {"type": "array", "items": {"type": "object", "required": ["name"]}},
}

CHART_VALUES: Final[dict[str, Schema]] = {
    "global": FREE,
    "image": closed(
        {
            "repository": {"type": "string", "minLength": 1},
            "tag": TEXT,
            "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            "pullPolicy": optional("Always", "IfNotPresent", "Never"),
            "pullSecrets": {"type": "array", "items": {"type": "string", "pattern": NAME}},
        }
    ),
    "credentials": closed(
        {
            "redis": closed(
                {
                    "secret": SECRET_NAME,
                    "dataUrlKey": KEY,
                    "controlUrlKey": {"type": "string", "pattern": r"^[-._a-zA-Z0-9]*$"},
                }
            ),
            "regions": {
                "type": "object",
                "additionalProperties": closed(
                    {"secret": {"type": "string", "pattern": NAME}, "key": KEY}, required=("secret", "key")
                ),
            },
            "encryption": {
                "type": "object",
                "propertyNames": {"pattern": f"^{PRODUCER_PATTERN.pattern}$"},
                "additionalProperties": {"type": "string", "pattern": NAME},
            },
        }
    ),
    "workloadIdentity": closed({"enabled": FLAG, "clientId": UUID_OR_EMPTY, "tenantId": UUID_OR_EMPTY}),
    "serviceAccount": closed({"create": FLAG, "name": SECRET_NAME, "annotations": WORDS}),
    "worker": closed(POOL),
    "heavy": closed({"enabled": FLAG, **POOL}),
    "autoscaling": closed(
        {
            "kind": optional("hpa", "keda"),
            "oldestWaitingAgeS": SECONDS,
            "metric": {"type": "string", "pattern": "^[a-zA-Z_:][a-zA-Z0-9_:]*$"},
            "prometheusAddress": {"type": "string", "pattern": "^(https?://.+)?$"},
        }
    ),
    "spoolSize": {"type": "string", "pattern": "^([0-9]+(Mi|Gi|Ti|M|G|T))?$"},
    "podDisruptionBudget": closed(
        {
            "enabled": FLAG,
            "maxUnavailable": {"anyOf": [POSITIVE, {"type": "string", "pattern": "^[0-9]+%$"}]},
        }
    ),
    "networkPolicy": closed(
        {
            "enabled": FLAG,
            "metricsFrom": PEERS,
            "dns": PEERS,
            "redis": closed({"ports": PORTS, "to": PEERS}),
            "azure": closed({"ports": PORTS, "to": PEERS}),
            "collector": closed({"ports": PORTS, "to": PEERS}),
        }
    ),
    "podMonitor": closed({**SWITCH, "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"}}),
    "prometheusRule": closed({**SWITCH, "runbookBase": {"type": "string", "pattern": "^(https?://.*/)?$"}}),
    "dashboards": closed({**SWITCH, "annotations": WORDS}),
    "test": closed({"lane": TEXT, "timeoutS": POSITIVE}),
    "emulator": closed(
        {
            "enabled": FLAG,
            "timeScale": SECONDS,
            "regions": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$"},
                "additionalProperties": POSITIVE,
            },
            "resources": RESOURCES,
        }
    ),
}


def plain(node: Any, *, is_names: bool = False) -> Any:
    """The worker's schema without what only people read, and closed where it maps names.

    Args:
        node: A part of it.
        is_names: The keys of this part are names of settings, not words of JSON schema.
    """
    if isinstance(node, list):
        return [plain(one) for one in node]
    if not isinstance(node, dict):
        return node
    noise = set() if is_names else {"title", "default", "format", "writeOnly", "description"}
    made = {
        key: plain(value, is_names=key in {"properties", "$defs", "patternProperties"} and not is_names)
        for key, value in node.items()
        if key not in noise
    }
    if not is_names and "patternProperties" in made:
        made.setdefault("additionalProperties", False)
    return made


def values_schema() -> Schema:
    """The schema of values.yaml."""
    settings = plain(Settings.model_json_schema())
    definitions = settings.pop("$defs")
    # what is empty in values.yaml is refused by templates/_validate.tpl, with a sentence
    del settings["required"]
    settings["properties"]["cluster"]["pattern"] = "^$|" + settings["properties"]["cluster"]["pattern"]
    for name in ("regions", "deployments", "lanes"):
        del settings["properties"][name]["minProperties"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "made by python -m tests.helm.schema --write",
        **closed(CHART_VALUES | {"config": settings}),
        "$defs": definitions,
    }


def text() -> str:
    """The file."""
    return json.dumps(values_schema(), indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        TARGET.write_text(text())
    else:
        print(text(), end="")
