"""Speed of whole steps: what is measured, and what it is compared with."""

from __future__ import annotations

import pytest

from vla_pruner_lab.microbenchmarks import policies


def test_each_turn_is_compared_with_the_unpruned_step_of_the_same_turn():
    # A machine that is three times as slow in the second turn.
    times = {
        ("full", 1.0): [(0.010, 0.008), (0.030, 0.008), (0.011, 0.009)],
        ("fastv", 0.25): [(0.005, 0.004), (0.015, 0.005), (0.010, 0.003)],
    }
    assert policies.rows("small", 5, times) == [
        ["small", "5", "full", "1", "11.0", "1.00", "8.0", "1.00"],
        ["small", "5", "fastv", "0.25", "10.0", "2.00", "4.0", "2.00"],
    ]


def test_every_setting_takes_one_step_a_turn(monkeypatch):
    class Policy:
        family = "small"

        def __init__(self):
            self.seen = []

        def act(self, observation):
            self.seen.append((self.pruning.method, self.pruning.keep_ratio, observation))

    policy, settings = Policy(), [("full", 1.0), ("fastv", 0.25), ("random", 0.5)]
    times = policies.measure(policy, settings, turns=2, seen="image")
    turns = policies.WARM_UP + 2
    assert policy.seen == [(method, ratio, "image") for method, ratio in settings] * turns
    assert {setting: len(spent) for setting, spent in times.items()} == dict.fromkeys(settings, 2)


@pytest.mark.parametrize("name", ["openvla_small", "openvla_oft_small"])
def test_a_bundled_policy_is_measured(name, tmp_path, capsys):
    page = tmp_path / "page.md"
    arguments = [name, "--turns", "1", "--methods", "divprune", "--keep-ratios", "0.125"]
    assert policies.main([*arguments, "--markdown", str(page)]) == 0
    table = [line for line in page.read_text().splitlines() if line.startswith(f"| {name} | 5 |")]
    assert [line.split(" | ")[2:4] for line in table] == [["full", "1"], ["divprune", "0.125"]]
    assert page.read_text().strip() in capsys.readouterr().out
