"""The command `groupage`, as a process against a real server, with a fleet of this process behind it."""

import json
from pathlib import Path

import pytest
from redis.asyncio import Redis

from groupage import keys
from groupage.contract import Status
from groupage.encryption import MARK
from groupage_worker.models import Move
from groupage_worker.operator import main
from groupage_worker.states import BatchState
from tests.cli.tool import Tool, write_settings
from tests.support.fleet import LANE, PRODUCER, Fleet

CANARY = "canary-prompt"

COMMANDS = [
    *(
        ["status"],
        ["quota"],
        ["batches"],
        ["batch"],
        ["requests"],
        ["request"],
        ["cancel"],
        ["drain"],
        ["resume"],
    ),
    *(["dead"], ["dead", "list"], ["dead", "retry"], ["dead", "drop"], ["submit"], ["collect"], ["acl"]),
]


async def quarantine(fleet: Fleet) -> str:
    """A batch in quarantine; returns its id."""
    await fleet.submit(3)

    async def submitted() -> bool:
        return BatchState.SUBMITTED in await fleet.states()

    await fleet.run_until(submitted)
    (batch,) = await fleet.open_batches()
    begun = await fleet.batches.begin(batch.id)
    assert begun
    move = Move(
        state=BatchState.QUARANTINED, after_s=3_600, fields={"last_error": "brand_new"}, reason="brand_new"
    )
    await fleet.batches.commit(begun, move)
    return batch.id


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of each command says what it does, what each argument means, and where settings come from."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "GROUPAGE_CONFIG" in text
    for line in text.splitlines():
        if line.startswith("  --") and not line[2:].strip().count(" "):
            assert text.splitlines()[text.splitlines().index(line) + 1].startswith("      "), (
                f"{line} is not explained"
            )


async def test_status_tells_lanes_deployments_and_batches(fleet: Fleet, tool: Tool) -> None:
    """One look has every lane, deployment and state with ages, as JSON and for people."""
    await fleet.submit(4)
    seen = (await tool("status", "--json")).data
    assert seen["lanes"][LANE]["waiting_requests"] == 4
    assert set(seen["deployments"]) == set(fleet.settings.deployments)
    assert seen["fleet"]["is_frozen"] is False

    async def submitted() -> bool:
        return BatchState.SUBMITTED in await fleet.states()

    await fleet.run_until(submitted)
    seen = (await tool("status", "--json")).data
    assert seen["batches"]["submitted"]["requests"] == 4
    assert sum(one["reserved_tokens"] for one in seen["deployments"].values()) > 0
    text = (await tool("status")).out
    assert "LANE" in text
    assert "submitted" in text


@pytest.mark.parametrize("key", [keys.EPOCH, keys.lane_epoch(LANE)])
async def test_status_tells_of_a_freeze(fleet: Fleet, tool: Tool, redis: "Redis[bytes]", key: str) -> None:
    """Whichever history froze the fleet, the server's or a lane's on a cluster, status says so, and why."""
    await redis.hset(key, mapping={"frozen_at_ms": 1, "number": 2**50, "reason": "went_back"})
    seen = (await tool("status", "--json")).data["fleet"]
    assert (seen["is_frozen"], seen["frozen_reason"], seen["epoch"]) == (True, "went_back", 2**50)
    assert "FROZEN (went_back)" in (await tool("status")).out


async def test_a_batch_has_its_history(fleet: Fleet, tool: Tool) -> None:
    """`batches` lists what is open, `batch` tells its life from the record and the history, `--closed` what was."""
    await fleet.submit(2)
    await fleet.settle_all()
    (listed,) = (await tool("batches", "--json")).data
    one = (await tool("batch", listed["id"], "--json")).data
    assert [event["state"] for event in one["history"]][:3] == ["sealed", "uploading", "uploaded"]
    assert one["owed_requests"] == 0
    assert "cleaning" in (await tool("batch", listed["id"])).out
    await fleet.close_all()
    assert (await tool("batches", "--json")).data == []
    (closed,) = (await tool("batches", "--closed", "--json")).data
    assert closed["id"] == listed["id"]
    assert (await tool("batches", "--state", "submitted")).out == "(none)\n"


