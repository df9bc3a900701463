"""The bundled profiles by name, and any other by its file."""

from __future__ import annotations

from pathlib import Path

from vla_pruner_ros.resources import share_directory
from vla_pruner_ros.robots.parsing import read_profile
from vla_pruner_ros.robots.profile import RobotProfile
from vla_pruner_ros.robots.yaml_reader import ProfileError


def bundled_profiles() -> tuple[str, ...]:
    """Return the names of the profiles in config/robots/, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def load_profile(robot: str) -> RobotProfile:
    """Load a robot profile.

    Args:
        robot: a bundled name such as franka_libero, or the path of a YAML file.

    Raises:
        ProfileError: there is no such profile, or it is wrong; with file and line.
    """
    if robot in bundled_profiles():
        return read_profile(_folder() / f"{robot}.yaml")
    path = Path(robot).expanduser()
    if path.is_file():
        return read_profile(path)
    raise ProfileError(
        f"robot {robot!r} is neither a file nor a bundled profile "
        f"({', '.join(bundled_profiles())}); docs/how-to/robot_profile.md shows how to write one"
    )


def _folder() -> Path:
    return share_directory() / "config" / "robots"
