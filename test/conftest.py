"""Keeps everything the tests start on loopback, and lets the soak run beside other tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
# Two test runs on one machine must not hear each other. Up to 101 DDS stays below the ports that
# Linux hands out by itself.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ.setdefault("MUJOCO_GL", "osmesa")

# A busy machine must not fail a property.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

SOAK_MINUTES = 1.0


@dataclass
class Soak:
    """A soak test under way, in a process of its own that writes `report` and `log`."""

    process: subprocess.Popen
    report: Path
    log: Path


SOAK = pytest.StashKey[Soak]()


def begin_soak(session: pytest.Session) -> None:
    if SOAK in session.stash:
        return
    folder = tempfile.TemporaryDirectory(prefix="soak")
    session.config.add_cleanup(folder.cleanup)
    report, log = (Path(folder.name) / name for name in ("soak.json", "log"))
    command = [sys.executable, "-m", "vla_pruner_ros.evaluation.soak", "--json", str(report)]
    command += ["--minutes", str(SOAK_MINUTES), "--domain", str(1 + (os.getpid() + 50) % 100)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder.name, stdout=output, stderr=subprocess.STDOUT
        )
    session.config.add_cleanup(process.kill)
    session.stash[SOAK] = Soak(process, report, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin the soak with the tests of the models: they take a minute as well, and no DDS."""
    if item.path.name.startswith("test_models_"):
        selected = {other.path.name for other in item.session.items}
        if "test_soak.py" in selected:
            begin_soak(item.session)


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> Soak:
    """The soak begun earlier in this run; a new one where it is repeated or runs alone."""
    begin_soak(request.session)
    running = request.session.stash[SOAK]
    del request.session.stash[SOAK]
    return running
