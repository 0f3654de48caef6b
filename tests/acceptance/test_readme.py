"""The README's example is run as it stands."""

import asyncio
import sys
from pathlib import Path

from groupage import testing
from groupage_emulator.redis_server import EmbeddedRedis

README = Path(__file__).parents[2] / "README.md"


async def test_the_readme_example_runs() -> None:
    """The producer example prints the reply it waited for, against a lane of that name."""
    text = README.read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    with EmbeddedRedis(port=0) as server:
        url = server.url
        await testing.announce_lane(url, "gpt-4o-mini")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code.replace("redis://localhost/0", url),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            while not (waiting := await testing.open_requests(url, "gpt-4o-mini", "catalog")):
                await asyncio.sleep(0.02)
        assert [request.id for request in waiting] == ["bicycle-17"]
        body = {"choices": [{"message": {"content": "A red bicycle."}}]}
        await testing.settle(url, "gpt-4o-mini", "catalog", "bicycle-17", body=body)
        out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert out.decode().startswith("succeeded A red bicycle.")
