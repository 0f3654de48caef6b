"""Control endpoints, configuration and the process entry."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

import groupage_emulator
from groupage_emulator import Config, ConfigError, Emulator, load
from groupage_emulator.config import decode

from .conftest import DEPLOYMENT, line


@pytest.fixture
async def control(call):
    """A client of the control port."""
    async with httpx.AsyncClient(base_url=f"{call.emulator.control_url}/_control", timeout=20) as http:
        yield http


async def test_clock_over_http(call, control):
    """A manual clock is advanced from outside, and all that was due has happened when the call returns."""
    batch_id = await call.created([line("a")])
    before = (await control.get("/clock")).json()["now_s"]
    after = (await control.post("/clock", json={"advance_s": 1000})).json()["now_s"]
    assert after - before == 1000
    assert (await call.batch(batch_id))["status"] == "completed"
    assert (await control.post("/clock", json={"scale": 5})).status_code == 400
    assert (await control.post("/clock", json={"hurry": 5})).status_code == 400


async def test_scale_over_http():
    """A scaled clock changes its speed without a jump."""
    async with Emulator(Config(time_scale=1)) as emulator, httpx.AsyncClient() as http:
        before = emulator.clock.now()
        reply = await http.post(f"{emulator.control_url}/_control/clock", json={"scale": 100})
        assert (reply.json()["scale"], emulator.clock.scale) == (100, 100)
        assert 0 <= reply.json()["now_s"] - before < 60


async def test_faults_over_http(call, control):
    """Rules are added, shown with their hits, and removed."""
    added = await control.post("/faults", json=[{"kind": "http_status", "operation": "list_files"}])
    assert added.status_code == 201
    assert (await call.get("/files")).status_code == 500
    shown = (await control.get("/faults")).json()["faults"]
    assert [(one["number"], one["hits"]) for one in shown] == [(added.json()["numbers"][0], 1)]
    bad = await control.post("/faults", json={"kind": "nope"})
    assert (bad.status_code, "unknown fault kind" in bad.json()["error"]) == (400, True)
    await control.delete(f"/faults/{shown[0]['number']}")
    assert (await call.get("/files")).status_code == 200
    await control.post("/faults", json={"kind": "reset"})
    assert (await control.delete("/faults")).json() == {"faults": []}


async def test_state_and_journal_over_http(call, control):
    """Live views see open batches and tokens; the journal's summary is there too."""
    batch_id = await call.created([line("a")])
    region = (await control.get("/state")).json()["regions"]["eastus"]
    assert [one["id"] for one in region["batches"]] == [batch_id]
    assert region["deployments"][DEPLOYMENT]["enqueued"] > 0
    await call.emulator.clock.advance(1000)
    assert (await control.get("/state")).json()["regions"]["eastus"]["statuses"]["completed"] == 1
    assert (await control.get("/journal")).json()["billed"] == 1
    assert (await control.get("/health")).json()["regions"]["eastus"]["key"] == call.region.key


async def test_regions_over_http(call, control):
    """Keys rotate, quotas change, phantoms come, and a region goes off and on."""
    change = {"keys": ["new"], "limits": {DEPLOYMENT: 10}, "phantom": {DEPLOYMENT: 3}, "release_lag_s": 9}
    assert (await control.post("/regions/eastus", json=change)).status_code == 200
    assert (await call.get("/files")).status_code == 401
    call.http.headers["api-key"] = "new"
    assert (await call.get("/files")).status_code == 200
    ledger = call.region.ledgers[DEPLOYMENT]
    assert (ledger.limit, ledger.phantom) == (10, 3)
    await control.post("/regions/eastus", json={"off": True})
    with pytest.raises(httpx.TransportError):
        await call.get("/files")
    await control.post("/regions/eastus", json={"off": False})
    assert (await call.get("/files")).status_code == 200
    assert (await control.post("/regions/mars", json={})).status_code == 404
    assert (await control.post("/regions/eastus", json={"limits": {"x": 1}})).status_code == 400
    assert (await control.post("/regions/eastus", json={"colour": 1})).status_code == 400


def test_default_yaml_is_the_default():
    """The documented example has the defaults, and is read without complaint."""
    path = Path(groupage_emulator.__file__).with_name("default.yaml")
    assert load(path) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "unknown field `colour`"),
        (
            {"regions": [{"name": "a", "timing": {"running": {}}}]},
            r"unknown field `running`.*regions\[0\].timing",
        ),
        ({"time_scale": "fast"}, r"Expected `float`, got `str` - at `\$.time_scale`"),
        ({"time_scale": 0}, r"time_scale must be above 0"),
        ({"regions": [{"name": "a"}, {"name": "a"}]}, "same name"),
        ({"faults": [{"kind": "nope"}]}, "unknown fault kind"),
    ],
)
def test_wrong_configuration_names_the_field(values, message):
    """A wrong configuration is an error that says what is wrong and where."""
    with pytest.raises(ConfigError, match=message):
        decode(values)


async def started(*arguments: str) -> asyncio.subprocess.Process:
    """The emulator as a process."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "groupage_emulator", *arguments, stdout=-1, stderr=-1
    )


async def test_process_writes_a_ready_file_and_ends_on_sigterm(tmp_path):
    """`python -m groupage_emulator --port 0 --ready-file` tells addresses and keys, and ends cleanly."""
    ready = tmp_path / "ready.json"
    process = await started("--port", "0", "--ready-file", str(ready), "--journal", str(tmp_path / "j.jsonl"))
    first = await process.stdout.readline()
    assert first == b"{\n"
    told = json.loads(ready.read_text())
    region = told["regions"]["swedencentral"]
    async with httpx.AsyncClient(headers={"api-key": region["key"]}) as http:
        assert (await http.get(f"{region['v1_url']}/files")).status_code == 200
    assert region["deployments"][0]["sku"] == "GlobalBatch"
    process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert (tmp_path / "j.jsonl").exists()


async def test_process_with_a_wrong_file(tmp_path):
    """A wrong configuration file ends the process with status 2 and one line."""
    path = tmp_path / "c.yaml"
    path.write_text("regionz: []")
    process = await started("--config", str(path))
    _, errors = await process.communicate()
    assert (process.returncode, errors.count(b"\n")) == (2, 1)
    assert b"regionz" in errors
