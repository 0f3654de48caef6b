"""Logs: one format, and nothing that could be a body, a key or a password."""

import ast
import io
import json
import logging
import sys
import threading
import warnings
from enum import StrEnum
from pathlib import Path

import pydantic
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError

from groupage_worker import logs
from groupage_worker.errors import ConfigurationError, Transient
from groupage_worker.settinggroup import LogSettings

BODY = "canary-prompt the patient said"
KEY = "canarykey0123456789abcdef"
PASSWORD = "canary-password"
CANARIES = ("canary",)


@pytest.fixture(autouse=True)
def restored():
    """Give structlog, warnings and hooks back as they were."""
    before = sys.excepthook, threading.excepthook
    yield
    sys.excepthook, threading.excepthook = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream():
    """Where the logs go, at debug level as JSON."""
    stream = io.StringIO()
    logs.configure(LogSettings(level="debug", format="json"), stream)
    return stream


def entries(stream: io.StringIO) -> list[dict]:
    """The lines written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_entry(stream):
    """An entry has an event, a level, a logger, an ISO time in UTC, and its fields."""
    structlog.get_logger("tracker").info("tracker.batch_ended", batch="b1", lines=5, wait_s=1.5)
    (entry,) = entries(stream)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "tracker.batch_ended",
        "level": "info",
        "logger": "tracker",
        "batch": "b1",
        "lines": 5,
        "wait_s": 1.5,
    }


def test_unnamed_fields_are_dropped(stream):
    """A field that is not allowed is dropped, and its name is listed."""
    structlog.get_logger("x").info("x.y", body=BODY, prompt_s=BODY, batch="b1")
    (entry,) = entries(stream)
    assert entry["dropped"] == ["body", "prompt_s"]
    assert entry["batch"] == "b1"
    assert BODY not in stream.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        BODY.encode(),
        {"messages": BODY},
        [{"content": BODY}],
        BODY,
        object(),
        Exception(BODY),
        bytearray(b"canary"),
    ],
)
def test_allowed_fields_hold_plain_values(stream, value):
    """Even an allowed field takes words and numbers only."""
    structlog.get_logger("x").info("x.y", reason=value)
    assert "canary" not in stream.getvalue()


def test_an_event_is_a_name(stream):
    """Text put together where the event belongs is not written."""
    structlog.get_logger("x").info(f"failed with {BODY}")
    assert entries(stream)[0]["event"] == "log.unnamed_event"
    assert "canary" not in stream.getvalue()


def test_context_is_merged(stream):
    """Bound context variables appear like fields, and pass the same filter."""
    structlog.contextvars.bind_contextvars(worker="w1", body=BODY)
    structlog.get_logger("x").info("x.y")
    assert entries(stream)[0]["worker"] == "w1"
    assert "canary" not in stream.getvalue()


class _Model(pydantic.BaseModel):
    n: int


def _raise_pydantic():
    _Model.model_validate({"n": BODY})


def _raise_json():
    json.loads('{"prompt": "' + BODY)


def _raise_redis():
    raise AuthenticationError(f"redis://user:{PASSWORD}@host refused {KEY}")


def _raise_chain():
    prompt = BODY
    try:
        raise ValueError(prompt)  # noqa: TRY301 - the local variable is the point
    except ValueError as error:
        raise KeyError(KEY) from error


def _raise_group():
    raise ExceptionGroup(BODY, [ValueError(KEY), Transient("region eastus is busy", code="429")])


@pytest.mark.parametrize("fail", [_raise_pydantic, _raise_json, _raise_redis, _raise_chain, _raise_group])
def test_exceptions_show_types_and_places_only(stream, fail):
    """A traceback holds types, modules and lines: no message of others, no document, no local variable."""
    try:
        fail()
    except Exception:  # noqa: BLE001 - each case raises another class
        structlog.get_logger("x").exception("x.failed", batch="b1")
    assert "canary" not in stream.getvalue()
    links = entries(stream)[0]["exception"]
    assert links[0]["at"][-1].split()[-1]
    assert any(fail.__name__ in place for place in links[0]["at"])


def test_our_own_messages_stay(stream):
    """Errors of ours keep their sentence, minus whatever looks like a credential."""
    error = ConfigurationError([f"redis://user:{PASSWORD}@h is wrong", f"Bearer {KEY}", f"api-key: {KEY}"])
    structlog.get_logger("x").error("x.failed", exc_info=error)
    message = entries(stream)[0]["exception"][0]["message"]
    assert "redis://***@h is wrong" in message
    assert "canary" not in message


def test_the_chain_is_told(stream):
    """Causes and members of groups are listed."""
    for fail, types in (
        (_raise_chain, ["KeyError", "ValueError"]),
        (_raise_group, ["ExceptionGroup", "ValueError", "Transient"]),
    ):
        try:
            fail()
        except Exception as error:  # noqa: BLE001 - each case raises another class
            structlog.get_logger("x").error("x.failed", exc_info=error)
        assert [link["type"] for link in entries(stream)[-1]["exception"]] == types


def test_libraries_speak_the_same_format(stream):
    """A record of a library has our format; numbers and plain words of it stay, texts and objects do not."""
    log = logging.getLogger("arq.worker")
    log.warning("%d jobs of %s failed: %s", 3, "light:batch:b1", BODY)
    log.warning("%(n)d of %(what)s", {"n": 2, "what": {"prompt": BODY}})
    log.error("broken %d", BODY)
    log.error(f"future: <Task exception=ValueError('{BODY}')>")  # noqa: G004 - libraries do that
    found = entries(stream)
    assert [entry["text"] for entry in found] == [
        "3 jobs of light:batch:b1 failed: [withheld]",
        "2 of [withheld]",
        "broken %d",
        "future",
    ]
    assert {entry["event"] for entry in found} == {"library.message"}
    assert "canary" not in stream.getvalue()


def test_exceptions_of_libraries(stream):
    """An exception that a library logs is filtered like ours."""
    try:
        _raise_redis()
    except AuthenticationError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    assert entries(stream)[0]["exception"][0]["type"] == "AuthenticationError"
    assert "canary" not in stream.getvalue()


def test_libraries_are_quiet(stream):
    """What arq and httpx say at INFO, arguments and URLs, is not written even at debug level."""
    for name in ("arq.worker", "httpx", "redis"):
        logging.getLogger(name).info("GET https://host/?sig=%s", KEY)
    assert stream.getvalue() == ""


def test_warnings_are_logged(stream):
    """A Python warning becomes an entry, without its text."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(BODY, UserWarning, stacklevel=1)
    assert entries(stream)[0]["text"] == "UserWarning"
    assert "canary" not in stream.getvalue()