async def test_bodies_are_shown_only_if_asked_and_allowed(
    fleet: Fleet, tool: Tool, redis_url: str, tmp_path: Path
) -> None:
    """No list and no look shows a body; `--body` needs the setting as well."""
    (name,) = await fleet.submit(1, text=CANARY)
    words = ("request", name, "--producer", PRODUCER)
    for call in (("requests",), words, ("requests", "--json"), (*words, "--json"), ("status", "--json")):
        answer = await tool(*call)
        assert answer.status == 0, answer.err
        assert CANARY not in answer.out + answer.err
    refused = await tool(*words, "--body")
    assert refused.status == 2
    assert "operator.show_bodies" in refused.err
    assert CANARY not in refused.out + refused.err
    allowed = Tool(write_settings(tmp_path, fleet.settings, redis_url, operator={"show_bodies": True}))
    assert CANARY in (await allowed(*words, "--body", "--json")).data["body"]
    assert CANARY not in (await allowed(*words)).out
    (sealed,) = await fleet.submit(1, body=MARK + b"...")
    answer = await allowed("request", sealed, "--producer", PRODUCER, "--body")
    assert answer.status == 2
    assert "it is encrypted" in answer.err


async def test_a_request_is_followed_to_its_reply(fleet: Fleet, tool: Tool) -> None:
    """`request` tells waiting, batched with its batch, and settled."""
    (name,) = await fleet.submit(1)
    words = ("request", name, "--producer", PRODUCER, "--json")
    assert (await tool(*words)).data["state"] == "waiting"

    async def submitted() -> bool:
        return BatchState.SUBMITTED in await fleet.states()

    await fleet.run_until(submitted)
    found = (await tool(*words)).data
    assert (found["state"], found["batch"]) == ("batched", (await fleet.open_batches())[0].id)
    await fleet.settle_all()
    assert (await tool(*words)).data["reply_status"] == "succeeded"
    unknown = await tool("request", "nobody", "--producer", PRODUCER)
    assert unknown.status == 2
    assert "no request or reply 'nobody'" in unknown.err


async def test_drain_names_what_changes_and_asks(fleet: Fleet, tool: Tool) -> None:
    """Without a terminal and without --yes nothing changes; a drained deployment shows its reason; resume ends it."""
    name = next(iter(fleet.settings.deployments))
    words = ("drain", name, "--reason", "moving house")
    asked = await tool(*words)
    assert asked.status == 2
    assert f"{name} gets no new batch" in asked.err
    assert "--yes" in asked.err
    assert not await fleet.redis.exists(keys.deployment(name))
    assert (await tool(*words, "--yes", "--json")).data["state"] == "drained"
    row = (await tool("quota", name, "--json")).data[name]
    assert (row["state"], row["reason"]) == ("drained", "moving house")
    assert "moving house" in (await tool("status", "--once")).out
    assert (await tool("resume", name, "--yes", "--json")).data["changed"] is True
    assert (await tool("resume", name, "--yes", "--json")).data["changed"] is False


async def test_drain_warns_of_the_last_one(fleet: Fleet, tool: Tool) -> None:
    """Who drains the last deployment of a lane is told that its requests wait."""
    *names, last = fleet.settings.deployments
    for name in names:
        assert "requests wait" not in (await tool("drain", name, "--reason", "x", "--yes")).err
    assert (
        f"Lane {LANE} then has no deployment left"
        in (await tool("drain", last, "--reason", "x", "--yes")).err
    )


async def test_dead_batches_are_decided(fleet: Fleet, tool: Tool) -> None:
    """`dead list` shows what is quarantined; retry and drop name it, and the fleet does it."""
    first = await quarantine(fleet)
    (listed,) = (await tool("dead", "list", "--json")).data
    assert (listed["id"], listed["last_error"]) == (first, "brand_new")
    answer = await tool("dead", "retry", first, "--yes")
    assert f"The 3 requests of {first}" in answer.err
    await fleet.settle_all()
    assert {reply.status for reply in (await fleet.replies()).values()} == {Status.SUCCEEDED}
    await fleet.close_all()
    second = await quarantine(fleet)
    assert (await tool("dead", "drop", "--all", "--yes", "--json")).data["batches"] == [second]
    await fleet.settle_all()
    codes = [reply.error.code for reply in (await fleet.replies()).values() if reply.error]
    assert codes == ["dropped_by_operator"] * 3
    assert (await tool("dead", "drop", "--all", "--yes")).out == "no batch is quarantined\n"


