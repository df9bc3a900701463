"""Limits of joint targets, and guards before and between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.control.limits import NotFiniteError
from vla_pruner_ros.robots.profile import JointLimits


class JumpError(ValueError):
    """Error of a chunk that starts too far from the joints' positions; none of it is
    carried out.
    """


class ImplausibleError(ValueError):
    """Error of joints that are measured where they cannot be; nothing starts from there."""


@dataclass(frozen=True)
class JointBounds:
    """The limits of all commanded joints at one control rate.

    low, high: [joints] positions (rad or m). step: [joints] largest change from one action to the
    next. jump: largest distance of a chunk's first target from the measured position.
    """

    names: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    step: np.ndarray
    jump: float

    @staticmethod
    def combined(
        names: Sequence[str],
        sources: Sequence[Mapping[str, JointLimits]],
        max_velocity: float,
        jump: float,
        period: float,
    ) -> JointBounds:
        """Combine limits; of several values of one kind the narrowest holds.

        Args:
            names: commanded joints, in order.
            sources: limits by joint name, of the profile and of the robot's URDF.
            max_velocity: of every joint (rad/s or m/s).
            jump: see the class.
            period: time of one action (s).

        Raises:
            ValueError: a joint has no position limits, or none that leave room; names the joints.
        """
        found = [[s[name] for s in sources if name in s] for name in names]
        low = [max([j.min for j in one if j.min is not None], default=-np.inf) for one in found]
        high = [min([j.max for j in one if j.max is not None], default=np.inf) for one in found]
        _check_ranges(names, sources, low, high)
        step = [
            min(
                [period * v for v in (max_velocity, *_known(one, "max_velocity"))]
                + _known(one, "max_step")
            )
            for one in found
        ]
        return JointBounds(tuple(names), np.array(low), np.array(high), np.array(step), jump)

    def check_measured(self, measured: np.ndarray) -> None:
        """Compare measured positions [joints] with the limits.

        An arm may rest a little outside of its limits. Positions further out than a jump are a
        fault of a sensor, a driver or a unit: what starts from them would be commanded out there.

        Raises:
            ImplausibleError: names the joint that is measured furthest out.
        """
        outside = np.maximum(self.low - measured, measured - self.high)
        worst = int(np.argmax(outside))
        if outside[worst] > self.jump:
            raise ImplausibleError(
                f"Joint {self.names[worst]} is measured at {measured[worst]:.3f}, outside of its "
                f"limits {self.low[worst]:.3f} to {self.high[worst]:.3f} by more than max_jump "
                f"{self.jump:.3f}: motion stops. Check the driver's units and the limits"
            )

    def check_jump(self, target: np.ndarray, measured: np.ndarray) -> None:
        """Compare a chunk's first target with the joints as measured, both [joints].

        Raises:
            NotFiniteError: a target is NaN or infinite.
            JumpError: a joint would have to jump; names it and the distance.
        """
        _check_finite(self.names, target)
        distance = np.abs(target - measured)
        worst = int(np.argmax(distance))
        if distance[worst] > self.jump:
            raise JumpError(
                f"The next target of joint {self.names[worst]} is {distance[worst]:.3f} away from "
                f"its measured position, more than max_jump {self.jump:.3f}: the chunk is dropped. "
                "Check units, signs and the order of the joints in the robot's profile"
            )

    def apply(self, target: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Limit one target.

        Args:
            target: [joints] commanded positions (rad or m).
            before: [joints] the last commanded positions, or the measured ones before the first.

        Returns:
            The positions to command, and the names of the limits met (joint_position, joint_step).
            A joint outside its range moves back into it by steps, and never further out.

        Raises:
            NotFiniteError: a target is NaN or infinite.
        """
        _check_finite(self.names, target)
        inside = np.clip(target, self.low, self.high)
        limited = np.clip(inside, before - self.step, before + self.step)
        met = []
        if np.abs(inside - target).max(initial=0.0) > 1e-9:
            met.append("joint_position")
        if np.abs(limited - inside).max(initial=0.0) > 1e-9:
            met.append("joint_step")
        return limited, met

    def apply_all(self, targets: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Limit targets [steps, joints] one after the other; see apply."""
        limited, met = np.empty_like(targets, dtype=np.float64), []
        for step, target in enumerate(targets):
            before, hit = self.apply(target, before)
            limited[step] = before
            met += hit
        return limited, met


def limit_opening(target: float, last: float | None, max_step: float) -> tuple[float, bool]:
    """Limit a gripper's opening.

    Args:
        target: commanded opening; values outside 0..1 are cut.
        last: the last commanded opening, None before the first.
        max_step: largest change.

    Returns:
        The opening to command and whether a limit was met.

    Raises:
        NotFiniteError: the target is NaN or infinite.
    """
    if not np.isfinite(target):
        raise NotFiniteError(f"The gripper's opening is not finite: {target}")
    low = 0.0 if last is None else max(0.0, last - max_step)
    high = 1.0 if last is None else min(1.0, last + max_step)
    limited = min(max(float(target), low), high)
    return limited, abs(limited - target) > 1e-6


def _check_finite(names: tuple[str, ...], target: np.ndarray) -> None:
    if not np.isfinite(target).all():
        bad = [n for n, value in zip(names, target, strict=True) if not np.isfinite(value)]
        raise NotFiniteError(f"The targets of joints {', '.join(bad)} are not finite")


def _check_ranges(
    names: Sequence[str],
    sources: Sequence[Mapping[str, JointLimits]],
    low: list[float],
    high: list[float],
) -> None:
    unknown = [name for name in names if not any(name in source for source in sources)]
    if unknown:
        raise ValueError(
            f"There are no limits for joints {', '.join(unknown)}: add them to the robot's "
            "profile, or publish the robot's URDF on robot_description"
        )
    shut = [n for n, a, b in zip(names, low, high, strict=True) if not a < b]
    if shut:
        raise ValueError(
            f"Profile and URDF leave no range for joints {', '.join(shut)}: their limits exclude "
            "each other; check names and units"
        )


def _known(limits: list[JointLimits], field: str) -> list[float]:
    return [value for one in limits if (value := getattr(one, field)) is not None]
