"""Check that a profile fits a checkpoint, by the checkpoint's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vla_pruner_ros.robots.profile import RobotProfile


@dataclass(frozen=True)
class CheckpointLayout:
    """Names and sizes of a checkpoint's numbers; a name list is empty if the files lack it.

    action_dim, state_dim: widths after un-normalising, state_dim 0 without a state.
    camera_names: in the model's order. relative: the policy itself adds the state to its actions,
    except to dimensions whose name contains an entry of relative_excluded.
    """

    action_dim: int
    state_dim: int = 0
    num_cameras: int = 1
    action_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    camera_names: tuple[str, ...] = ()
    relative: bool = False
    relative_excluded: tuple[str, ...] = ()


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
    if names and checkpoint.num_cameras > len(names):
        given = f" ({_listed(checkpoint.camera_names)})" if checkpoint.camera_names else ""
        return [
            f"the checkpoint sees {checkpoint.num_cameras} cameras{given}, but profile "
            f"{profile.name} names {len(names)} ({_listed(names)})"
        ]
    return []


def _relative(profile: RobotProfile, checkpoint: CheckpointLayout) -> list[str]:
    """The policy adds the state to its actions already, so that the profile must not do it too."""
    doubled = [
        name
        for part in profile.action
        if part.relative_to_state
        for name in part.names
        if checkpoint.relative and not _excluded(name, checkpoint)
    ]
    if not doubled:
        return []
    return [
        f"the checkpoint's use_relative_actions already adds the state to {_listed(doubled)}; "
        f"remove relative_to_state from profile {profile.name}"
    ]


def _excluded(name: str, checkpoint: CheckpointLayout) -> bool:
    return any(part.lower() in name.lower() for part in checkpoint.relative_excluded)


def _names(what: str, profile: str, given: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    if not given or given == known:
        return []
    return [
        f"the checkpoint's {what} numbers are {_listed(given)}, but profile {profile} has "
        f"{_listed(known)}"
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
