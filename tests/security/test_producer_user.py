"""A producer's own Redis user, from the producer's side; the commands themselves are in `test_acl`."""

from typing import Any

import pytest

from groupage import Producer, Unavailable, testing
from groupage_worker.operator.acl import producer_user
from tests.producers.conftest import BODY, LANE, NAME


async def test_a_user_of_its_own(redis_server: Any, redis: Any) -> None:
    """A producer works as the user that `groupage acl` makes for it, and cannot touch another's keys."""
    await testing.announce_lane(redis_server.url, LANE)
    user = producer_user(NAME)
    await redis.execute_command("ACL", "SETUSER", user.name, "reset", "on", ">p@ss/word", *user.rules())
    try:
        url = redis_server.url.replace("unix://", f"unix://{user.name}:p%40ss%2Fword@")
        async with Producer(url, name=NAME, lane=LANE) as producer:
            ticket = await producer.submit(BODY)
            await testing.settle(redis_server.url, LANE, NAME, ticket.id, body=1)
            assert (await producer.reply(ticket)).body == 1
            assert (await producer.cancel(ticket)).ok
            assert await producer.discard(ticket.id)
        async with Producer(url, name="other", lane=LANE) as thief:
            with pytest.raises(Unavailable):
                await thief.status("r1")
            with pytest.raises(Unavailable):
                await thief.reply("r1")
        wrong = redis_server.url.replace("unix://", f"unix://{user.name}:wrong@")
        with pytest.raises(Unavailable):
            async with Producer(wrong, name=NAME):
                pytest.fail("the password is wrong")
    finally:
        await redis.acl_deluser(user.name)