async def test_requests_and_batches_are_cancelled(fleet: Fleet, tool: Tool) -> None:
    """A request is answered as cancelled at once; a batch only while it is at the service."""
    one, two = await fleet.submit(2)
    words = ("cancel", one, "--producer", PRODUCER, "--json")
    assert (await tool(*words)).status == 2
    assert (await tool(*words, "--yes")).data["requests"] == {one: "cancelled"}
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {name: reply.status for name, reply in replies.items()} == {
        one: Status.CANCELLED,
        two: Status.SUCCEEDED,
    }
    late = await tool("cancel", "--batch", str(replies[two].batch), "--yes")
    assert late.status == 2
    assert "only while it is submitted" in late.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["drain", "gpt-eastu", "--reason", "x", "--yes"], "did you mean gpt-eastus?"),
        (["drain", "gpt-eastus", "--reason", " ", "--yes"], "1 to 200 printable characters"),
        (["requests", "--lane", "chatt"], "did you mean chat?"),
        (["requests", "--producer", "Shop!"], "argument --producer: Shop!: must match"),
        (["submit", "x", "--producer", "a:b"], "argument --producer: a:b: must match"),
        (["batches", "--lane", "chatt"], "did you mean chat?"),
        (["batches", "--deployment", "gpt-eastu"], "did you mean gpt-eastus?"),
        (["batch", "b0"], "there is no batch b0"),
        (["cancel"], "name either requests"),
        (["cancel", "r1"], "--producer"),
        (["cancel", "r1", "--batch", "b"], "name either requests"),
        (["cancel", "--batch", "b0", "--yes"], "there is no batch b0"),
        (["dead", "retry"], "name the batches, or --all"),
        (["dead", "drop", "b0", "--yes"], "there is no batch b0"),
        (["status", "--every", "0"], "seconds above 0"),
        (["batches", "--limit", "x"], "x: must be a whole number from 1 to 1,000,000"),
        (["batches", "--state", "asleep"], "invalid choice"),
        (["submit", "none.jsonl", "--producer", "shop"], "cannot be read"),
        (["collect", "none.jsonl", "--producer", "shop", "--output", "x"], "cannot be read"),
        (["submit", "x", "--producer", "shop", "--redis-file", "x"], "--lane"),
        (["frobnicate"], "invalid choice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_mistakes_are_one_sentence(tool: Tool, words: list[str], part: str) -> None:
    """What the caller can mend is said in one sentence on standard error, with exit status 2."""
    answer = await tool(*words)
    assert answer.status == 2, answer.err
    assert part in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "words",
    [["batch", "\udcff"], ["dead", "drop", "a\udc80", "--yes"], ["batches", "--lane=\udcff"]],
    ids=ascii,
)
async def test_a_stray_byte_is_a_mistake(tool: Tool, words: list[str]) -> None:
    """An argument that is not UTF-8 is named by its place, before anything is asked of Redis."""
    answer = await tool(*words)
    assert answer.status == 2
    place = next(n for n, word in enumerate(words, 1) if not word.isascii())
    assert answer.err == f"groupage: argument {place} is not UTF-8 text\n"


async def test_settings_that_cannot_work_are_listed(tmp_path: Path) -> None:
    """Wrong settings are told as the worker tells them; nothing is looked at."""
    path = tmp_path / "worker.yaml"
    path.write_text("cluster: blue\n")
    answer = await Tool(path)("status")
    assert answer.status == 2
    assert "regions" in answer.err


async def test_a_server_that_is_away_is_status_1(fleet: Fleet, tmp_path: Path) -> None:
    """Redis that cannot be reached is no mistake of the caller, and its password is not shown."""
    path = write_settings(tmp_path, fleet.settings, "redis://:canary@127.0.0.1:9/0")
    answer = await Tool(path)("status")
    assert answer.status == 1
    assert "canary" not in answer.err
    assert "groupage-worker check" in answer.err


async def test_nothing_that_only_looks_writes(fleet: Fleet, tool: Tool, redis: "Redis[bytes]") -> None:
    """Commands that look leave every key as it was."""
    await quarantine(fleet)
    before = {key: await redis.dump(key) for key in await redis.keys("*")}
    for words in (
        ["status"],
        ["quota"],
        ["batches"],
        ["batches", "--closed"],
        ["requests"],
        ["dead", "list"],
    ):
        assert (await tool(*words, "--json")).status == 0
    assert {key: await redis.dump(key) for key in await redis.keys("*")} == before
    assert json.loads((await tool("status", "--json")).out)["lanes"][LANE]["open_requests"] == 3
