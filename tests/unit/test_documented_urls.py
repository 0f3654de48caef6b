"""Every Redis address that the docs show is one that a client takes."""

import re
from pathlib import Path

import pytest

from groupage.connect import connect

ROOT = Path(__file__).parents[2]
URL = re.compile(r"rediss?(?:\+sentinel|\+cluster)?://[^\s`\"'}|]+[^\s`\"'}|)]")
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("configuration", "kubernetes", "operations", "security")),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_address_works(page: str) -> None:
    """Nobody copies an address that is refused."""
    for url in URL.findall((ROOT / page).read_text()):
        if "%s" not in url and not url.endswith("..."):
            connect(url)


def test_the_readme_shows_managed_redis_and_sentinel() -> None:
    """The README has an address of Azure Managed Redis and one of Sentinel."""
    urls = URL.findall((ROOT / "README.md").read_text())
    assert any("redis.azure.net:10000" in url for url in urls)
    assert any(url.startswith("redis+sentinel://") for url in urls)