def test_uncaught_exceptions_are_filtered(stream):
    """An exception that nobody caught is logged by type and place instead of printed."""
    logs.install_hooks()
    try:
        _raise_redis()
    except AuthenticationError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
    assert [entry["event"] for entry in entries(stream)] == ["process.uncaught"] * 2
    assert "canary" not in stream.getvalue()


def test_level_and_console():
    """The level holds for everybody, and the console shows the same fields to people."""
    stream = io.StringIO()
    logs.configure(LogSettings(level="warning", format="console"), stream)
    structlog.get_logger("x").info("x.quiet")
    structlog.get_logger("x").warning("x.loud", batch="b1", body=BODY)
    assert "x.quiet" not in stream.getvalue()
    assert "x.loud" in stream.getvalue()
    assert "b1" in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_a_stream_that_is_no_terminal_gets_json():
    """`auto` means JSON wherever nobody watches."""
    stream = io.StringIO()
    logs.configure(LogSettings(), stream)
    structlog.get_logger("x").info("x.y")
    assert entries(stream)[0]["event"] == "x.y"


class _Word(StrEnum):
    SEALED = "sealed"


def test_words_of_enums(stream):
    """Members of enums are written as their values."""
    structlog.get_logger("x").info("x.y", state=_Word.SEALED, steps=[_Word.SEALED, 1])
    assert entries(stream)[0]["state"] == "sealed"
    assert entries(stream)[0]["steps"] == ["sealed", 1]


@given(st.dictionaries(st.sampled_from(["batch", "body", "text", "reason", "x_s"]), st.text(max_size=80)))
def test_any_values_make_valid_lines(fields):
    """Whatever is logged, the result is one JSON object on one line, and long texts are cut."""
    stream = io.StringIO()
    logs.configure(LogSettings(format="json"), stream)
    structlog.get_logger("x").info("x.y", **fields)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert "body" not in entry
    assert "x_s" not in entry


def _logged() -> list[tuple[str, str, list[str]]]:
    """(file, event, fields) of every log call in the worker's source."""
    root = Path(logs.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in {"log", "_log"} and node.args:
                event = node.args[0]
                name = event.value if isinstance(event, ast.Constant) else "not a constant"
                found.append((path.name, str(name), [word.arg for word in node.keywords if word.arg]))
    return found


@pytest.mark.parametrize(("file", "event", "fields"), _logged())
def test_what_the_worker_logs_passes(file, event, fields):
    """Every event in the source is a name and every field of it is allowed; add new words to `logs._FIELDS`."""
    assert logs._EVENT.fullmatch(event), file
    allowed = {name for name in fields if name in logs.FIELDS or name.endswith(logs.NUMBER_SUFFIXES)}
    assert set(fields) - allowed <= {"exc_info"}, file
