"""A scripted expert that picks an object and drops it into the basket.

It knows where the objects are. Of the robot it sees the state vector of a policy alone, and it
moves it by displacements in metres and radians: wrong units, signs, frames or gripper numbers in
the profile make it miss.
"""

from __future__ import annotations

import numpy as np

from vla_pruner_lab.libero.arm import LiberoArm
from vla_pruner_ros.robots.rotations import to_matrix

OPEN, CLOSED = 1.0, 0.0
STEP = 0.05
"""Longest displacement of one action (m): LIBERO's controller takes no more."""
TURN = 0.3
"""Largest turn of one action (rad)."""
GAIN = 2.0
"""The compliant arm covers a quarter of a displacement in one action, so it leads it."""
ABOVE, CARRY, DROP = 0.12, 0.32, 0.24
"""Heights (m): over the object before the grasp, over the ground on the way and at the release."""
CLOSE_STEPS, OPEN_STEPS = 15, 15
HAND_HALF_WIDTH, NEEDED_GAP = 0.10, 0.07
"""Reach of the hand along its fingers (m), and what it needs between its middle and a can's."""
GRASP_DEPTH = 0.03
"""Distance (m) below an object's top at which the fingertips close."""


class PickAndPlace:
    """Moves one object into the basket; act() is one control step."""

    def __init__(self, arm: LiberoArm) -> None:
        self._arm = arm
        self._object, self._basket = arm.target(), "basket_1"
        points = arm.outline(self._object)
        self._yaw = narrow_direction(points)
        place = clear_place(points, self._yaw, arm.others(self._object))
        self._grasp = np.append(place, max(points[:, 2].max() - GRASP_DEPTH, 0.01))
        self._phases = self._plan()
        self._phase = next(self._phases)

    def act(self) -> None:
        """Carry out one action."""
        target, opening = self._phase(self._arm.state())
        if target is None:
            self._phase = next(self._phases, self._phase)
            target, opening = self._phase(self._arm.state())
        state = self._arm.state()
        move = np.zeros(3) if target is None else target - state[:3]
        length = float(np.linalg.norm(move)) * GAIN
        move = move * GAIN * min(1.0, STEP / max(length, 1e-9))
        self._arm.move(np.append(move, self._turn(state)), opening)

    def _plan(self):
        above = self._grasp + np.array([0.0, 0.0, ABOVE])
        yield _reach(above, OPEN, 0.01)
        yield _reach(self._grasp, OPEN, 0.006)
        yield _wait(self._grasp, CLOSED, CLOSE_STEPS)
        yield _reach(np.append(self._grasp[:2], CARRY), CLOSED, 0.03)
        basket = self._arm.position_of(self._basket)[:2]
        yield _reach(np.append(basket, CARRY), CLOSED, 0.015)
        yield _reach(np.append(basket, DROP), CLOSED, 0.02)
        yield _wait(np.append(basket, DROP), OPEN, OPEN_STEPS)
        yield _reach(np.append(basket, CARRY), OPEN, 0.0)

    def _turn(self, state: np.ndarray) -> np.ndarray:
        """Return roll, pitch, yaw (rad) that keep the hand down and its fingers across."""
        hand = to_matrix(state[3:6], "axis_angle")
        fingers = hand[:, 1]
        yaw = _half_turn(self._yaw - np.arctan2(fingers[1], fingers[0]))
        # The cross product of where the hand points and where it should, down.
        tilt = np.cross(hand[:, 2], [0.0, 0.0, -1.0])
        return np.clip(np.array([tilt[0], tilt[1], yaw]), -TURN, TURN)


def _reach(target: np.ndarray, opening: float, near: float, patience: int = 60):
    left = [patience]

    def phase(state: np.ndarray):
        left[0] -= 1
        arrived = np.linalg.norm(target - state[:3]) < near or left[0] < 0
        return (None, opening) if arrived else (target, opening)

    return phase


def _wait(target: np.ndarray, opening: float, steps: int):
    left = [steps]

    def phase(_: np.ndarray):
        left[0] -= 1
        return (None if left[0] < 0 else target), opening

    return phase


def _middle(points: np.ndarray) -> np.ndarray:
    return (points[:, :2].min(axis=0) + points[:, :2].max(axis=0)) / 2.0


def narrow_direction(points: np.ndarray) -> float:
    """Return the angle (rad) in the ground's plane along which points [n, 3] spread least."""
    angles = np.linspace(0.0, np.pi, 36, endpoint=False)
    along = points[:, :2] @ np.array([np.cos(angles), np.sin(angles)])
    widths = along.max(axis=0) - along.min(axis=0)
    # Of directions as good as the best, the one that needs the least turning: fingers start at y.
    good = angles[widths < widths.min() + 0.004]
    return float(good[np.argmin(np.abs(good - np.pi / 2))])


def clear_place(points: np.ndarray, yaw: float, others: list[np.ndarray]) -> np.ndarray:
    """Return where to grasp [2] (m): along the object, as far as the hand needs to miss others."""
    fingers = np.array([np.cos(yaw), np.sin(yaw)])
    along = np.array([-fingers[1], fingers[0]])
    middle, spread = _middle(points), points[:, :2] @ along
    reach = max(0.0, (spread.max() - spread.min()) / 2.0 - 0.012)
    shifts = sorted(np.linspace(-reach, reach, 9), key=abs)

    def clearance(place: np.ndarray) -> float:
        gaps = [np.inf]
        for other in others:
            offset = other[:2] - place
            beyond = max(0.0, abs(offset @ fingers) - HAND_HALF_WIDTH)
            gaps.append(float(np.hypot(beyond, offset @ along)))
        return min(gaps)

    places = [middle + shift * along for shift in shifts]
    return next((p for p in places if clearance(p) > NEEDED_GAP), max(places, key=clearance))


def _half_turn(angle: float) -> float:
    """Fingers that are turned by half a turn lie the same way."""
    return (angle + np.pi / 2) % np.pi - np.pi / 2
