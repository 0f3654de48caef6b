"""The table of the fault matrix is whole, and every test that it names exists."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"

SIZES = {"A": 8, "B": 12, "C": 8, "D": 15, "E": 11, "F": 13, "G": 5, "H": 9, "I": 7, "J": 8}
"""Rows of each part of the fault matrix (reliability.md section 4, 2026-11-20): 96 in all."""

IDS = [f"{part}{n}{'p' if part == 'I' else ''}" for part, size in SIZES.items() for n in range(1, size + 1)]

ROW = re.compile(r"\| (?P<id>[A-J]\d+p?) \| (?P<fault>[^|]+) \| (?P<answer>[^|]+) \| (?P<proof>[^|]+) \|")
TEST = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<name>\w+)`")
OPEN = re.compile(r"open: issue \d+")


def rows() -> list[re.Match[str]]:
    """Rows of the table, in their order."""
    return [row for line in PAGE.read_text().splitlines() if (row := ROW.fullmatch(line.strip()))]


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """Names of the test functions of a file; none if there is no such file."""
    path = ROOT / "tests" / file
    if not path.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_the_matrix_is_whole() -> None:
    """Each of the 96 rows stands in the table once, in the order of the reference."""
    assert len(IDS) == 96
    assert [row["id"] for row in rows()] == IDS


def test_every_row_is_proven_or_open() -> None:
    """A row names a test, or the issue that it waits for."""
    silent = [row["id"] for row in rows() if not TEST.search(row["proof"]) and not OPEN.search(row["proof"])]
    assert silent == []


def test_every_test_named_exists() -> None:
    """Each `file::name` on the page is a test function under tests/."""
    named = [(found["file"], found["name"]) for found in TEST.finditer(PAGE.read_text())]
    assert len(named) > len(IDS) // 2
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []
