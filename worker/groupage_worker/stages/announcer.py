"""What producers are told of the lanes: at every start, and again after Redis forgot."""

from groupage.compression import ZSTD
from groupage.contract import LaneInfo
from groupage_worker.stages.context import Context
from groupage_worker.stages.sight import line_tokens


async def announce_lanes(context: Context) -> None:
    """Write every lane's announcement and admission limits, and start its deadline wheel if it does not turn yet."""
    for name, lane in context.settings.lanes.items():
        info = LaneInfo(
            endpoint=lane.endpoint,
            # a request above a limit of admission could never be accepted: the door says so at once
            request_bytes_max=min(lane.request_bytes_max, lane.open_bytes_max, lane.producer_bytes_max),
            tokens_max=min(
                # its line counts as well
                max(context.limit_tokens(deployment) for deployment in lane.deployments)
                - line_tokens(context, name),
                lane.open_tokens_max,
                lane.producer_tokens_max,
            ),
            deadline_s=lane.deadline_s,
            reply_ttl_s=lane.reply_ttl_s,
            packings=(ZSTD,),
        )
        limits = {
            "max_open_requests": lane.open_requests_max,
            "max_open_bytes": lane.open_bytes_max,
            "max_open_tokens": lane.open_tokens_max,
            "max_producer_requests": lane.producer_requests_max,
            "max_producer_bytes": lane.producer_bytes_max,
            "max_producer_tokens": lane.producer_tokens_max,
            "max_producer_reply_bytes": lane.producer_reply_bytes_max,
        }
        await context.admission.announce(name, info, limits)
