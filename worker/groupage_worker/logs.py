"""Logs that cannot leak: only named fields pass, only plain values, and no text that we did not write.

An event is `stage.happening`; everything else is a field. A field that is not named here is dropped, and its name
is listed in `dropped`, so that it shows. Exceptions lose their locals, and their messages unless they are ours:
pydantic, redis-py and json put inputs, addresses and whole documents into theirs.
"""

import copy
import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from groupage.errors import GroupageError
from groupage_worker.settinggroup import LogSettings

_FIELDS: Final = """
    batch child lane lanes deployment region attempt fence runs state from_state to_state next step steps
    kind op outcome reason code status status_code remote remote_status remote_batch_id request_id
    input_file_id output_file_id error_file_id custom_id worker cluster role signal
    requests lines tokens of failures retries delivered settled failed retried duplicate foreign unknown
    restored taken elsewhere file malformed missing slices target seconds served_by file_id port version error problem problems note text
"""

FIELDS: Final = frozenset(_FIELDS.split())
"""Fields that may be logged: ids, names from the settings, words from closed sets, counts."""

NUMBER_SUFFIXES: Final = ("_s", "_ms", "_bytes", "_usd", "_ratio", "_total", "_tokens", "_lines", "_requests")
"""A field with such an end may be logged if its value is a number."""

TEXT_FIELDS: Final = frozenset({"problem", "problems", "note", "text", "served_by"})
"""Fields that may hold sentences of ours, or the display name of a region. Any other string is a word or an id."""

WITHHELD: Final = "[withheld]"
TEXT_CHARS_MAX: Final = 500
ITEMS_MAX: Final = 50

_EVENT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_WORD = re.compile(r"[\w.:@+=-]{0,128}", re.ASCII)
_SECRETS: Final = (
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE), r"\1***@"),
    (
        re.compile(
            r"\b(api[-_]key|authorization|password|passwd|secret|sig|token)\b(\W{1,3})[^\s,;&]+",
            re.IGNORECASE,
        ),
        r"\1\2***",
    ),
    (re.compile(r"\b(bearer) +\S+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\bsk-[\w-]{8,}"), "***"),
)
_QUIET: Final = ("arq", "httpx", "httpcore", "redis", "asyncio", "azure", "msal", "aiohttp")
"""Libraries that talk at INFO: arq prints arguments of jobs, httpx whole URLs (reliability.md 7.4, 2026-11-20)."""

_PROSE_END = re.compile(r"[:(<{\[=\"'`\n]")


def redact(text: str) -> str:
    """The text without whatever looks like a credential, on one line, cut to a sane length."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())[:TEXT_CHARS_MAX]


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send our logs and those of libraries through one filter to one stream.

    Args:
        settings: Level and format.
        stream: Where to; default: standard error.
    """
    stream = sys.stderr if stream is None else stream
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Processor] = [structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level, stamp]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=[*shared, _foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, allow, renderer],
        ),
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
    # a handler that fails would print message and arguments, whatever they hold
    logging.raiseExceptions = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def install_hooks() -> None:
    """Send exceptions that nobody caught through the same filter instead of printing them with their messages."""
    log = structlog.get_logger("process")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("process.uncaught", exc_info=(kind, error, trace))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            log.critical("process.uncaught", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread


def allow(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep what is named and plain; the last processor before the renderer."""
    out: EventDict = {key: event[key] for key in ("timestamp", "level", "logger") if key in event}
    name = event.get("event")
    out["event"] = name if isinstance(name, str) and _EVENT.fullmatch(name) else "log.unnamed_event"
    dropped = []
    for key, value in event.items():
        if key in out or key in {"event", "exc_info"}:
            continue
        if key in FIELDS or (key.endswith(NUMBER_SUFFIXES) and isinstance(value, int | float)):
            out[key] = _plain(key, value)
        else:
            dropped.append(key)
    if dropped:
        out["dropped"] = sorted(word for word in dropped if _WORD.fullmatch(word))
    error = _error_of(event.get("exc_info"))
    if error is not None:
        out["exception"] = list(_chain(error))
    return out


def _plain(key: str, value: object) -> object:
    """A value that says no more than it should."""
    if value is None or isinstance(value, bool | int | float):
        # an enum of numbers would be rendered by its name, which is fine, but not its class
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, BaseException):
        return _message(value) or type(value).__name__
    if isinstance(value, str):
        text = str(value.value) if isinstance(value, Enum) else value
        if key in TEXT_FIELDS:
            return redact(text)
        return text if _WORD.fullmatch(text) else WITHHELD
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(key, item) for item in list(value)[:ITEMS_MAX]]
    return WITHHELD


def _error_of(exc_info: object) -> BaseException | None:
    """The exception behind whatever `exc_info` may be."""
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exc_info()[1]
        case _:
            return None


def _message(error: BaseException) -> str | None:
    """The message of an error of ours or of the operating system; nobody else's."""
    if isinstance(error, GroupageError):
        return redact(str(error))
    if isinstance(error, OSError) and error.strerror:
        return redact(error.strerror)
    return None


def _chain(error: BaseException) -> Iterator[dict[str, object]]:
    """An exception and what caused it, outermost first: types, places, and messages of ours."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue and len(seen) < ITEMS_MAX:
        here = queue.pop(0)
        if id(here) in seen:
            continue
        seen.add(id(here))
        link: dict[str, object] = {"type": type(here).__qualname__, "at": list(_places(here.__traceback__))}
        message = _message(here)
        if message is not None:
            link["message"] = message
        yield link
        if isinstance(here, BaseExceptionGroup):
            queue += here.exceptions
        cause = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
        if cause is not None:
            queue.append(cause)


def _places(trace: TracebackType | None) -> Iterator[str]:
    """`module:line function` of each frame; never its locals, nor folders of the machine."""
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Takes the arguments out of a library's record before anybody formats them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or what the console shows."""
        if not hasattr(record, "_logger"):
            # not one of structlog's; a copy, because other handlers may see the record too
            record = copy.copy(record)
            record.msg, record.args = _library_text(record), ()
        return super().format(record)


def _foreign(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A record of a library: its text with harmless arguments filled in, its traceback like ours."""
    record: logging.LogRecord = event["_record"]
    event["text"], event["event"] = event["event"], "library.message"
    event["exc_info"] = record.exc_info
    return event


def _library_text(record: logging.LogRecord) -> str:
    """The constant part of a library's message, with numbers and plain words in place."""
    template = str(record.msg)
    if record.name == "py.warnings":
        # put together by the standard library: place, category, text, source line
        category = re.search(r": (\w+): ", template)
        return category.group(1) if category else WITHHELD
    if not record.args:
        # without arguments the text was put together before; what it quotes follows a colon, bracket or quote
        return _PROSE_END.split(template, maxsplit=1)[0]
    args: Any = record.args
    try:
        if isinstance(args, Mapping):
            return template % {key: _argument(value) for key, value in args.items()}
        return template % tuple(_argument(value) for value in args)
    except (TypeError, ValueError, KeyError):
        return template


def _argument(value: object) -> object:
    """One argument of a library's message."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, BaseException):
        return type(value).__name__
    return value if isinstance(value, str) and _WORD.fullmatch(value) else WITHHELD
