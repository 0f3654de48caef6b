"""Which steps a worker process takes, so that light and heavy work can scale apart."""

from enum import StrEnum


class Work(StrEnum):
    """What `groupage-worker run --only` names; a fleet needs somebody for both queues."""

    ALL = "all"
    """Both queues: any number of equal workers is a whole fleet."""
    LIGHT = "light"
    """Single calls: gather, create, follow, expire, sweep. Little memory, hardly any disk."""
    HEAVY = "heavy"
    """Whole files: claim, upload, read results and settle them. Memory, disk and network."""

    @property
    def queues(self) -> tuple[bool, ...]:
        """For each queue that is served: whether it is the heavy one."""
        return {Work.ALL: (False, True), Work.LIGHT: (False,), Work.HEAVY: (True,)}[self]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of steps it takes."""
        return tuple(kind_of(heavy=heavy) for heavy in self.queues)


def kind_of(*, heavy: bool) -> str:
    """The name of a kind of steps."""
    return (Work.HEAVY if heavy else Work.LIGHT).value
