"""The bound under which a download is given up."""

from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.azure.pace import BYTES_PER_S_MIN, WINDOW_S, Pace
from tests.support.clock import ManualClock


@given(st.integers(1, 1_000_000), st.integers(1, 50))
def test_a_steady_stream_lives_or_dies_by_its_rate(rate: int, gap_s: int) -> None:
    """Over a few windows a steady stream is refused exactly if it is slower than the bound, whatever its pieces."""
    clock = ManualClock()
    pace = Pace(clock)
    verdicts = []
    for _ in range(int(3 * WINDOW_S / gap_s) + 3):
        pace.wait()
        clock.advance(gap_s)
        verdicts.append(pace.came(rate * gap_s))
    assert all(verdicts) is (rate >= BYTES_PER_S_MIN)
