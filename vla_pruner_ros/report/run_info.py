"""Facts that make a result comparable: date, command, machine, load, versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vla_pruner_ros.resources import package_version

LIBRARIES = ("torch", "transformers", "numpy")


def run_info(program: str) -> dict[str, str]:
    """Return name -> value about this run.

    Args:
        program: as it is called; the arguments of this process are added.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": shlex.join([program, *sys.argv[1:]]),
        "machine": f"{processor()}, {cores} cores, {platform.system()}",
        "load average": f"{os.getloadavg()[0]:.1f} (all programs, on {cores} cores)",
        "versions": ", ".join(
            [f"vla_pruner_ros {package_version()}", f"Python {platform.python_version()}"]
            + [f"{name} {_version(name)}" for name in LIBRARIES]
        ),
    }


def processor() -> str:
    """Return the processor's name as the kernel gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
