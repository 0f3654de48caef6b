"""Data zones: whether a deployment may process what a lane holds. Asked in three places, each on its own.

Settings refuse a lane that lists a deployment outside its zone (`crosscheck`). No line is written into a file for one
(`stages.spool`). No batch is created on one (`stages.submitter`): settings may have changed since its file was made.
"""


def may_process(lane_zone: str, deployment_zone: str) -> bool:
    """Whether requests bound to one zone may be processed in another; `any` binds to none."""
    return lane_zone in ("any", deployment_zone)
