"""Every hostile exchange with running servers ends as stated, and other clients are served."""

from __future__ import annotations

import pytest

pytest.importorskip("websockets", reason="websockets is not installed: no server")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: no server")

from vla_pruner_lab.serving.bad_input import all_attacks, carry_out, servers

ATTACKS = all_attacks()
AREAS = list(dict.fromkeys(attack.area for attack in ATTACKS))
GROWTH = 40.0
"""MiB; the largest message that is taken has 32."""


@pytest.fixture(scope="module")
def running():
    with servers() as processes:
        yield processes


@pytest.mark.parametrize("area", AREAS)
def test_outcomes_are_as_stated(running, area):
    attacks = [attack for attack in ATTACKS if attack.area == area]
    found = carry_out(attacks, running)
    assert found.failures == {}
    assert all(process.is_alive for process in running.values())
    asked = [attack for attack in attacks if attack.server != "vla_eval"]
    assert sum(found.other_clients.values()) == len(asked)
    for before, after in found.memory.values():
        assert after - before < GROWTH


def test_there_are_many_cases_with_names_of_their_own():
    names = [(attack.area, attack.name) for attack in ATTACKS]
    assert len(names) == len(set(names)) >= 180
