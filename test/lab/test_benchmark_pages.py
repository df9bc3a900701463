"""The commands behind docs/reference/benchmarks/quantization.md and drafting.md."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model_helpers import observation

from vla_pruner_lab.latency.model_shapes import SHAPES
from vla_pruner_lab.latency.models import build
from vla_pruner_lab.latency.models import observation as scene_of
from vla_pruner_lab.microbenchmarks import (
    drafting as drafting_benchmark,
)
from vla_pruner_lab.microbenchmarks import (
    quantization as quantization_report,
)
from vla_pruner_lab.microbenchmarks.quantization import Outputs, accuracy_rows, step_rows
from vla_pruner_lab.microbenchmarks.quantization_cases import QuantizationCase
from vla_pruner_ros.models.loading import load_policy


@pytest.fixture
def case(checkpoints):
    """Two short episodes of a small OpenVLA."""

    def load(dtype, execution):
        return load_policy(checkpoints("openvla"), dtype=dtype, execution=execution)

    frames = [observation(load_policy(checkpoints("openvla")), seed) for seed in range(2)]
    return QuantizationCase("small", load, [frames[:1], frames[1:]])


def test_quantization_is_compared_with_float32_at_the_same_budget(case, monkeypatch):
    pytest.importorskip("torchao")
    monkeypatch.setattr(quantization_report, "KEEP_RATIOS", (0.25,))
    monkeypatch.setattr(quantization_report, "WARM_UP", 0)
    plain, *others = accuracy_rows(case)
    assert plain[:4] == ["small", "0.25", "float32", "none"]
    assert plain[4:14] == [*["0.00"] * 7, "100 %", "100 %", "0"]
    assert {tuple(row[2:4]) for row in others} == set(quantization_report.SETTINGS[1:])
    assert any(row[4:11] != plain[4:11] for row in others)
    stored = {tuple(row[2:4]): float(row[14]) for row in (plain, *others)}
    for dtype in quantization_report.DTYPES:
        assert stored[dtype, "none"] > stored[dtype, "int8"] > stored[dtype, "int4"]
    steps = step_rows(case, rounds=2)
    assert [row[4] for row in steps if row[1] == "none"] == ["1.00", "1.00"]


def test_a_refused_step_counts_as_refused_and_not_as_an_error():
    actions = np.zeros((2, 1, 7))
    kept = [np.arange(4), np.arange(4)]
    reference = Outputs(actions, kept, 100, are_tokens=True)
    spoilt = actions.copy()
    spoilt[1] = np.nan
    row = quantization_report._compared(Outputs(spoilt, kept, 50, True), reference, np.ones(7))
    assert row == [*["0.00"] * 7, "100 %", "100 %", "1", "0.000"]


def test_vain_guesses_never_hold_and_pause():
    model = build(SHAPES["openvla", "tiny"], torch.device("cpu"), torch.float32)
    settings = drafting_benchmark.make_settings(model, keep_ratio=0.25)
    drafting_benchmark.measure(settings, scene_of(model.shape), steps=6)
    by_name = {(one.draft, one.guesses): one for one in settings}
    for draft in ("linear", "tree"):
        rejected, still = by_name[draft, "rejected"], by_name[draft, "still scene"]
        assert sum(rejected.accepted) == 0 < sum(still.accepted)
        assert [bool(count) for count in rejected.drafted] == [
            False,
            True,
            True,
            True,
            False,
            False,
        ]


def test_ratios_are_to_the_undrafted_step_of_the_same_turn():
    off = SimpleNamespace(seconds=[9.0, 1.0, 2.0, 4.0])
    vain = SimpleNamespace(
        draft="linear", guesses="rejected", seconds=[9.0, 1.5, 2.0, 4.0],
        drafted=[0, 6, 0, 0], accepted=[0, 0, 0, 0],
    )  # fmt: skip
    row = drafting_benchmark._row(vain, off)
    assert row[2:] == ["3", "1", "0.0", "1.500", "1.000", "1.167", "1.071"]
