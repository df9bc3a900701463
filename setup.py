"""Lays the package's data next to the modules; everything else is declared in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

SHARED = ("config", "launch", "msg", "policies", "security")


def version() -> str:
    """Return the version of package.xml, which is the one place that holds it."""
    return re.search(r"<version>([^<]+)</version>", Path("package.xml").read_text())[1]


def data_files() -> list[tuple[str, list[str]]]:
    """Return (directory below share/vla_pruner_ros, files) pairs for everything under SHARED."""
    by_directory: dict[str, list[str]] = {"share/vla_pruner_ros": ["package.xml"]}
    files = (path for top in SHARED for path in Path(top).rglob("*") if path.is_file())
    for path in files:
        if "__pycache__" not in path.parts:
            directory = f"share/vla_pruner_ros/{path.parent.as_posix()}"
            by_directory.setdefault(directory, []).append(path.as_posix())
    return sorted(by_directory.items())


setup(version=version(), data_files=data_files())
