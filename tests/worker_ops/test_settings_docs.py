"""docs/configuration.md: complete, up to date, and its examples work."""

import json
import re
from pathlib import Path

import pytest

from groupage_worker.cli import reference
from groupage_worker.configfile import load
from groupage_worker.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_table_is_up_to_date():
    """The page holds exactly what `groupage-worker settings --table` prints."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- settings:begin")
    table = rest.partition("-->\n")[2].partition("<!-- settings:end -->")[0]
    assert table.strip() == reference.table().strip()


def test_every_setting_is_described():
    """Each row of the table has a meaning."""
    rows = [line for line in reference.table().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert not [row for row in rows if row.endswith(("|  |", "| None |"))]


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_work(tmp_path, text):
    """Each example of the page loads without a problem."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in set(re.findall(r"/run/secrets/([\w-]+)", text)):
        (secrets / name).write_text("redis://h:1/0" if "redis" in name else "key")
    path = tmp_path / "worker.yaml"
    path.write_text(text.replace("/run/secrets", str(secrets)))
    assert load(path, {}).cluster == "blue"


def test_the_schema_is_complete():
    """The JSON schema names every group and refuses unknown names."""
    schema = json.loads(json.dumps(Settings.model_json_schema()))
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["$defs"]["LaneSettings"]["additionalProperties"] is False
