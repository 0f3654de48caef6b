"""Lists of batches and files: cursor, filter, order, bounds."""

import pytest

from .conftest import line


async def several(call, count: int) -> list[str]:
    """Ids of so many batches, ten seconds apart, oldest first."""
    made = []
    for _ in range(count):
        made.append(await call.created([line("a")]))
        await call.emulator.clock.advance(10)
    return made


async def test_paging_walks_over_all_batches_newest_first(call):
    """Following last_id until has_more is false meets every batch once."""
    made = await several(call, 7)
    seen, params = [], {"limit": 3}
    while True:
        page = (await call.get("/batches", **params)).json()
        assert (page["object"], page["first_id"]) == ("list", page["data"][0]["id"])
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        params["after"] = page["last_id"]
    assert seen == made[::-1]


async def test_default_limit_is_twenty(call):
    """A list without a limit has twenty entries."""
    await several(call, 21)
    page = (await call.get("/batches")).json()
    assert (len(page["data"]), page["has_more"]) == (20, True)


@pytest.mark.parametrize("limit", ["-1", "101", "x"])
async def test_limits_out_of_range_are_refused(call, limit):
    """A limit that is no number or out of range is a 400."""
    assert (await call.get("/batches", limit=limit)).status_code == 400


async def test_limit_zero_is_an_empty_list(call):
    """A limit of 0 gives no entries."""
    await several(call, 1)
    assert (await call.get("/batches", limit=0)).json()["data"] == []


async def test_unknown_cursor_is_not_found(call):
    """A cursor that is no batch is a 404."""
    assert (await call.get("/batches", after="batch_x")).status_code == 404


async def test_filter_and_order_on_a_dated_preview(emulate):
    """`$filter` on created_at and status, and `$orderby`, work from 2024-10-01-preview."""
    call = await emulate("2025-04-01-preview")
    made = await several(call, 3)
    middle = (await call.batch(made[1]))["created_at"]
    await call.post(f"/batches/{made[2]}/cancel")
    params = {"$filter": f"created_at gt {middle - 1} and status eq 'Validating'"}
    assert [one["id"] for one in (await call.get("/batches", **params)).json()["data"]] == [made[1]]
    ascending = await call.get("/batches", **{"$orderby": "created_at asc"})
    assert [one["id"] for one in ascending.json()["data"]] == made
    assert (await call.get("/batches", **{"$filter": "nonsense"})).status_code == 400
    assert (await call.get("/batches", **{"$orderby": "status asc"})).status_code == 400


async def test_filter_is_ignored_elsewhere(call):
    """The v1 profile does not know `$filter`."""
    made = await several(call, 1)
    assert (await call.get("/batches", **{"$filter": "status eq 'Failed'"})).json()["data"][0]["id"] == made[
        0
    ]


async def test_files_are_listed_by_purpose_and_page(call):
    """The file list filters by purpose and pages in new profiles."""
    ids = [await call.uploaded([line("a")]) for _ in range(3)]
    await call.create(ids[0])
    await call.emulator.clock.advance(1000)
    page = (await call.get("/files", purpose="batch", limit=2)).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = (await call.get("/files", purpose="batch", after=ids[1])).json()
    assert [one["id"] for one in rest["data"]] == [ids[0]]
    assert len((await call.get("/files", purpose="batch_output")).json()["data"]) == 2
    assert (await call.get("/files", limit=0)).status_code == 400
    assert (await call.get("/files", after="file-x")).status_code == 404


async def test_old_profiles_list_all_files(emulate):
    """The GA version's file list is one page without a cursor."""
    call = await emulate("2024-10-21")
    await call.uploaded([line("a")])
    assert set((await call.get("/files", limit=0)).json()) == {"object", "data"}
