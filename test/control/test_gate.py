"""Nothing passes a closed gate, and nothing old passes an open one."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.control.gate import MotionGate


def may_pass(gate: MotionGate, epoch: int) -> bool:
    with gate.passing(epoch) as allowed:
        return allowed


def test_closed_at_first():
    gate = MotionGate()
    assert not gate.is_open
    assert not may_pass(gate, gate.epoch)


@given(st.lists(st.sampled_from(["open", "close", "end_epoch"]), max_size=30))
def test_only_the_epoch_in_force_passes_and_only_while_open(steps):
    gate = MotionGate()
    seen = {gate.epoch}
    for step in steps:
        getattr(gate, step)()
        assert gate.epoch not in seen, "an epoch must never come back"
        assert not any(may_pass(gate, epoch) for epoch in seen)
        assert may_pass(gate, gate.epoch) == gate.is_open
        seen.add(gate.epoch)
    opens = [step for step in steps if step != "end_epoch"]
    assert gate.is_open == (bool(opens) and opens[-1] == "open")


def test_close_waits_for_what_is_passing_and_lets_nothing_after_it():
    gate = MotionGate()
    gate.open()
    epoch, published, inside, finish = gate.epoch, [], threading.Event(), threading.Event()

    def publish():
        with gate.passing(epoch) as allowed:
            inside.set()
            finish.wait(5.0)
            if allowed:
                published.append("action")

    publisher = threading.Thread(target=publish)
    publisher.start()
    inside.wait(5.0)
    closer = threading.Thread(target=lambda: (gate.close(), published.append("closed")))
    closer.start()
    finish.set()
    publisher.join()
    closer.join()
    assert published == ["action", "closed"]
    assert not may_pass(gate, epoch)
