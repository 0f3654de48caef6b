"""`python -m tools.dashboards`: writes the JSON files of the chart anew."""

import json
import sys
from pathlib import Path

from tools.dashboards import ALL
from tools.dashboards.grafana import render

FOLDER = Path(__file__).parents[2] / "helm" / "groupage" / "files" / "dashboards"


def main() -> int:
    """Write each dashboard to its file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, dashboard in ALL.items():
        path = FOLDER / f"{name}.json"
        path.write_text(text_of(name), encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(FOLDER.parents[3])}: {dashboard.title}\n")
    return 0


def text_of(name: str) -> str:
    """The JSON of one dashboard as it stands in its file."""
    return json.dumps(render(ALL[name]), indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
