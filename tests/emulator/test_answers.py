"""Answers are computed from requests, and directives make rows go wrong."""

import json

import pytest

from groupage_emulator import answers, digest, digest_of_reply

from .conftest import DEPLOYMENT, ONLINE, line

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["good", "bad"]},
        "count": {"type": "integer", "minimum": 3},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "required": ["name", "kind", "count", "tags", "maybe"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "object", "properties": {"on": {"type": "boolean"}}}},
}
TOOL = {"name": "weigh", "parameters": {"type": "object", "properties": {"what": {"type": "string"}}}}


async def only_row(call, one: dict) -> dict:
    """The one output row of a batch of one line."""
    batch = await call.finished([one])
    return (await call.rows(batch["output_file_id"]))[0]


def test_digest_is_of_the_body_without_model():
    """Order of members, white space and model do not matter; everything else does."""
    body = {"model": "a", "messages": [{"role": "user", "content": "håla 🌍"}], "n": 1.5}
    same = {"n": 1.5, "messages": [{"content": "håla 🌍", "role": "user"}]}
    assert digest(body) == digest(same)
    assert digest(body) != digest(same | {"n": 1.25})
    assert body["model"] == "a"
    canonical = '{"messages":[{"content":"håla 🌍","role":"user"}],"n":1.5}'
    assert digest(body) == answers.sha256(canonical.encode()).hexdigest()[:32]


async def test_text_answer(call):
    """A chat answer has Azure's shape and holds the digest in its text."""
    one = line("a")
    body = (await only_row(call, one))["response"]["body"]
    choice = body["choices"][0]
    assert choice["message"]["content"].startswith(f"sha256:{digest(one['body'])}")
    assert (choice["finish_reason"], body["object"], body["model"]) == (
        "stop",
        "chat.completion",
        "gpt-4o-mini-2024-07-18",
    )
    assert body["prompt_filter_results"]
    assert choice["content_filter_results"]["hate"] == {"filtered": False, "severity": "safe"}
    assert (
        body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )


async def test_structured_answer(call):
    """A json_schema answer fits its schema and holds the digest."""
    one = line("a", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}})
    content = json.loads((await only_row(call, one))["response"]["body"]["choices"][0]["message"]["content"])
    assert content == {
        "name": f"sha256:{digest(one['body'])}",
        "kind": "good",
        "count": 3,
        "tags": [{"on": True}],
        "maybe": None,
    }


async def test_json_object_answer(call):
    """A json_object answer is an object with the digest."""
    one = line("a", response_format={"type": "json_object"})
    content = (await only_row(call, one))["response"]["body"]["choices"][0]["message"]["content"]
    assert json.loads(content) == {"digest": f"sha256:{digest(one['body'])}"}


async def test_tool_answer(call):
    """A request with tools is answered by a call whose arguments hold the digest."""
    one = line("a", tools=[{"type": "function", "function": TOOL}])
    choice = (await only_row(call, one))["response"]["body"]["choices"][0]
    called = choice["message"]["tool_calls"][0]["function"]
    assert (choice["finish_reason"], called["name"]) == ("tool_calls", "weigh")
    assert json.loads(called["arguments"]) == {"what": f"sha256:{digest(one['body'])}"}


async def test_tool_choice_none_is_text(call):
    """With tool_choice none the answer is text."""
    one = line("a", tools=[{"type": "function", "function": TOOL}], tool_choice="none")
    assert (await only_row(call, one))["response"]["body"]["choices"][0]["finish_reason"] == "stop"


async def test_responses_answers(call):
    """Responses lines are answered in their own shape: text, format, function call."""
    for body, kind in (
        ({}, "message"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}, "message"),
        ({"tools": [TOOL | {"type": "function"}]}, "function_call"),
    ):
        one = line("a", url="/v1/responses", **body)
        reply = (await only_row(call, one))["response"]["body"]
        assert (reply["output"][0]["type"], reply["model"]) == (kind, DEPLOYMENT)
        assert isinstance(reply["created_at"], float)
        assert digest_of_reply(reply) == digest(one["body"])
        assert reply["usage"]["input_tokens"] > 0


async def test_images_count(call):
    """Image parts are accepted and counted, less with low detail."""
    tokens = []
    for detail in ("low", "high"):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": detail}}
        one = line("a", messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}])
        tokens.append((await only_row(call, one))["response"]["body"]["usage"]["prompt_tokens"])
    assert 85 < tokens[0] < 110
    assert 765 < tokens[1] < 790


