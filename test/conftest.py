"""Keeps everything the tests start on loopback, and lets the soak run next to other tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from hypothesis import settings

CLAIMS: list[IO] = []
"""Open while this run lasts."""


def claim_domain() -> int:
    """Return a ROS domain that no other test run on this machine uses.

    Two runs that heard each other would fail at random. Up to domain 100 DDS stays below the ports
    that Linux hands out by itself.
    """
    for number in range(100, 0, -1):
        path = Path(tempfile.gettempdir()) / f"vla_pruner_ros_test_domain_{number}"
        try:
            claim = path.open("w")
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another run's, or another user's
            continue
        CLAIMS.append(claim)
        return number
    raise RuntimeError("All ROS domains from 1 to 100 are in use by other test runs")


os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ.setdefault("MUJOCO_GL", "osmesa")

# A busy machine must not fail a property.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(scope="module")
def one_thread():
    """torch on one thread: models as small as the tests' lose time on two, and wait for each other
    and for whatever else runs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    command = [sys.executable, "-m", "vla_pruner_lab.reliability.soak", "--json", str(report)]
    command += ["--minutes", str(SOAK_MINUTES), "--domain", str(claim_domain())]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder.name, stdout=output, stderr=subprocess.STDOUT
        )
    session.config.add_cleanup(process.kill)
    session.stash[SOAK] = Soak(process, report, log)


REALTIME = (
    "nodes",
    "sim/test_realtime",
    "lab/test_demo_system",
    "lab/test_soak",
    "replay/test_families",
)
"""Folders and files whose tests talk over DDS or run against the clock."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of REALTIME, and repeat once what fails of all that are marked so."""
    root = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(root).with_suffix("").as_posix()
        if place.startswith(REALTIME):
            item.add_marker("realtime")
        if item.get_closest_marker("realtime"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin the soak with the tests of the models: they take a minute as well, and no DDS."""
    if item.path.parent.name == "models":
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


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory) -> Path:
    """Folder with one episode of drawer-close."""
    from vla_pruner_lab.demonstrations.collect import CollectionSettings, collect

    folder = tmp_path_factory.mktemp("demonstrations")
    collect(
        folder,
        ("drawer-close",),
        1,
        CollectionSettings(image_size=112, episodes_per_shard=1),
        workers=1,
    )
    return folder
