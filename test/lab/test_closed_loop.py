"""Closed-loop evaluation: pairing, order, resuming, intervals, and the experts as a check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_lab.closed_loop import run as closed_loop
from vla_pruner_lab.closed_loop.experiments import ExperimentConfig, make_episodes, make_experiments
from vla_pruner_lab.closed_loop.records import (
    EpisodeFile,
    aggregate,
    read_episodes,
    relative_success,
    wilson_interval,
)
from vla_pruner_lab.rollout.flops import layer_flops, prompt_flops, reusing_layer_flops
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import METHOD_NAMES, PruningConfig

SHAPE = {"hidden": 32, "layers": 4, "mlp": 64, "vision_width": 32}


def line(**changes) -> dict:
    """One episode as it stands in the file."""
    values = {
        "policy": "small", "method": "full", "keep_ratio": 1.0, "variant": "", "task": "reach",
        "seed": 0, "success": True, "actions": 10, "inferences": 2, "refused": 0,
        "latency_ms": 4.0, "flops": 8.0, "kept": 256.0,
        "semantic_action_overlap": None, "action_overlap": None,
    }  # fmt: skip
    return {**values, **changes}


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_values(successes, episodes, low, high):
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_rate_and_narrows(episodes, data):
    successes = data.draw(st.integers(0, episodes))
    low, high = wilson_interval(successes, episodes)
    assert 0 <= low <= successes / episodes <= high <= 1
    more_low, more_high = wilson_interval(4 * successes, 4 * episodes)
    assert more_high - more_low < high - low


def test_wilson_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no interval"):
        wilson_interval(0, 0)


def test_deciding_experiments_come_first_and_full_runs_once():
    experiments = make_experiments(METHOD_NAMES, closed_loop.DEFAULT_RATIOS, {})
    assert experiments[0] == ExperimentConfig("full", 1.0)
    deciding = {(experiment.method, experiment.keep_ratio) for experiment in experiments[1:9]}
    methods = ("vla_pruner", "fastv", "semantic_only", "divprune")
    assert deciding == {(method, ratio) for method in methods for ratio in (0.25, 0.125)}
    assert len(experiments) == len(set(experiments)) == 1 + (len(METHOD_NAMES) - 1) * 4


def test_token_reuse_is_a_variant_of_the_unpruned_policy_alone():
    kinds = ["static", "gated"]
    experiments = make_experiments(["full", "fastv"], [0.25], {}, token_reuse=kinds)
    assert [(one.method, one.variant) for one in experiments] == [
        ("full", ""),
        ("full", "token_reuse static"),
        ("full", "token_reuse gated"),
        ("fastv", ""),
    ]
    assert experiments[2].config().token_reuse == "gated"


def test_ablations_combine_and_name_only_what_differs():
    varied = {"temporal_window": [1, 3], "token_recovery": ["none", "early_layers"]}
    experiments = make_experiments(["vla_pruner"], [0.125], varied)
    assert {experiment.variant for experiment in experiments} == {
        "",
        "temporal_window 1",
        "token_recovery early_layers",
        "temporal_window 1, token_recovery early_layers",
    }
    assert {experiment.config().temporal_window for experiment in experiments} == {1, 3}


def test_a_preset_is_named_once_and_only_what_differs_from_it():
    experiments = make_experiments(
        ["vla_pruner"], [0.125], {"preset": ["default", "paper"], "coverage": [0.0, 0.25]}
    )
    assert {experiment.variant for experiment in experiments} == {
        "",
        "coverage 0.0",
        "preset paper",
        "preset paper, coverage 0.25",
    }
    assert {
        (experiment.config().preset, experiment.config().coverage) for experiment in experiments
    } == {
        ("default", None),
        ("default", 0.0),
        ("paper", None),
        ("paper", 0.25),
    }


def test_unpruned_first_steps_are_a_variant_of_any_method():
    experiments = make_experiments(["full", "fastv"], [0.25], {"prune_layer": [2, 3]}, [0, 3])
    assert [experiment.variant for experiment in experiments] == [
        "",  # full, once
        "",
        "prune_layer 2",
        "prune_layer 2, unpruned_first 3",
        "unpruned_first 3",
    ]
    with pytest.raises(ValueError, match="unpruned_first must be 0 or more"):
        make_experiments(["fastv"], [0.25], {}, [0, -1])


def test_bad_ratio_is_refused_by_name():
    with pytest.raises(ValueError, match="keep_ratio"):
        make_experiments(["fastv"], [1.5], {})


def test_every_experiment_meets_the_same_initial_states():
    experiments = make_experiments(["vla_pruner", "fastv"], [0.25], {})
    episodes = list(make_episodes(experiments, ["reach", "push"], 5, first_seed=7))
    starts = [
        [(e.task, e.seed) for e in episodes if e.experiment == experiment]
        for experiment in experiments
    ]
    assert all(start == starts[0] for start in starts)
    assert len(starts[0]) == 10


def test_training_seeds_are_refused():
    with pytest.raises(ValueError, match="for training"):
        list(make_episodes([ExperimentConfig("full", 1.0)], ["reach"], 2, first_seed=999_999))


@pytest.mark.parametrize(("kept", "paper"), [(128, 1.136e12), (64, 0.757e12), (32, 0.568e12)])
def test_flops_follow_the_paper(kept, paper):
    """FastV on OpenVLA-7B, K = 3, the paper's table; it does not say N: 34 fits all three."""
    shape = {"text": 34, "visual": 256, "layers": 32, "width": 4096, "mlp_width": 11008}
    pruned = prompt_flops(kept=kept, prune_layer=3, **shape)
    assert pruned == pytest.approx(paper, rel=5e-3)
    assert prompt_flops(kept=kept, prune_layer=0, **shape) < pruned
    assert prompt_flops(kept=256, prune_layer=3, **shape) == 32 * layer_flops(290, 4096, 11008)


