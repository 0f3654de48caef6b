"""House rules that no linter knows: budgets, sentences of tests, headers of scripts, hosts and paths."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("producers", "worker", "emulator", "benchmarks")
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
SCRIPT_LINES_MAX = 60

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
LONG_SCRIPTS: dict[str, str] = {
    "submit.lua": "one transition with four outcomes a request and admission; halves would repeat its set-up",
    "settle.lua": "the one terminal write with all its counters; nothing of it may happen without the rest",
    "claim.lua": "the deficit-sharing loop and its page limits",
}
"""Exceptions by name, each with its reason, so that growth shows in review."""


def tracked(*suffixes: str) -> list[Path]:
    """Files that git knows, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [ROOT / name for name in listed if name.endswith(suffixes) and (ROOT / name).is_file()]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_test_says_what_it_holds() -> None:
    """Each test function has a docstring of one sentence."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in tracked(".py")
        if path.name.startswith("test_") and path.is_relative_to(ROOT / "tests")
        for node in functions(path)
        if node.name.startswith("test_")
        and not (ast.get_docstring(node) or "").strip().endswith((".", "!", "?"))
    ]
    assert silent == []


def test_files_and_functions_keep_their_budgets() -> None:
    """Source files have at most 300 lines, functions at most 50 without their docstring."""
    over = []
    for path in tracked(".py"):
        name = str(path.relative_to(ROOT))
        if not name.startswith(SOURCES):
            continue
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES_MAX and name not in LONG_FILES:
            over.append(f"{name}: {lines} lines")
        for node in functions(path):
            doc = node.body[0] if ast.get_docstring(node) else None
            length = (node.end_lineno or 0) - node.lineno + 1
            length -= (doc.end_lineno or 0) - doc.lineno + 1 if doc else 0
            if length > FUNCTION_LINES_MAX and f"{name}:{node.name}" not in LONG_FUNCTIONS:
                over.append(f"{name}:{node.name}: {length} lines")
    assert over == []


@pytest.mark.parametrize(
    "path", [p for p in tracked(".lua") if p.parent.name != "parts"], ids=lambda p: p.name
)
def test_scripts_have_their_header(path: Path) -> None:
    """Each script says its keys, arguments, answer, cost and invariant, binds every key, and keeps its budget."""
    text = path.read_text()
    head = text[: text.index("\nlocal ")]
    for word in ("KEYS[1", "RETURNS", "COST", "INVARIANT"):
        assert word in head, f"{path.name} lacks {word}"
    assert text.startswith("#!lua")
    used = {int(n) for n in re.findall(r"KEYS\[(\d+)\]", text[len(head) :])}
    said = {int(n) for n in re.findall(r"KEYS\[(\d+)\]", head)}
    for first, last in re.findall(r"KEYS\[(\d+)\.\.(\d+)\]", head):
        said |= set(range(int(first), int(last) + 1))
    assert used <= said
    if path.name not in LONG_SCRIPTS:
        assert len(text.splitlines()) <= SCRIPT_LINES_MAX


def test_no_host_or_machine_path_is_committed() -> None:
    """No index host, and no path of a developer's machine, stands in any file."""
    forbidden = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|/work/main|/root/|/home/\w+/")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked("")
        if path.suffix != ".png" and path != Path(__file__)
        for match in [forbidden.search(path.read_text(errors="ignore"))]
        if match
    ]
    assert found == []


def test_todos_name_their_issue() -> None:
    """A note about unfinished work names the issue that will finish it."""
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*#\d+)")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py", ".lua", ".md", ".yaml", ".toml")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
