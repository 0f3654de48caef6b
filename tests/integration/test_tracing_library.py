"""Tracing where it is not wanted, and where its library is missing; marks as they are written."""

import subprocess
import sys

from groupage.traceparent import mark_of_batch, read_mark


def test_without_tracing_nothing_of_it_is_loaded() -> None:
    """Producer, blocking twin and worker load no part of OpenTelemetry unless they are asked to trace."""
    code = (
        "import sys, groupage.client, groupage.sync, groupage_worker.app, groupage_worker.store.traces;"
        "print(sorted(name for name in sys.modules if 'opentelemetry' in name or name == 'groupage.tracing'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_named() -> None:
    """Who asks for traces without the extra is told what to install."""
    code = "import sys; sys.modules['opentelemetry'] = None; import groupage.tracing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: groupage.tracing needs OpenTelemetry: pip install 'groupage[tracing]'" in done.stderr


def test_marks_are_read_as_they_are_written() -> None:
    """A mark survives its text; the submit's own text is the W3C form."""
    mark = mark_of_batch("0190", 2)
    assert read_mark(str(mark)) == mark
    assert read_mark(str(mark).encode() + b"-of-a-later-version") == mark