@pytest.mark.parametrize(
    ("directive", "status", "code"),
    [
        ("status=429", 429, "rate_limit_exceeded"),
        ("status=500", 500, "internal_server_error"),
        ("content_filter", 400, "content_filter"),
        ("zero", 0, None),
    ],
)
async def test_failed_lines_go_to_the_error_file(call, directive, status, code):
    """A failed line has error null, its status and its body in the error file, and is not billed."""
    batch = await call.finished([line("a", f"[[emulate:{directive}]]"), line("b")])
    row = (await call.rows(batch["error_file_id"]))[0]
    assert (row["custom_id"], row["error"], row["response"]["status_code"]) == ("a", None, status)
    assert row["response"]["body"].get("error", {}).get("code") == code
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert call.emulator.journal.summary().billed == {"b": 1}


async def test_timeout_line_has_no_response(call):
    """A line that timed out has response null and a code."""
    batch = await call.finished([line("a", "[[emulate:timeout]]")])
    row = (await call.rows(batch["error_file_id"]))[0]
    assert (row["response"], row["error"]["code"]) == (None, "request_timeout")


async def test_all_lines_failed(call):
    """When every line failed the batch is completed and has no output file."""
    batch = await call.finished([line("a", "[[emulate:status=500]]")])
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)


async def test_completion_filter_is_an_output_row(call):
    """A filtered completion is a 200 without text, and billed."""
    batch = await call.finished([line("a", "[[emulate:completion_filter]]")])
    choice = (await call.rows(batch["output_file_id"]))[0]["response"]["body"]["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
    assert call.emulator.journal.summary().billed == {"a": 1}


@pytest.mark.parametrize(
    ("directive", "ids"), [("drop", []), ("duplicate", ["a", "a"]), ("unknown", ["unknown-000000000000"])]
)
async def test_rows_that_do_not_add_up(call, directive, ids):
    """Dropped, doubled and unknown rows are billed once, and the counts say all is well."""
    batch = await call.finished([line("a", f"[[emulate:{directive}]]")])
    assert [row["custom_id"] for row in await call.rows(batch["output_file_id"])] == ids
    assert batch["request_counts"]["completed"] == 1
    assert call.emulator.journal.summary().billed == {"a": 1}


async def test_corrupt_row(call):
    """A corrupt row is no JSON, and ends where a row ends."""
    batch = await call.finished([line("a", "[[emulate:corrupt]]")])
    content = (await call.get(f"/files/{batch['output_file_id']}/content")).content
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)
    assert content.endswith(b"\n")


@pytest.mark.parametrize("change", [{"messages": []}, {"stream": True}])
async def test_requests_that_the_model_refuses(call, change):
    """A line without messages, or with stream, fails on its own."""
    batch = await call.finished([line("a") | {"body": line("a")["body"] | change}])
    assert (await call.rows(batch["error_file_id"]))[0]["response"]["status_code"] == 400


async def test_custom_ids_survive_any_characters(call):
    """Quotes, new lines and emoji in ids and texts come back unharmed."""
    wild = 'a"\\ \n\u2028 🎈'
    assert (await only_row(call, line(wild, wild)))["custom_id"] == wild


async def test_online_answers(call):
    """A Standard deployment answers at once, in all three ways, and is billed online."""
    region = call.region
    body = {"messages": [{"role": "user", "content": "now"}]}
    replies = [
        await call.post("/chat/completions", body | {"model": ONLINE}),
        await call.post("/responses", {"model": ONLINE, "input": "now"}),
        await call.http.post(
            f"{region.azure_url}/deployments/{ONLINE}/chat/completions?api-version=2024-10-21", json=body
        ),
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert digest_of_reply(replies[0].content) == digest_of_reply(replies[2].content) == digest(body)
    assert call.emulator.journal.summary().online == 3


@pytest.mark.parametrize(("model", "status"), [(DEPLOYMENT, 400), ("nope", 404)])
async def test_online_refuses(call, model, status):
    """Batch deployments and unknown ones answer nothing online."""
    reply = await call.post(
        "/chat/completions", {"model": model, "messages": [{"role": "user", "content": "x"}]}
    )
    assert reply.status_code == status


async def test_online_directive(call):
    """Directives work online too."""
    reply = await call.post(
        "/chat/completions",
        {"model": ONLINE, "messages": [{"role": "user", "content": "[[emulate:status=429]]"}]},
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
