"""The latency benchmark: what it measures, how its ratios are made, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vla_pruner_lab.common.machine import PeakMemory, Rates
from vla_pruner_lab.latency import cli as benchmark
from vla_pruner_lab.latency.baseline import ATTENTIONS, make_baseline
from vla_pruner_lab.latency.configs import PRESETS, Grid, LatencyConfig
from vla_pruner_lab.latency.model_shapes import SHAPES
from vla_pruner_lab.latency.model_work import flop_speedup
from vla_pruner_lab.latency.models import build, observation
from vla_pruner_lab.latency.records import make_records
from vla_pruner_lab.latency.run import Samples, measure
from vla_pruner_ros.pruning.config import PruningConfig

CPU = torch.device("cpu")
FULL = LatencyConfig("openvla", "full", 1.0, "eager")
QUARTER = replace(FULL, method="vla_pruner", keep_ratio=0.25)
MAPS = replace(FULL, mode="transformers_eager")
QUICK = ["--size", "tiny", "--families", "openvla", "--keep-ratios", "0.25", "--rounds", "2"]


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_measures_and_reports_every_configuration(tmp_path, capsys):
    page, data = tmp_path / "new" / "page.md", tmp_path / "new" / "data.json"
    assert (
        benchmark.main([*QUICK, "--threads", "1", "--json", str(data), "--markdown", str(page)])
        == 0
    )
    content = json.loads(data.read_text())
    records = {(r["method"], r["mode"]): r for r in content["records"]}
    assert set(records) == {
        ("full", "eager"), ("vla_pruner", "eager"), ("full", "transformers_eager"),
    }  # fmt: skip
    pruned = records["vla_pruner", "eager"]
    assert pruned["family"] == "openvla"
    assert (pruned["device"], pruned["dtype"]) == ("cpu", "float32")
    assert (pruned["keep_ratio"], pruned["tokens_kept"], pruned["samples"]) == (0.25, 64, 2)
    assert pruned["p95_ms"] >= pruned["median_ms"] >= pruned["fastest_ms"]
    assert pruned["fastest_ms"] > pruned["selection_ms"] > 0
    plain = records["full", "transformers_eager"]["stages_ms"]
    assert plain["decode"] > plain["preprocess"]  # seven passes, not just the reading back
    assert pruned["peak_memory_mb"] > 0
    assert pruned["fraction_of_flop_speedup"] == pytest.approx(
        pruned["speedup_vs_full"] / pruned["flop_speedup"]
    )
    assert pruned["fraction_of_roofline"] > 0
    assert content["rates"]["openvla"]["flops"] > content["rates"]["openvla"]["bytes"] > 0
    assert "vla_pruner_lab.latency" in content["metadata"]["command"]
    assert page.read_text().strip() in capsys.readouterr().out


def test_ratios_compare_rounds_with_the_configurations_they_name():
    shape = SHAPES["openvla", "small"]
    samples = [
        Samples(FULL, rounds=[[2.0], [8.0], [4.0]]),
        Samples(QUARTER, rounds=[[1.0], [4.0], [1.0]]),
        Samples(MAPS, rounds=[[6.0], [8.0], [5.0]]),
    ]
    full, quarter, maps = make_records(shape, samples, Rates(1e12, 1e11), "cpu", "float32")
    assert (full.speedup_vs_full, full.flop_speedup, full.bound_speedup) == (1.0, 1.0, 1.0)
    assert quarter.speedup_vs_full == 2.0  # of 2, 2 and 4
    assert (quarter.fastest_ms, quarter.speedup_of_fastest) == (1000.0, 2.0)
    assert quarter.speedup_vs_transformers_eager == 5.0  # of 6, 2 and 5
    allowed = flop_speedup(shape, QUARTER.pruning(shape))
    assert quarter.fraction_of_flop_speedup == pytest.approx(2.0 / allowed)
    assert quarter.fraction_of_bound_speedup == pytest.approx(2.0 / quarter.bound_speedup)
    assert 1.0 < quarter.bound_speedup < allowed  # decoding reads all weights in either case
    assert quarter.median_ms == 1000.0
    assert quarter.fraction_of_roofline == pytest.approx(quarter.roofline_ms / 1000.0)
    assert maps.speedup_vs_full == 0.8  # of 1/3, 1 and 4/5


@pytest.mark.parametrize("family", ["openvla", "openvla_oft", "pi0"])
def test_the_baseline_computes_the_same_actions(family):
    """Else it would be another model, and the comparison worth nothing."""
    model = build(SHAPES[family, "tiny"], CPU, torch.float32)
    scene = observation(model.shape)
    ours = model.make_policy(PruningConfig(method="full")).act(scene).actions
    for attention in ATTENTIONS:
        plain = make_baseline(model, attention).act(scene).actions
        np.testing.assert_allclose(plain, ours, atol=1e-4)


def test_measures_past_warmup_and_outlives_a_configuration_that_fails():
    memory = PeakMemory(CPU)
    model = build(SHAPES["pi0", "tiny"], CPU, torch.float32)
    pruned = LatencyConfig("pi0", "vla_pruner", 0.125, "eager")
    impossible = replace(pruned, draft="linear")
    good, bad = measure(model, [pruned, impossible], 1, 1, memory, ends=0.0)
    assert good.tokens_kept == 96
    assert (len(good.rounds), good.error) == (1, "")
    assert "draft" in bad.error
    made = make_records(model.shape, [good, bad], Rates(1e12, 1e11), "cpu", "float32")
    assert made[1].median_ms is None
    assert made[1].error == bad.error
    assert made[0].speedup_vs_full is None  # the unpruned model was not measured


def test_notices_memory_that_comes_and_goes():
    memory = PeakMemory(CPU)
    memory.restart()
    before = memory.peak(0.0)
    torch.ones(50_000_000)
    assert memory.peak(0.0) - before == pytest.approx(200, abs=20)


def test_draws_drafts_only_where_tokens_are_decoded():
    grid = Grid(("openvla", "pi0"), (1.0, 0.25), ("vla_pruner",), ("graph",), ("off", "linear"))
    assert {config.draft for config in grid.configs("pi0")} == {"off"}
    drafted = [config for config in grid.configs("openvla") if config.draft == "linear"]
    assert {(config.keep_ratio, config.still) for config in drafted} == {
        (1.0, False), (1.0, True), (0.25, False), (0.25, True),
    }  # fmt: skip
    assert {config.full for config in drafted} == {LatencyConfig("openvla", "full", 1.0, "graph")}


def test_lists_the_gpu_configurations_without_running_them(capsys):
    assert benchmark.main(["--preset", "gpu", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("| pi0 |") == 16
    assert "| openvla_oft | vla_pruner | 0.25 | graph |" in out
    assert f"the last round begins before {PRESETS['gpu'].time_limit:g} s" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep-ratios", "0"], "--keep-ratios must be above 0"),
        (["--rounds", "0"], "--rounds, --repeats and --threads must be at least 1"),
        (["--modes", "graph"], "mode graph needs a CUDA device"),
        (["--predict", "abacus"], "invalid choice: 'abacus'"),
        (["--methods", "dice"], "invalid choice: 'dice'"),
    ],
)
def test_refuses_what_cannot_be_run(arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_says_that_there_is_no_gpu(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--preset", "gpu"])
    assert "torch finds no CUDA device" in capsys.readouterr().err