def test_records_pool_episodes_and_say_when_tasks_differ_in_count():
    lines = [line(seed=i, success=i < 3) for i in range(4)] + [line(task="push", success=False)]
    records = {record["task"]: record for record in aggregate(lines)}
    assert records["reach"]["success_rate"] == 0.75
    assert records["reach"]["balanced"]
    assert records["all"]["episodes"] == 5
    assert records["all"]["success_rate"] == 0.6
    assert not records["all"]["balanced"]
    assert records["all"]["action_overlap"] is None
    assert records["all"]["kept_by_camera"] is None  # episodes of earlier have none


def test_tokens_of_each_camera_are_averaged_over_the_episodes_that_recorded_them():
    lines = [
        line(kept_by_camera=[10.0, 4.0]),
        line(seed=1, kept_by_camera=[20.0, 6.0]),
        line(seed=2),
    ]
    [record] = [record for record in aggregate(lines) if record["task"] == "reach"]
    assert record["kept_by_camera"] == [15.0, 5.0]


def test_relative_success_compares_equal_starts_only():
    lines = [line(seed=0), line(seed=1, success=False), line(seed=2)]
    own = {"method": "fastv", "keep_ratio": 0.25}
    lines += [line(seed=2, success=False, **own), line(seed=0, **own), line(seed=9, **own)]
    record = next(r for r in aggregate(lines) if r["method"] == "fastv" and r["task"] == "all")
    assert relative_success(lines, record) == (0.5, 2)
    assert relative_success(lines[3:], record) is None


