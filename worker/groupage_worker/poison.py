"""What to do with a batch that ends every worker which takes it: space the tries out, find the request, set it aside.

A step that was begun and never committed died: by a kill, a lost Redis, or by the batch itself (a file that does not
fit into the worker's memory). One cannot tell which, so what is done here costs little when it is wrong.
"""

from typing import Final

from groupage_worker.models import Batch, Move
from groupage_worker.states import BatchState

CODE: Final = "cut_short"

FREE_DEATHS: Final = 3
"""Deaths in a row that nobody wonders at: a rolling update with hard ends has that many at most."""

FIRST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 600.0
"""Then each run waits, doubling: one batch ends one worker in ten minutes, and the fleet goes on beside it."""

SPLIT_DEATHS: Final = 6
"""Deaths in an upload before the file is halved: the one step whose size the requests decide."""

SPLIT_AGAIN_DEATHS: Final = 1
"""The same for the halves of such a file, so that the request is found after a dozen deaths, not after a hundred."""


def spare(batch: Batch) -> Move | None:
    """The move instead of one more run of a step that died too often; None to run it.

    What was counted stays as it is, so that the run after the wait knows that there was one before.
    """
    is_upload = batch.state is BatchState.UPLOADING
    if is_upload and batch.deaths > (SPLIT_AGAIN_DEATHS if batch.last_error == CODE else SPLIT_DEATHS):
        fields: dict[str, str | int] = {"last_error": CODE, "bad_lines": "", "bad_message": ""}
        return Move(state=BatchState.SPLITTING, fields={**fields, "suspects": "", "cut": ""}, reason=CODE)
    # the run after a wait counts the begin before the wait once more
    is_due = batch.deaths == batch.spared_deaths + 1
    # an intent to create is never run again anyway: it is resolved
    if batch.deaths <= FREE_DEATHS or is_due or batch.state is BatchState.CREATING:
        return None
    doublings = min((batch.deaths - FREE_DEATHS - 1) // 2, 20)
    return Move(
        state=batch.state,
        after_s=min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**doublings),
        fields={"runs": batch.runs, "deaths": batch.deaths, "spared_deaths": batch.deaths},
        reason=CODE,
    )
