"""Time for motion: it cannot be set back, and it follows a simulation at any speed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.control.clock import MotionClock

SECOND = 10**9


class Clocks:
    """Three clocks that a test sets (s)."""

    def __init__(self, simulated: bool) -> None:
        self.stamp, self.steady, self.simulated = 1000.0, 5.0, simulated
        self.clock = MotionClock(
            lambda: round(self.stamp * SECOND),
            lambda: self.simulated,
            lambda: round(self.steady * SECOND),
        )
        self.clock.read()

    def playback(self) -> float:
        return self.clock.read().playback / SECOND

    def advance(self, steady: float, stamp: float) -> None:
        self.steady += steady
        self.stamp += stamp


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-1e6, 1e6)), max_size=20))
def test_steps_of_the_computers_clock_do_not_reach_motion(moves):
    clocks = Clocks(simulated=False)
    start, passed = clocks.playback(), 0.0
    for steady, stamp in moves:
        clocks.advance(steady, stamp)
        passed += steady
        assert clocks.playback() - start == pytest.approx(passed, abs=1e-6)


@given(st.floats(0.05, 20.0), st.floats(0.001, 0.1))
def test_an_action_keeps_its_length_in_simulated_time_at_every_speed(speed, tick):
    clocks = Clocks(simulated=True)
    start = clocks.playback()
    for _ in range(50):
        clocks.advance(tick / speed, tick)
    assert clocks.playback() - start == pytest.approx(50 * tick, rel=1e-6)


def test_steady_time_goes_on_where_the_simulated_clock_stands():
    clocks = Clocks(simulated=True)
    clocks.advance(0.1, 0.1)
    start = clocks.playback()
    clocks.advance(0.3, 0.0)
    assert clocks.playback() - start == pytest.approx(0.3)
    assert clocks.clock.stood_still() == pytest.approx(0.3)
    clocks.advance(0.01, 0.02)
    assert clocks.clock.stood_still() == 0.0


def test_a_clock_that_is_not_simulated_never_stands_still():
    clocks = Clocks(simulated=False)
    clocks.advance(9.0, 0.0)
    assert clocks.clock.stood_still() == 0.0


@pytest.mark.parametrize(
    ("step", "found"),
    [(-3600.0, True), (-0.01, True), (-0.001, False), (0.0, False), (60.0, False)],
)
def test_a_step_back_is_found_once(step, found):
    clocks = Clocks(simulated=False)
    assert not clocks.clock.stepped_back(), "nothing to compare with yet"
    clocks.advance(0.05, 0.05)
    assert not clocks.clock.stepped_back()
    clocks.advance(0.05, 0.05 + step)
    assert clocks.clock.stepped_back() is found
    clocks.advance(0.05, 0.05)
    assert not clocks.clock.stepped_back()


def test_slewing_is_no_step():
    clocks = Clocks(simulated=False)
    for _ in range(1000):
        clocks.advance(0.05, 0.05 * (1 - 5e-4))
        assert not clocks.clock.stepped_back()


def test_a_thread_that_sleeps_between_two_readings_sees_no_step():
    readings = iter([0, 0, 0, 0, SECOND, 3 * SECOND, 3 * SECOND, 4 * SECOND, 4 * SECOND])
    stamps = iter([0, SECOND, 4 * SECOND])
    clock = MotionClock(lambda: next(stamps), lambda: False, lambda: next(readings))
    assert not clock.stepped_back()
    assert not clock.stepped_back()
    assert not clock.stepped_back()
