"""Redis over TLS, as managed servers want it."""

from pathlib import Path

import pytest
from tests.support.tls import make_certificate, tls_proxy

from groupage import Producer, testing
from groupage.connect import connect, disconnect
from groupage.errors import Unavailable
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.fleet import arq_pool
from groupage_worker.settings import RedisSettings


async def test_both_sides_speak_tls(tmp_path: Path) -> None:
    """Producers and arq's pool work over `rediss://` with a trusted certificate of the right name."""
    certificate, key = make_certificate(tmp_path, host="localhost")
    with EmbeddedRedis(port=0) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        async with tls_proxy(port, certificate, key) as tls_port:
            url = f"rediss://localhost:{tls_port}/0?ssl_ca_certs={certificate}"
            await testing.announce_lane(url, "chat")
            async with Producer(url, name="shop", lane="chat") as producer:
                ticket = await producer.submit({"messages": [{"role": "user", "content": "hi"}]})
                await testing.settle(url, "chat", "shop", ticket.id, body={"ok": True})
                assert (await producer.reply(ticket, timeout_s=10)).body == {"ok": True}
            pool = arq_pool(RedisSettings(data_url=url))
            assert await pool.ping()
            await pool.aclose(close_connection_pool=True)


@pytest.mark.parametrize("host", ["localhost", "other"])
async def test_a_wrong_certificate_is_refused(tmp_path: Path, host: str) -> None:
    """A certificate that nobody vouches for, or of another name, is refused, and nothing is sent."""
    certificate, key = make_certificate(tmp_path, host=host)
    with EmbeddedRedis(port=0) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        async with tls_proxy(port, certificate, key) as tls_port:
            trust = f"?ssl_ca_certs={certificate}" if host == "other" else ""
            client = connect(f"rediss://localhost:{tls_port}/0{trust}")
            with pytest.raises(Exception, match=r"(?i)certificate|hostname"):
                await client.ping()
            await disconnect(client)
            with pytest.raises(Unavailable):
                async with Producer(f"rediss://localhost:{tls_port}/0{trust}", name="shop", lane="chat"):
                    pass
