"""`python -m tools.dashboards.types DIR`: the dashboards as TypeScript, for a check against Grafana's own types.

`tsc` then refuses an unknown field and a value of the wrong type. Grafana's types hold enums, JSON holds their values:
`Plain` says so to the compiler.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from tools.dashboards import ALL
from tools.dashboards.grafana import render

PLAIN: Final = """\
type Plain<T> =
  T extends string ? `${T}` :
  T extends number | boolean | null | undefined ? T :
  T extends (infer U)[] ? Plain<U>[] :
  T extends object ? { [K in keyof T]: Plain<T[K]> } :
  T;
"""

PANEL_TYPES: Final = {"stat": "Stat", "timeseries": "TimeSeries", "table": "Table"}
"""Type of a panel -> its name in the modules of @grafana/schema, which hold the types of its options."""


def main() -> int:
    """Write one file a dashboard into the directory."""
    folder = Path(sys.argv[1])
    for name, dashboard in ALL.items():
        (folder / f"{name}.ts").write_text(typescript(render(dashboard)), encoding="utf-8")
    return 0


def typescript(dashboard: dict[str, Any]) -> str:
    """The dashboard as a typed constant, and the options of each panel as constants of their own types."""
    lines = ["import type { Dashboard } from '@grafana/schema';"]
    for kind, word in PANEL_TYPES.items():
        path = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{word}PanelCfg_types.gen"
        lines.append(f"import type * as {kind} from '{path}';")
    lines += [PLAIN, f"export const dashboard: Plain<Dashboard> = {json.dumps(dashboard)};"]
    for panel in dashboard["panels"]:
        number, kind = panel["id"], panel["type"]
        if kind == "row":
            continue
        lines.append(f"export const options{number}: Plain<{kind}.Options> = {json.dumps(panel['options'])};")
        if kind == "timeseries":
            custom = json.dumps(panel["fieldConfig"]["defaults"]["custom"])
            lines.append(f"export const custom{number}: Plain<{kind}.FieldConfig> = {custom};")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
