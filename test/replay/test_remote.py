"""A bag replayed through a policy on a server."""

from __future__ import annotations

import json

from replay_bags import MemoryPolicy
from replay_helpers import recorded
from serving_helpers import served

from vla_pruner_ros.replay import cli


class Servable(MemoryPolicy):
    def save_history(self) -> list[float]:
        return list(self.history)

    def restore_history(self, saved: list[float] | None) -> None:
        self.history = list(saved or [])


def test_a_replay_over_the_network_equals_the_recording(tmp_path):
    recorded(tmp_path)
    with served(Servable(), robot="widowx_bridge", max_gap=60.0) as running:
        arguments = ["--checkpoint", running.url, "--out", str(tmp_path / "out"), "--quiet"]
        status = cli.main([str(tmp_path / "bag"), *arguments, "--require-parity"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert status == 0
    assert summary["parity"]["holds"] is True
