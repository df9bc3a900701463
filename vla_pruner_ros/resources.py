"""Places of the package's shared data: config/, launch/, msg/, policies/."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

PACKAGE = "vla_pruner_ros"


def share_directory() -> Path:
    """Return the directory that holds config/, launch/ and msg/.

    Searches where colcon installs it (AMENT_PREFIX_PATH), where pip does, then in a source tree.

    Raises:
        FileNotFoundError: none of these places has it.
    """
    for candidate in _candidates():
        if (candidate / "msg" / "PruningStatus.msg").is_file():
            return candidate
    raise FileNotFoundError(
        f"The shared data of {PACKAGE} was not found; source the workspace's setup file or "
        "reinstall the package."
    )


def package_version() -> str:
    """Return the version that package.xml gives, which is the one place that holds it."""
    text = (share_directory() / "package.xml").read_text("utf-8")
    found = re.search(r"<version>([^<]+)</version>", text)
    return found[1] if found else "unknown"


def _candidates() -> list[Path]:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    installed = [Path(prefix) / "share" / PACKAGE for prefix in prefixes if prefix]
    by_pip = Path(sysconfig.get_path("data")) / "share" / PACKAGE
    source_tree = Path(__file__).resolve().parents[1]
    return [*installed, by_pip, source_tree]


SIMULATION_POLICY = "openvla_oft_small"
"""Folder below policies/ of the policy that runs in the simulator by default."""


POLICIES = (SIMULATION_POLICY, "openvla_small")
"""All of them, the best first."""


def policy_directory(name: str) -> Path | None:
    """Return the folder of a bundled policy; None if there is none of this name."""
    policies = share_directory() / "policies"
    directory = policies / name
    if directory.parent != policies:  # a path, perhaps an absolute one, is no name
        return None
    return directory if (directory / "config.json").is_file() else None
