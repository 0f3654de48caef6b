"""Circuits, stalls, and quotas that others use as well."""

from hypothesis import given
from hypothesis import strategies as st

from groupage_worker import quota
from groupage_worker.knowledge import Knowledge, Signs, moved
from groupage_worker.quota import HEADERS_S, SharedLimit
from groupage_worker.scheduling import circuit as circuits
from groupage_worker.scheduling.circuit import (
    OPEN_FIRST_S,
    OPEN_MAX_S,
    SILENT_MIN_S,
    Activity,
    Admission,
    Circuit,
    is_stalled,
)

NOW = 1_000_000


def fail(circuit: Circuit, now_ms: int, created_at_ms: int | None = None) -> Circuit:
    return circuits.failed(
        circuit,
        now_ms=now_ms,
        created_at_ms=now_ms if created_at_ms is None else created_at_ms,
        reason="internal",
    )


def test_two_failures_open_and_a_probe_closes() -> None:
    """One failure may be chance; the second stops new work, then one probe goes, and its success ends it."""
    once = fail(Circuit(), NOW)
    assert once.admission(NOW) is Admission.ALL
    opened = fail(once, NOW + 1)
    assert opened.admission(NOW + 1) is Admission.NOTHING
    later = NOW + 2 + int(OPEN_FIRST_S * 1000)
    assert opened.admission(later) is Admission.PROBE
    probing = circuits.probed(opened, now_ms=later)
    assert probing.admission(later + 1) is Admission.NOTHING
    assert circuits.completed().admission(later + 2) is Admission.ALL


def test_a_region_that_fails_all_its_batches_gets_one_strike() -> None:
    """Batches that were created before the circuit opened do not open it again."""
    opened = fail(fail(Circuit(), NOW), NOW)
    for _ in range(20):
        assert fail(opened, NOW + 5, created_at_ms=NOW - 60_000) == opened


@given(probes=st.integers(0, 40))
def test_failed_probes_double_the_pause(probes: int) -> None:
    """Each failed probe waits twice as long for the next, up to the longest pause."""
    now, circuit = NOW, fail(fail(Circuit(), NOW), NOW)
    for n in range(probes):
        now = circuit.until_ms
        circuit = fail(circuits.probed(circuit, now_ms=now), now)
        assert circuit.until_ms - now == int(min(OPEN_MAX_S, OPEN_FIRST_S * 2 ** (n + 1)) * 1000)
        assert circuit.probe_at_ms == 0


def test_a_stall_opens_once() -> None:
    """The watchdog's finding opens a circuit and does not prolong one that is open."""
    opened = circuits.stalled(Circuit(), now_ms=NOW)
    assert opened.admission(NOW) is Admission.NOTHING
    assert circuits.stalled(opened, now_ms=NOW + 9) is opened


def activity(*, silent_s: float, is_counting: bool = False, in_flight: int = 3) -> Activity:
    return Activity(
        name="a", in_flight=in_flight, silent_s=silent_s, residence_s=3_000.0, is_counting=is_counting
    )


def test_silence_is_judged_against_peers_and_habit() -> None:
    """Silence is a stall when it is long for this deployment, something is there, and others do move."""
    assert is_stalled(activity(silent_s=6_001.0), 60.0)
    assert not is_stalled(activity(silent_s=5_999.0), 60.0)
    assert is_stalled(activity(silent_s=SILENT_MIN_S + 1, is_counting=True), 60.0)
    assert not is_stalled(activity(silent_s=10**6), SILENT_MIN_S + 1)
    assert not is_stalled(activity(silent_s=10**6, in_flight=0), 60.0)


def test_a_refusal_caps_and_success_beyond_uncaps() -> None:
    """After a refusal no more is held than then, for a while; whatever is accepted beyond that ends the belief."""
    capped = quota.refused(SharedLimit(), held_tokens=600, now_ms=NOW, first_s=60.0)
    assert capped.limit_tokens(1_000, NOW) == 600
    assert capped.limit_tokens(500, NOW) == 500
    assert capped.limit_tokens(1_000, NOW + 60_000) == 1_000
    assert quota.accepted(capped, held_tokens=600) is capped
    freed = quota.accepted(capped, held_tokens=601)
    assert freed.limit_tokens(1_000, NOW) == 1_000


@given(held=st.lists(st.integers(0, 10**9), max_size=30), usable=st.integers(1, 10**9))
def test_refusals_never_raise_a_limit(held: list[int], usable: int) -> None:
    """Whatever is refused, the limit stays within the quota, and a belief lasts at most five minutes."""
    shared, now = SharedLimit(), NOW
    for tokens in held:
        shared = quota.refused(shared, held_tokens=tokens, now_ms=now, first_s=60.0)
        assert 0 <= shared.limit_tokens(usable, now) <= usable
        assert 60_000 <= shared.until_ms - now <= 300_000
        now = shared.until_ms


TOKENS = st.integers(0, 10**9)


@given(held=TOKENS, others=TOKENS, free=TOKENS)
def test_headers_tell_what_others_hold(held: int, others: int, free: int) -> None:
    """What the headers leave free is added to our own, for as long as they are believed."""
    quota_tokens = held + others + free
    known = quota.told(
        SharedLimit(strikes=2),
        held_tokens=held,
        enqueued_tokens=held + others,
        enqueued_tokens_max=quota_tokens,
        now_ms=NOW,
    )
    assert known.limit_tokens(quota_tokens, NOW + int(HEADERS_S * 1000) - 1) == quota_tokens - others
    assert known.limit_tokens(quota_tokens, NOW + int(HEADERS_S * 1000)) == quota_tokens
    assert (known.cap_tokens < 0) is (others == 0)
    assert known.strikes == 2


@given(file=TOKENS, more=TOKENS, free=TOKENS)
def test_headers_that_count_one_file_limit_nothing(file: int, more: int, free: int) -> None:
    """Where `deployment-enqueued-tokens` is of the file alone, the whole quota stays ours to use."""
    quota_tokens = file + more + free
    known = quota.told(
        SharedLimit(),
        held_tokens=file + more,
        enqueued_tokens=file,
        enqueued_tokens_max=quota_tokens,
        now_ms=NOW,
    )
    assert known.limit_tokens(quota_tokens, NOW) == quota_tokens


def test_only_progress_ends_a_stall() -> None:
    """A batch that starts at a deployment that stalls is no proof that batches get further there; progress is."""
    stalled = Knowledge(signs=Signs(changed_at_ms=1, is_stalled=True))
    started = moved(stalled, now_ms=2, is_counting=False, gets_on=False)
    assert started.signs == Signs(changed_at_ms=2, is_stalled=True)
    assert not moved(started, now_ms=3, is_counting=True).signs.is_stalled
    assert not moved(started, now_ms=3, is_counting=False).signs.is_stalled
