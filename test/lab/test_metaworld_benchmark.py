"""vla-eval runs the simulated robot under a bundled policy on the server: the whole chain."""

from __future__ import annotations

import pytest

pytest.importorskip("vla_eval", reason="vla-eval is not installed: make setup brings it")
pytest.importorskip("metaworld", reason="MetaWorld is not installed: no simulated robot")

import vla_eval.api
from serving_helpers import served

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import SIMULATION_POLICY
from vla_pruner_ros.serving.vla_eval import VlaEval
from vla_pruner_ros.sim.backend import SimulatorMissingError

BENCHMARK = "vla_pruner_lab.serving.metaworld_benchmark:MetaWorldBenchmark"


def evaluate(url: str, output, **benchmark) -> dict:
    entry = {"benchmark": BENCHMARK, "name": "metaworld", "episodes_per_task": 1, **benchmark}
    config = {"server": {"url": url}, "output_dir": str(output), "benchmarks": [entry]}
    (result,) = vla_eval.api.run(config)
    return result


def test_a_bundled_policy_does_its_task_through_server_and_harness(tmp_path):
    try:
        import vla_pruner_ros.sim.robot  # noqa: F401
    except SimulatorMissingError as error:
        pytest.skip(str(error))
    policy = load_policy(
        SIMULATION_POLICY, num_cameras=2, pruning=PruningConfig(history_fill="semantic")
    )
    with served(policy, VlaEval(), robot="metaworld", max_gap=60.0, execute_steps=4) as running:
        url = f"{running.url}/?keep_ratio=0.5"
        result = evaluate(url, tmp_path)
    (task,) = result["tasks"]
    assert result["num_errors"] == 0
    assert task["episodes"][0]["metrics"]["success"] is True
    assert 1 <= task["avg_steps"] < 70
    assert result["server_info"]["vla_pruner"]["trained"] is True
