"""Counted work, roofline and predictions of the latency benchmark."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.latency import cli as benchmark
from vla_pruner_lab.latency.model_shapes import LLAMA_7B, LLAMA_PROMPT, SHAPES
from vla_pruner_lab.latency.model_work import (
    DEFAULTS,
    Pruning,
    Work,
    flop_speedup,
    flops_by_stage,
    step_work,
    weights_once,
)
from vla_pruner_lab.latency.models import Model, build, observation
from vla_pruner_lab.latency.predictions import HARDWARE, predict
from vla_pruner_lab.latency.roofline import PRECISIONS, bounds
from vla_pruner_lab.rollout.flops import prompt_flops
from vla_pruner_ros.pruning import token_selection
from vla_pruner_ros.pruning.config import PruningConfig

FAMILIES = ("openvla", "openvla_oft", "pi0", "pi05", "smolvla")
RATIOS = (1.0, 0.5, 0.25, 0.125)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    cpu = torch.device("cpu")
    return {f: build(SHAPES[f, "tiny"], cpu, torch.float32) for f in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "vla_pruner", "fastv", "divprune"])
def test_counts_what_torch_counts(models, monkeypatch, family, method):
    # As many candidates as on a GPU, where their number is not looked at.
    monkeypatch.setattr(token_selection, "slots_on_cpu", token_selection.slots_on_device)
    model = models[family]
    policy = model.make_policy(PruningConfig(method=method, keep_ratio=0.25))
    scene = observation(model.shape)
    for _ in range(3 if method == "vla_pruner" else 0):
        policy.act(scene)
    # The plain form of attention is made of matrix products that the counter knows on every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        kept = policy.act(scene).pruning.tokens_kept
    works = step_work(model.shape, Pruning(kept, method))
    counted = counter.get_total_flops()
    if method == "vla_pruner":  # numpy computes a row for each token of the coverage
        rows = round(DEFAULTS.coverage * kept)
        counted += 2 * rows * model.shape.visual * model.shape.decoder.width
    assert sum(flops_by_stage(works).values()) == counted


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_every_matrix(models, family):
    model = models[family]
    modules = (m for part in model.weights for name, m in part.named_modules()
               if "position_embedding" not in name)  # fmt: skip
    kinds = (nn.Linear, nn.Embedding, nn.Conv2d)
    matrices = sum(m.weight.numel() for m in modules if isinstance(m, kinds))
    assert sum(work.weights for work in weights_once(model.shape)) == matrices


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_tokens_allow_more_speed(family):
    shape = SHAPES[family, "full"]
    allowed = [flop_speedup(shape, Pruning(round(r * shape.visual))) for r in RATIOS]
    assert allowed[0] == 1.0
    assert allowed == sorted(allowed)


@pytest.mark.parametrize(("keep", "tera"), [(0.5, 1.139), (0.25, 0.758), (0.125, 0.571)])
def test_prefill_lies_just_below_the_papers_flops(keep, tera):
    """arXiv 2511.16449, table 1; selection inside layer K-1 and the unread rows save the rest."""
    shape, kept = SHAPES["openvla", "full"], round(256 * keep)
    paper = prompt_flops(LLAMA_PROMPT, 256, kept, 3, 32, LLAMA_7B.width, LLAMA_7B.mlp_width)
    assert paper / 1e12 == pytest.approx(tera, rel=0.01)
    ours = flops_by_stage(step_work(shape, Pruning(kept)))["prefill"] / 2
    assert 0.88 * paper < ours < paper


def test_a_layer_takes_the_longer_of_arithmetic_and_bytes():
    works = [Work("prefill", 80, 10, decoder=True), Work("prefill", 10, 10, cached=5, decoder=True)]
    (bound,) = bounds(works, PRECISIONS["float16"], Rates(flops=2, bytes=1)).values()
    assert bound.seconds == 40 + 30
    assert bound.by_bytes == pytest.approx(30 / 70)
    assert bound.binds == "compute"
    (int8,) = bounds(works, PRECISIONS["int8"], Rates(flops=2, bytes=1)).values()
    assert int8.seconds == 40 + 20


def test_quantisation_covers_the_decoder_alone():
    work = Work("vision", 0, 100)
    assert PRECISIONS["int4"].bytes_of(work) == PRECISIONS["bfloat16"].bytes_of(work) == 200


@pytest.mark.parametrize(
    ("family", "milliseconds"),
    [
        ("openvla", (24.0, 22.3, 22.3, 22.3)),
        ("openvla_oft", (11.2, 7.26, 5.31, 4.82)),
        ("pi0", (6.22, 4.63, 3.86, 3.70)),
    ],
)
def test_predictions_agree_with_an_independent_roofline(family, milliseconds):
    for ratio, expected in zip(RATIOS, milliseconds, strict=True):
        made = predict(
            SHAPES[family, "full"], PRECISIONS["bfloat16"], ratio, HARDWARE["h200"].rates
        )
        assert 1e3 * made.seconds == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("hardware", "precision", "speedup"),
    [("h200", "bfloat16", 1.08), ("rtx4090", "bfloat16", 1.10), ("orin", "float16", 1.05),
     ("orin", "int4", 1.38)],
)  # fmt: skip
def test_decoding_limits_what_pruning_openvla_can_give(hardware, precision, speedup):
    rates, shape = HARDWARE[hardware].rates, SHAPES["openvla", "full"]
    full, quarter = (predict(shape, PRECISIONS[precision], r, rates).seconds for r in (1.0, 0.25))
    assert full / quarter == pytest.approx(speedup, rel=0.02)


def test_predicts_for_several_devices(tmp_path, capsys):
    page = tmp_path / "new" / "page.md"
    assert benchmark.main(["--predict", "orin", "h200", "--markdown", str(page)]) == 0
    text = page.read_text()
    assert text.strip() in capsys.readouterr().out
    assert "Jetson AGX Orin 64 GB (prediction)" in text
    assert "4090" not in text
    assert "| openvla | int4 |" in text
    assert "(bytes)" in text
    assert "(compute)" in text
