"""Makes the Grafana dashboards of the chart: `python -m tools.dashboards`.

What is shown stands in `fleet`, `deployments` and `lane`, one module a reader; `grafana` knows Grafana's JSON. The
JSON is checked in, because operators install it without this tool, and a test compares the two.
"""

from typing import Final

from tools.dashboards.deployments import DEPLOYMENTS
from tools.dashboards.fleet import FLEET
from tools.dashboards.grafana import Dashboard
from tools.dashboards.lane import LANE

ALL: Final[dict[str, Dashboard]] = {"fleet": FLEET, "deployments": DEPLOYMENTS, "lane": LANE}
"""File name without its ending -> dashboard."""
