"""The fleet: workers that pack waiting requests into batches and bring the replies back."""

from importlib.util import find_spec

if find_spec("arq") is None or find_spec("pydantic_settings") is None:
    raise ImportError("groupage_worker needs more than the base install: pip install 'groupage[worker]'")
