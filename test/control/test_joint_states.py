"""Joint states of several publishers are one state, with an age for each joint."""

from __future__ import annotations

from vla_pruner_ros.control.joint_states import (
    MAX_JOINTS,
    JointStates,
    as_vector,
    describe_silence,
    oldest_stamp,
)


def test_arm_and_gripper_publish_apart():
    states = JointStates()
    states.store(["a", "b"], [0.1, 0.2], 10.0, 1000)
    states.store(["finger"], [0.04], 10.5, 1500)
    states.store(["b"], [0.3], 11.0, 2000)
    assert states.positions() == {"a": 0.1, "b": 0.3, "finger": 0.04}
    readings = states.readings(["finger", "b", "elsewhere"])
    assert as_vector(readings, ["b", "finger"]).tolist() == [0.3, 0.04]
    assert oldest_stamp(readings.values()) == 1500


def test_each_joint_has_an_age_of_its_own():
    states = JointStates()
    states.store(["a", "b"], [0.1, 0.2], 10.0)
    states.store(["finger"], [0.04], 10.4)
    assert states.silent(["a", "finger"], 10.5, 0.2) == ["a"]
    assert states.silent(["a", "finger"], 10.5, 0.6) == []
    sentence = describe_silence(["a", "finger", "missing"], states, 10.7, 0.2)
    assert "a (0.70 s old), finger (0.30 s old), missing (never)" in sentence
    assert "max_state_age 0.20 s" in sentence
    assert describe_silence(["finger"], states, 10.5, 0.2) == ""


def test_a_message_of_uneven_length_changes_nothing():
    states = JointStates()
    assert not states.store(["a", "b"], [0.1], 10.0)
    assert states.positions() == {}


def test_a_message_without_positions_is_no_fault():
    states = JointStates()
    assert states.store(["a"], [], 10.0)
    assert states.positions() == {}


def test_names_without_end_do_not_fill_the_memory():
    states = JointStates()
    states.store(["kept"], [1.0], 1.0)
    states.store([f"joint_{n}" for n in range(2 * MAX_JOINTS)], [0.0] * 2 * MAX_JOINTS, 2.0)
    states.store(["kept"], [2.0], 3.0)
    assert len(states.positions()) == MAX_JOINTS
    assert states.positions()["kept"] == 2.0


def test_nothing_is_left_after_clear():
    states = JointStates()
    states.store(["a"], [1.0], 1.0)
    states.clear()
    assert states.silent(["a"], 1.0, 10.0) == ["a"]


def test_a_reading_that_is_repeated_keeps_its_first_arrival():
    states = JointStates()
    states.store(["a", "b"], [0.1, 0.2], 10.0, 1000)
    states.store(["a"], [0.1], 10.3, 1000)
    states.store(["b"], [0.2], 10.4, 1001)
    readings = states.readings(["a", "b"])
    assert (readings["a"].arrival, readings["a"].first) == (10.3, 10.0)
    assert (readings["b"].arrival, readings["b"].first) == (10.4, 10.4)
    states.store(["b"], [0.2], 10.5)
    states.store(["b"], [0.2], 10.6)  # without stamps nobody knows
    assert states.readings(["b"])["b"].first == 10.6
