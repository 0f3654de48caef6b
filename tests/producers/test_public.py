"""What `import groupage` gives, and what it does not bring along."""

import subprocess
import sys
import types

import groupage


def test_all_is_reality() -> None:
    """`__all__` names exactly what is public at the top: no more, no less, sorted."""
    # the first use of a name may be what brings it
    assert all(hasattr(groupage, name) for name in groupage.__all__)
    public = {
        name
        for name, value in vars(groupage).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public | {"__version__"} == set(groupage.__all__)
    assert groupage.__all__ == sorted(groupage.__all__)


def test_every_error_is_public() -> None:
    """Each error of the tree can be caught by its name at the top, and knows whether trying again makes sense."""
    for error in groupage.GroupageError.__subclasses__():
        if error.__module__ == "groupage.errors":
            assert error.__name__ in groupage.__all__
            assert isinstance(error.retriable, bool)


def test_the_import_is_light() -> None:
    """Importing the package and its test helpers loads nothing of the worker, and no test framework."""
    code = "import groupage, groupage.sync, groupage.testing, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.split()
    heavy = {"groupage_worker", "groupage_emulator", "arq", "httpx", "aiohttp", "pydantic", "structlog"}
    assert not heavy & set(loaded)
    assert not {"prometheus_client", "pytest", "hypothesis", "unittest"} & set(loaded)
