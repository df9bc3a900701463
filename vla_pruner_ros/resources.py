"""Where the package's shared data lies: config/, launch/, msg/, policies/."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

PACKAGE = "vla_pruner_ros"


def share_directory() -> Path:
    """Return the directory that holds config/, launch/ and msg/.

    Looks where colcon installs it (AMENT_PREFIX_PATH), where pip does, then in a source tree.

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


def _candidates() -> list[Path]:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    installed = [Path(prefix) / "share" / PACKAGE for prefix in prefixes if prefix]
    by_pip = Path(sysconfig.get_path("data")) / "share" / PACKAGE
    source_tree = Path(__file__).resolve().parents[1]
    return [*installed, by_pip, source_tree]
