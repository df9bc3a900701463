"""Check that a profile fits a checkpoint, by the checkpoint's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from vla_pruner_ros.robots.profile import RobotProfile


@dataclass(frozen=True)
class CheckpointLayout:
    """Names and sizes of a checkpoint's numbers; a name list is empty if the files lack it.

    action_dim, state_dim: widths after un-normalising, state_dim 0 without a state.
    camera_names: in the model's order. relative: one a number of the action, True if the policy
    itself adds the state to it; empty: to none.
    """

    action_dim: int
    state_dim: int = 0
    num_cameras: int = 1
    action_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    camera_names: tuple[str, ...] = ()
    relative: tuple[bool, ...] = ()

    @staticmethod
    def of(policy: Any, width: int) -> CheckpointLayout:
        """Return the layout that a loaded policy reports; width: numbers of one action."""
        spec = getattr(policy, "spec", policy)

        def listed(field: str) -> tuple:
            return tuple(getattr(spec, field, None) or ())

        return CheckpointLayout(
            action_dim=width,
            state_dim=policy.state_dim,
            num_cameras=policy.num_cameras,
            action_names=listed("action_names"),
            state_names=listed("state_names"),
            camera_names=listed("camera_names"),
            relative=listed("relative_actions"),
        )


def mismatches(profile: RobotProfile, checkpoint: CheckpointLayout) -> list[str]:
    """Compare a profile with a checkpoint; return a sentence for each difference.

    A profile may name more cameras than the policy sees: the first ones are used.
    """
    return [
        *_action(profile, checkpoint),
        *_state(profile, checkpoint),
        *_cameras(profile, checkpoint),
        *_relative(profile, checkpoint),
    ]


def _action(profile: RobotProfile, checkpoint: CheckpointLayout) -> list[str]:
    if profile.action_dim != checkpoint.action_dim:
        given = _listed(checkpoint.action_names) or "names not given"
        return [
            f"the checkpoint gives {checkpoint.action_dim} action numbers ({given}), but profile "
            f"{profile.name} explains {profile.action_dim} ({_listed(profile.action_names)})"
        ]
    return _names("action", profile.name, checkpoint.action_names, profile.action_names)


def _state(profile: RobotProfile, checkpoint: CheckpointLayout) -> list[str]:
    if not checkpoint.state_dim or not profile.state:
        return []
    if profile.state_dim != checkpoint.state_dim:
        given = _listed(checkpoint.state_names) or "names not given"
        return [
            f"the checkpoint takes {checkpoint.state_dim} state numbers ({given}), but profile "
            f"{profile.name} gives {profile.state_dim} ({_listed(profile.state_names)})"
        ]
    return _names("state", profile.name, checkpoint.state_names, profile.state_names)


def _cameras(profile: RobotProfile, checkpoint: CheckpointLayout) -> list[str]:
    names = tuple(camera.name for camera in profile.cameras)
    given = f" ({_listed(checkpoint.camera_names)})" if checkpoint.camera_names else ""
    if names and checkpoint.num_cameras > len(names):
        return [
            f"the checkpoint sees {checkpoint.num_cameras} cameras{given}, but profile "
            f"{profile.name} names {len(names)} ({_listed(names)})"
        ]
    seen = tuple(map(short_camera, checkpoint.camera_names))
    if set(seen) <= set(names):
        return []  # with_cameras_of brings them into order
    moved = [n for place, n in enumerate(names) if n in seen and seen.index(n) != place]
    if not moved:
        return []
    return [
        f"the checkpoint's cameras are{given}, but profile {profile.name} has {_listed(names)}: "
        f"{_listed(moved)} would be taken for another one; name the cameras as the checkpoint does"
    ]


def short_camera(name: str) -> str:
    """Return a camera's own name: cam_high of LeRobot's observation.images.cam_high."""
    return name.rpartition(".")[2]


def with_cameras_of(profile: RobotProfile, checkpoint: CheckpointLayout) -> RobotProfile:
    """Return the profile with the cameras that a checkpoint names, in the checkpoint's order.

    A robot has more cameras than some of its policies see, and the order is the policy's: an ALOHA
    policy of three cameras leaves out the second one of four. A profile that does not know every
    one of the names stays as it is.
    """
    own = {camera.name: camera for camera in profile.cameras}
    seen = tuple(map(short_camera, checkpoint.camera_names))
    if not seen or not set(seen) <= own.keys():
        return profile
    return replace(profile, cameras=tuple(own[name] for name in seen))


def _relative(profile: RobotProfile, checkpoint: CheckpointLayout) -> list[str]:
    """The policy adds the state to its actions already, so that the profile must not do it too."""
    relative = dict(zip(profile.action_names, checkpoint.relative, strict=False))
    doubled = [
        name
        for part in profile.action
        if part.relative_to_state
        for name in part.names
        if relative.get(name)
    ]
    if not doubled:
        return []
    return [
        f"the checkpoint's use_relative_actions already adds the state to {_listed(doubled)}; "
        f"remove relative_to_state from profile {profile.name}"
    ]


def _names(what: str, profile: str, given: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    if not given or given == known:
        return []
    return [
        f"the checkpoint's {what} numbers are {_listed(given)}, but profile {profile} has "
        f"{_listed(known)}"
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