def test_a_line_cut_short_is_dropped_and_damage_elsewhere_is_reported(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text(json.dumps(line()) + "\n" + json.dumps(line(seed=1))[:30])
    file = EpisodeFile(path)
    file.add(line(seed=2))
    assert [episode["seed"] for episode in read_episodes(path)] == [0, 2]
    path.write_text("{broken\n" + json.dumps(line()) + "\n")
    with pytest.raises(ValueError, match="line 1"):
        EpisodeFile(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    return write_untrained_checkpoint(folder, "openvla_oft", **SHAPE)


def run(out: Path, *arguments: str) -> int:
    return closed_loop.main([*arguments, "--out", str(out), "--processes", "0"])


def test_expert_succeeds(tmp_path, capsys):
    pytest.importorskip("metaworld", reason="needs the simulator")
    out = tmp_path / "expert.jsonl"
    assert run(out, "--policy", "expert", "--tasks", "drawer-close", "--episodes", "2") == 0
    assert [episode["success"] for episode in read_episodes(out)] == [True, True]
    assert "100.0%" in capsys.readouterr().out


def test_standing_still_solves_nothing(tmp_path):
    pytest.importorskip("metaworld", reason="needs the simulator")
    out, tasks = tmp_path / "still.jsonl", ("drawer-close", "reach", "faucet-open")
    common = ["--policy", "still", "--episodes", "3", "--max-actions", "30"]
    assert run(out, *common, "--tasks", *tasks) == 0
    episodes = read_episodes(out)
    assert len(episodes) == 9
    assert not any(episode["success"] for episode in episodes)


def test_the_fingerprint_is_of_what_acts(checkpoint, tmp_path):
    """A description added to config.json keeps it; weights and every other setting change it."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    first = closed_loop.fingerprint(copy)
    config = json.loads((copy / "config.json").read_text())
    config["vla_pruner_ros"] = {**config.get("vla_pruner_ros", {}), "robot": "another"}
    (copy / "config.json").write_text(json.dumps(config, indent=1))
    assert closed_loop.fingerprint(copy) == first
    config["n_action_bins"] = 7
    (copy / "config.json").write_text(json.dumps(config))
    second = closed_loop.fingerprint(copy)
    assert second != first
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert closed_loop.fingerprint(copy) not in (first, second)


def test_policy_episodes_are_recorded_and_resumed(checkpoint, tmp_path, capsys):
    pytest.importorskip("metaworld", reason="needs the simulator")
    out = tmp_path / "results.jsonl"
    common = ["--checkpoint", str(checkpoint), "--tasks", "drawer-close", "--max-actions", "40"]
    methods = ["--methods", "full", "vla_pruner", "--keep-ratios", "1", "0.25"]
    assert run(out, *common, *methods, "--episodes", "1", "--history-fill", "semantic") == 0
    full, pruned = read_episodes(out)
    assert (full["method"], pruned["method"]) == ("full", "vla_pruner")
    assert full["kept"] == 512
    assert pruned["kept"] == 128
    assert full["kept_by_camera"] == [256, 256]
    assert sum(pruned["kept_by_camera"]) == pytest.approx(128)
    assert pruned["flops"] < full["flops"]
    assert 0 <= pruned["semantic_action_overlap"] <= 1
    lines = out.read_text().splitlines()
    out.write_text(lines[0] + "\n" + lines[1][:40])  # as a crash leaves it
    assert run(out, *common, *methods, "--episodes", "1", "--history-fill", "semantic") == 0
    again = out.read_text().splitlines()
    assert again[0] == lines[0]
    kept_fields = [k for k in pruned if k not in ("date", "latency_ms")]
    assert {k: json.loads(again[1])[k] for k in kept_fields} == {k: pruned[k] for k in kept_fields}
    runs = read_episodes(closed_loop.runs_path(out))
    assert len(runs) == 2
    assert runs[0]["trained"] is False
    assert run(out, *common, *methods, "--execute", "4") == 2
    assert "other weights or settings" in capsys.readouterr().err


def test_equal_seeds_start_equal_episodes_under_any_agent():
    pytest.importorskip("metaworld", reason="needs the simulator")
    from vla_pruner_lab.rollout.episode import ExpertAgent, run_episode

    class Witness(ExpertAgent):
        def begin(self, robot, instruction):
            super().begin(robot, instruction)
            self.start = robot.observation.copy(), instruction

    robot = closed_loop._robot("push", 224)
    witnesses = [Witness() for _ in range(3)]
    for witness, seed in zip(witnesses, (3, 4, 3), strict=True):
        run_episode(robot, witness, seed, max_actions=3)
    (first, text), (other, _), (again, text_again) = (w.start for w in witnesses)
    assert np.array_equal(first, again)
    assert text == text_again
    assert not np.array_equal(first, other)


def test_refused_actions_hold_the_robot_still(checkpoint):
    pytest.importorskip("metaworld", reason="needs the simulator")
    from vla_pruner_lab.rollout.episode import PolicyAgent, run_episode
    from vla_pruner_ros.models.loading import load_policy

    policy = load_policy(checkpoint)
    policy.state_bounds.low[:] = np.nan  # every action comes out NaN, which act() refuses
    outcome = run_episode(closed_loop._robot("push", 224), PolicyAgent(policy), 0, max_actions=5)
    assert (outcome.actions, outcome.inferences, outcome.refused) == (5, 5, 5)
    assert outcome.latency_ms is None
    assert not outcome.success


def test_unpruned_first_steps_see_everything_and_then_it_prunes(checkpoint):
    pytest.importorskip("metaworld", reason="needs the simulator")
    from vla_pruner_lab.rollout.episode import PolicyAgent, run_episode
    from vla_pruner_ros.models.loading import load_policy

    class Witness(PolicyAgent):
        def measurements(self):
            self.kept = [report.tokens_kept for report in self._reports]
            return super().measurements()

    policy = load_policy(checkpoint, pruning=PruningConfig(method="fastv", keep_ratio=0.25))
    agent = Witness(policy, execute=1, unpruned_first=2)
    for _ in range(2):  # every episode begins anew
        run_episode(closed_loop._robot("push", 224), agent, 0, max_actions=4)
        assert agent.kept == [512, 512, 128, 128]
    run_episode(closed_loop._robot("push", 224), agent, 0, max_actions=1)
    assert policy.pruning.keep_ratio == 0.25


@pytest.mark.parametrize(("tokens", "reused"), [(290, 0), (290, 75), (7, 7)])
def test_a_reused_token_is_seen_but_not_computed(tokens, reused):
    whole = layer_flops(tokens, 144, 384)
    saved = reused * layer_flops(1, 144, 384) + 2 * 144 * reused * (tokens - 1)
    assert reusing_layer_flops(tokens, reused, 144, 384) == whole - saved
