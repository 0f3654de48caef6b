"""Settings that cannot work: every problem is named at once, no secret is shown, and no input crashes."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from groupage_worker.configfile import load
from groupage_worker.errors import ConfigurationError
from tests.worker_ops.test_settings import SECRET, problems_of
from tests.worker_ops.trees import REMOVED, tree, write


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"cluster": REMOVED}, ["cluster: is missing", "Identity"]),
        ({"cluster": "Not A Name"}, ["cluster = Not A Name: must be 1 to 63 characters"]),
        ({"lanes.chat.linger_s": -1}, ["lanes.chat.linger_s = -1", "greater than 0", "worker.yaml"]),
        ({"lanes.chat.linger_s": "soon"}, ["lanes.chat.linger_s = soon", "must be a number"]),
        ({"lanes.chat.deadline_s": 1e9}, ["lanes.chat.deadline_s", "at most 1209600"]),
        ({"lanes.chat.zone": "mars"}, ["lanes.chat.zone = mars", "'any', 'us' or 'eu'"]),
        ({"lanes.chat.endpoint": "/embeddings"}, ["/chat/completions", "/v1/responses"]),
        ({"lanes.chat.deployments": []}, ["lanes.chat.deployments", "at least 1 entry"]),
        ({"lanes.chat.deployments": "mini-east"}, ["lanes.chat.deployments", "must be a list"]),
        ({"lanes": {}}, ["lanes", "at least 1 entry"]),
        ({"lanes.Bad Name": {"deployments": ["mini-east"]}}, ["lanes: the name 'Bad Name'"]),
        ({"regions": []}, ["regions: must be a mapping"]),
        ({"redis": 5}, ["redis = 5: must be a group of settings"]),
        (
            {"lanes.chat.lingers": 5},
            ["lanes.chat.lingers: there is no such setting", "did you mean linger_s?"],
        ),
        ({"lane": {}}, ["lane: there is no such setting", "did you mean lanes?"]),
        ({"deployments.mini-east.region": REMOVED}, ["deployments.mini-east.region: is missing"]),
        ({"deployments.mini-east.region": "eats"}, ["no region eats", "did you mean east?"]),
        ({"deployments.mini-east.enqueued_tokens": 50}, ["enqueued_tokens = 50", "below 1000"]),
        ({"lanes.chat.deployments": ["mini-est"]}, ["no deployment mini-est", "did you mean mini-east?"]),
        ({"lanes.chat.deployments": ["mini-east", "mini-east"]}, ["lists mini-east more than once"]),
        ({"lanes.chat.zone": "us"}, ["mini-eu processes data in zone eu", "bound to us"]),
        ({"lanes.chat.zone": "eu"}, ["mini-east processes data in zone global", "bound to eu"]),
        ({"deployments.mini-east.zone": "eu"}, ["eu cannot be in eastus"]),
        ({"lanes.chat.linger_s": 600, "lanes.chat.deadline_s": 60}, ["linger_s = 600", "deadline_s = 60"]),
        ({"lanes.chat.linger_s": 600, "lanes.chat.reply_ttl_s": 60}, ["linger_s = 600", "reply_ttl_s = 60"]),
        ({"gather.file_bytes_max": 10_000}, ["request_bytes_max = 1000000", "file_bytes_max = 10000"]),
        ({"lanes.chat.open_bytes_max": 10}, ["open_bytes_max = 10", "below request_bytes_max"]),
        ({"lanes.chat.weights": {"Shop:*": 2.0}}, ["'Shop:*' cannot be a producer's name"]),
        ({"regions.east.api_version": "2024-10-21"}, ["goes only with api: azure-dated"]),
        ({"regions.east.api": "azure-dated"}, ["api_version: is missing"]),
        (
            {"regions.east.api": "azure-dated", "regions.east.api_version": "gpt-4o-2024-05-13"},
            ["must be a date such as 2024-10-21"],
        ),
        (
            {"regions.east.api": "azure-dated", "regions.east.api_version": "2023-05-15"},
            ["knows no batches", "2024-07-01-preview"],
        ),
        ({"regions.east.api_key": REMOVED}, ["regions.east: has no credential"]),
        ({"regions.east.api_key": "  "}, ["regions.east.api_key: is empty"]),
        ({"regions.east.api_key": "two words"}, ["characters that no key has"]),
        ({"regions.east.entra": True}, ["has api_key and entra; leave exactly one"]),
        ({"regions.east.endpoint": "http://contoso-east.openai.azure.com"}, ["in the clear", "https://"]),
        ({"regions.east.endpoint": "contoso-east"}, ["must be an address with its scheme"]),
        ({"regions.east.endpoint": "https://x.openai.azure.com:no"}, ["is not an address"]),
        ({"regions.east.endpoint": "https://u:p@x.openai.azure.com"}, ["must hold no user or password"]),
        ({"regions.east.endpoint": "https://x.openai.azure.com?api-version=1"}, ["before '?'"]),
        (
            {"regions.east.endpoint": "https://x.openai.azure.com/openai/deployments/mini"},
            ["bare resource without the path /openai/deployments/mini"],
        ),
        ({"regions.east.endpoint": "https://api.openai.com"}, ["is not Azure"]),
        ({"regions.east.api": "openai"}, ["is an Azure host", "azure-v1"]),
        (
            {"regions.east.api": "openai", "regions.east.endpoint": "https://h/v1/chat/completions"},
            ["path of single calls"],
        ),
        (
            {"deployments.twin": {"region": "east", "model": "mini-batch", "enqueued_tokens": 9_000_000}},
            ["deployments.twin: is the same deployment as mini-east"],
        ),
        ({"redis.data_url": "http://127.0.0.1"}, ["redis.data_url: must be one of redis://"]),
        (
            {"redis.control_url": "redis+cluster://h:6379"},
            ["redis.control_url: must be a cluster holds data only"],
        ),
        (
            {"redis.data_url_file": "/nowhere"},
            ["has data_url and data_url_file", "data_url_file: the file cannot"],
        ),
        (
            {"regions.east.api_key": REMOVED, "regions.east.api_key_file": "/nowhere"},
            ["cannot be read (No such file"],
        ),
        ({"gather.spool_dir": "/nowhere"}, ["gather.spool_dir = /nowhere: is not a folder"]),
        ({"lease.lease_s": 3}, ["lease.lease_s = 3", "redis.socket_timeout_s = 5"]),
        ({"lease.poll_delay_s": 5}, ["lease.poll_delay_s = 5", "a third"]),
        ({"lease.watchdog_s": 500}, ["lease.watchdog_s = 500", "ten times"]),
        ({"submit.file_poll_s": 1000}, ["submit.file_poll_s = 1000", "file_wait_s"]),
        ({"submit.expires_after_s": 3600}, ["submit.expires_after_s = 3600", "1209600"]),
    ],
)
def test_settings_that_cannot_work(tmp_path, changes, parts):
    """Settings that cannot work are refused with a sentence that names the place and what would be right."""
    found = problems_of(write(tmp_path, changes))
    assert all(any(part in problem for problem in found) for part in parts), found


def test_all_problems_at_once(tmp_path):
    """Wrong fields, unknown names, bad variables and broken relations are listed together, each once."""
    path = write(
        tmp_path,
        {
            "lanes.chat.linger_s": "soon",
            "lanes.other": {"deployments": ["mini-est", "mini-eu"], "zone": "us"},
            "regions.east.endpoint": "http://contoso-east.openai.azure.com",
            "deployments.mini-east.enqueued_tokens": 0,
            "typo": 1,
        },
    )
    found = problems_of(
        path, {"GROUPAGE_LEASE__LEASE_S": "2", "GROUPAGE_LOGS__LEVEL": "info", "GROUPAGE_GATHER": "{"}
    )
    starts = [
        "environment variable GROUPAGE_GATHER: must be JSON",
        "environment variable GROUPAGE_LOGS__LEVEL: there is no such setting; did you mean GROUPAGE_LOG?",
        "lanes.chat.linger_s = soon",
        "lanes.other.deployments: there is no deployment mini-est",
        "lanes.other.deployments: mini-eu processes data in zone eu",
        "regions.east.endpoint: http://",
        "deployments.mini-east.enqueued_tokens = 0",
        "typo: there is no such setting",
        "lease.lease_s = 2",
    ]
    assert len(found) == len(starts), found
    for start in starts:
        assert sum(problem.startswith(start) for problem in found) == 1, (start, found)


def test_a_broken_entry_is_not_called_unknown(tmp_path):
    """A region that is itself broken is reported as broken, not as missing by those who name it."""
    found = problems_of(write(tmp_path, {"regions.east.api": "azure-v9"}))
    assert len(found) == 1
    assert found[0].startswith("regions.east.api = azure-v9")


@pytest.mark.parametrize(
    "changes",
    [
        {"regions.east.api_key": [SECRET]},
        {"regions.east.api_kye": SECRET},
        {"regions.east.api_key": REMOVED, "regions.east.api_key_file": f"/{SECRET}"},
        {"redis.data_url": f"redis://:{SECRET}@host:notaport/0"},
        {"redis.data_url": {"url": SECRET}},
        {"regions.east.endpoint": f"https://user:{SECRET}@contoso.openai.azure.com"},
    ],
)
def test_secrets_never_show(tmp_path, changes):
    """A secret does not appear in the sentences, wherever it was put by mistake."""
    assert SECRET not in "\n".join(problems_of(write(tmp_path, changes)))


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("a.yaml", f"cluster: [{SECRET}", "line 1, column"),
        ("a.yaml", "cluster: a\ncluster: b\n", "cluster is given twice"),
        ("a.yaml", "- a\n", "must be a mapping"),
        ("a.yaml", "", "must be a mapping"),
        ("a.toml", f"cluster = {SECRET}", "it is not TOML (at line 1"),
        ("a.ini", "x", "must end in .yaml, .yml or .toml"),
    ],
)
def test_unreadable_files(tmp_path, name, text, part):
    """A file that cannot be parsed is named with its line, and none of its text."""
    path = tmp_path / name
    path.write_text(text)
    found = problems_of(path)
    assert part in found[0]
    assert SECRET not in found[0]


def test_missing_file(tmp_path):
    """A file that is not there is a problem, not a traceback."""
    assert "cannot be read (No such file" in problems_of(tmp_path / "gone.yaml")[0]


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


_values: Any = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


_paths = st.sampled_from(
    [
        *(
            "cluster",
            "redis",
            "redis.data_url",
            "regions",
            "regions.east",
            "regions.east.endpoint",
            "regions.new",
        ),
        *(
            "regions.east.api_key",
            "regions.east.api_version",
            "deployments",
            "deployments.mini-eu.region",
            "lanes",
        ),
        *(
            "lanes.chat",
            "lanes.chat.deployments",
            "lanes.chat.weights",
            "lanes.new",
            "gather",
            "lease.lease_s",
            "new",
        ),
    ],
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(path=_paths, value=_values)
def test_any_input_loads_or_is_explained(path, value):
    """Whatever stands in the file, the outcome is settings or a list of sentences, never another exception."""
    given_tree = tree()
    *groups, last = path.split(".")
    node = given_tree
    for group in groups:
        node = node.setdefault(group, {})
    node[last] = value
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "worker.yaml")
        file.write_text(yaml.safe_dump(given_tree), encoding="utf-8")
        found: list[str] = []
        try:
            load(file, {})
        except ConfigurationError as error:
            found = error.problems or ["no problem named"]
        assert all(": " in problem for problem in found)
