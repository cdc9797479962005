"""Lines of a kind are left out past a rate, and the next one says how many."""

from gateway.telemetry.sampling import PER_SECOND, Sampler


def test_each_kind_has_its_rate_and_says_how_many_were_left_out() -> None:
    now = 0.0
    sampler = Sampler(lambda: now)
    assert [sampler.admit("a", "b") for _ in range(PER_SECOND)] == [0] * PER_SECOND
    assert [sampler.admit("a", "b") for _ in range(7)] == [None] * 7
    assert sampler.admit("a", "c") == 0
    now = 1.0
    assert [sampler.admit("a", "b") for _ in range(2)] == [7, 0]
