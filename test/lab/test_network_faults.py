"""The faulty server of the network study: its honest answers are taken, its lies are refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("websockets", reason="websockets is not installed: no server")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: no server")

from vla_pruner_lab.reliability.network.faulty_server import FAULTS, FaultyServer
from vla_pruner_lab.reliability.network.network_faults import Found, section
from vla_pruner_ros.models.policy import Observation, PolicyError
from vla_pruner_ros.serving.client.address import RemoteOptions
from vla_pruner_ros.serving.client.policy import RemotePolicy

SEEN = Observation([np.zeros((24, 32, 3), np.uint8)], "lift the cup")


@pytest.fixture
def server():
    made = FaultyServer(chunk=4)
    yield made
    made.over.set()
    made.vanish()


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if "five numbers" not in fault.name],  # the node refuses those
    ids=lambda fault: fault.name,
)
def test_a_fault_fails_and_its_end_is_the_end_of_it(server, fault):
    policy = RemotePolicy(f"ws://127.0.0.1:{server.port}", RemoteOptions(timeout=1.0))
    try:
        assert policy.act(SEEN).actions.shape == (4, 7)
        fault.begin(server)
        with pytest.raises(PolicyError):
            policy.act(SEEN)
        server.fault = None
        server.over.set()
        fault.end(server)
        for _ in range(3):  # a connection that was cut meanwhile fails once more
            try:
                chunk = policy.act(SEEN)
                break
            except PolicyError:
                continue
        assert chunk.actions.shape == (4, 7)
        assert np.isfinite(chunk.actions).all()
    finally:
        policy.close()


def test_the_page_names_every_fault_with_its_median_and_largest():
    found = {
        chunk: {fault.name: Found([0.1, 0.3, 0.2], [0.5, 0.5, 0.5], held=1) for fault in FAULTS}
        for chunk in (1, 8)
    }
    text = section(found, "a command")
    for fault in FAULTS:
        assert f"| {fault.name} | 0.20 s, 0.30 s | 0.20 s, 0.30 s | 2 of 6 | 0.50 s |" in text
    assert "3 times for 3 s" in text
