"""Keeps everything the tests start on loopback, and repeats what fails in real time."""

from __future__ import annotations

import fcntl
import os
import tempfile
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
if "PYTEST_XDIST_WORKER" in os.environ:
    # The processes of one run share the cores; read by torch when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The choice of tokens in torch's own operations, without what only a CPU can afford."""
    from vla_pruner_ros.pruning import diversity, token_selection

    monkeypatch.setattr(diversity, "_greedy_numpy", diversity.greedy_torch)
    monkeypatch.setattr(diversity, "_extend_on_cpu", diversity.extend_on_device)
    monkeypatch.setattr(diversity, "_check", lambda features, k, candidates: None)
    monkeypatch.setattr(token_selection, "slots_on_cpu", token_selection.slots_on_device)


REALTIME = (
    "nodes",
    "sim/test_realtime",
    "lab/test_demo_system",
    "lab/test_soak",
    "replay/test_families",
)
"""Folders and files whose tests talk over DDS or run against the clock."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of REALTIME, and repeat once what fails of all that are marked so.

    They come first, the soak before all: they wait more than they compute, and tests of another
    process (pytest -n) use the time.
    """
    root = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(root).with_suffix("").as_posix()
        if place.startswith(REALTIME):
            item.add_marker("realtime")
        if item.get_closest_marker("realtime"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=lambda item: (item.path.stem != "test_soak", "realtime" not in item.keywords))


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
