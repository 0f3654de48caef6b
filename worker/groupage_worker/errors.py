"""What can go wrong inside a worker, as one tree, by what to do next.

WorkerError
 ├── Transient            the same call again, later; `retry_after_s` where the service named it
 ├── QuotaExhausted       keep the file, wait until tokens of this deployment are free
 ├── RegionUnavailable    open the circuit; work that is not yet sent may go elsewhere
 │    └── CredentialsRejected   401 or 403: the same, and it never consumes attempts of a request
 ├── Unclear              the batch may or may not exist: find out before anything else
 ├── NotFound             the remote object is not there (404 on an id of ours)
 ├── Rejected             the service said no for a reason that stays: `code` looks up the next state
 ├── OutsideZone          the deployment may not process this lane's data: give the requests back
 ├── SpoolFull            no disk space for an input file: give the requests back
 ├── FenceLost            somebody newer owns the batch: stop touching it
 └── ConfigurationError   exit at start, with every problem in one list

Only `azure/faults.py` turns HTTP answers into these, only `store.py` knows Redis errors.
"""

from groupage.errors import GroupageError


class WorkerError(GroupageError):
    """Base of every error that the worker raises on purpose.

    Attributes:
        code: Short stable word for metrics and logs: the service's code or one of ours.
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class Transient(WorkerError):
    """The call failed in a way that passes.

    Attributes:
        retry_after_s: Seconds the service asked to wait, already capped; None where it named none.
    """

    retriable = True

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message, code=code)


class QuotaExhausted(WorkerError):
    """The deployment has no enqueued tokens free for this batch (`token_limit_exceeded`)."""

    retriable = True


class RegionUnavailable(WorkerError):
    """The deployment or its whole region cannot take work now."""

    retriable = True


class CredentialsRejected(RegionUnavailable):
    """The service refused our key or token."""


class Unclear(WorkerError):
    """A create got no readable answer; the batch may exist and be billed."""


class NotFound(WorkerError):
    """The service does not know this file or batch."""


class Rejected(WorkerError):
    """The service refused the call for a reason that repeating will not change."""


class OutsideZone(WorkerError):
    """The deployment of a batch lies outside the data zone that its lane is bound to."""

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"batch {batch}: its deployment is outside the lane's data zone", code="outside_zone"
        )


class SpoolFull(WorkerError):
    """The spool directory has no room for the input file."""


class FenceLost(WorkerError):
    """Another worker has begun a newer step of this batch."""

    def __init__(self, batch: str) -> None:
        super().__init__(f"batch {batch}: another worker holds the fence", code="fence_lost")


class ConfigurationError(WorkerError):
    """The settings cannot work.

    Attributes:
        problems: One sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"- {problem}" for problem in problems), code="configuration")
