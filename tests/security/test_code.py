"""What the product's code never does, and what a poisoned job cannot make it do."""

import ast
import pickle
import time
from contextlib import aclosing
from pathlib import Path

from groupage.connect import connect
from tests.acceptance.site import Site

ROOT = Path(__file__).parents[2]
SOURCES = [path for name in ("producers", "worker", "emulator") for path in (ROOT / name).rglob("*.py")]
COUNT = 40
RUNS_WHAT_IT_READS = frozenset(
    {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "joblib"}
)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def called(path: Path) -> set[str]:
    return {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_nothing_unpickles_or_evaluates() -> None:
    """No module imports a library that runs what it reads, and none calls eval, exec or compile."""
    assert len(SOURCES) > 100
    assert {str(path): found for path in SOURCES if (found := imported(path) & RUNS_WHAT_IT_READS)} == {}
    assert {
        str(path): found for path in SOURCES if (found := called(path) & {"eval", "exec", "compile"})
    } == {}


class Bomb:
    """What an attacker with write access to Redis would leave: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)


async def test_a_pickled_job_runs_nothing(site: Site, tmp_path: Path) -> None:
    """A pickle under arq's own keys is taken for a broken job: nothing of it runs, and the worker works on."""
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists()
    path.unlink()
    worker = await site.start_worker()
    async with aclosing(connect(site.redis.url)) as redis:
        for queue in ("g1:steps:light", "g1:steps:heavy"):
            await redis.set(f"arq:job:evil-{queue[-5:]}", pickle.dumps(Bomb(path)))
            await redis.zadd(queue, {f"evil-{queue[-5:]}": int(time.time() * 1000) - 1_000})
        async with site.producer() as producer:
            ids = await site.submit(producer, COUNT)
            site.assert_all_right(await site.replies(producer, ids), COUNT)
        assert worker.exit_status() is None
        for queue in ("g1:steps:light", "g1:steps:heavy"):
            assert await redis.zscore(queue, f"evil-{queue[-5:]}") is None, "the job was never taken"
    assert not path.exists()
