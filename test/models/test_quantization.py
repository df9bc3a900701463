"""Decoder weights in 8 and 4 bits: what changes, what stays, and who refuses."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_helpers import observation
from torch import nn

from vla_pruner_ros.models.execution import quantization
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.quantization import quantize, stored_bytes
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.untrained import ACTION_LIMITS
from vla_pruner_ros.pruning.config import PruningConfig

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("torchao")

FAMILIES = ("openvla", "openvla_oft", "pi0", "pi05", "smolvla")
FLOWS = ("pi0", "pi05", "smolvla")
KINDS = ("int8", "int4")
OUTPUT_ERROR = {"int8": 0.01, "int4": 0.1}
"""Largest errors of a layer with random weights and inputs, relative: 127 and 7.5 steps to either
side.
"""
HALF_RANGE = np.array([*ACTION_LIMITS, 0.5])
INT8_ACTION_ERROR = 0.1
"""Mean, in HALF_RANGE, of random weights. Figures of a trained model are in
docs/reference/benchmarks/quantization.md."""
SHARE_OF_FLOAT32 = {"int8": 0.3, "int4": 0.22}
"""Bytes of the weights; int4 in float32 adds two float32 numbers for each group."""


def load(checkpoints, family: str, kind: str = "none", draft: str = "off", **pruning):
    settings = {"keep_ratio": 0.25, "history_fill": "semantic", **pruning}
    return load_policy(
        checkpoints(family),
        pruning=PruningConfig(**settings),
        execution=ExecutionConfig(quantization=kind, draft=draft),
    )


def linears(policy) -> list[nn.Linear]:
    modules = (module for layers in policy.decoder_layers for module in layers.modules())
    return [module for module in modules if isinstance(module, nn.Linear)]


def readable(linear: nn.Linear) -> torch.Tensor:
    """The weights that a layer multiplies by, whatever they are stored as."""
    return F.linear(torch.eye(linear.in_features), linear.weight).T.contiguous()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(128, 64), (512, 96), (96, 16), (80, 64), (64, 24)])
def test_a_layer_keeps_its_output_within_the_steps_of_its_weights(kind, shape):
    """Inputs in groups of 128 and 32; widths and rows that int4 has no kernel for."""
    torch.manual_seed(0)
    linear = nn.Linear(*shape, bias=False)
    inputs = torch.randn(1, 7, shape[0])
    expected = linear(inputs)
    quantize([linear], kind)
    error = (linear(inputs) - expected).norm() / expected.norm()
    assert 0 < error < OUTPUT_ERROR[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_that_of_the_rounded_weights(checkpoints, family, kind):
    """Unpruned and pruned prefill, decoding and flow: the policy with rounded weights in
    float32 does the same, so nothing else has changed."""
    quantized, rounded = (load(checkpoints, family, one) for one in (kind, "none"))
    pairs = list(zip(linears(quantized), linears(rounded), strict=True))
    assert len(pairs) == (2 * 5 * 7 - 5 if family in FLOWS else 5 * 7)
    for stored, plain in pairs:
        plain.weight = nn.Parameter(readable(stored), requires_grad=False)
    for seed, ratio in enumerate((1.0, 0.25)):
        for policy in (quantized, rounded):
            policy.pruning = PruningConfig(keep_ratio=ratio, history_fill="semantic")
        one, other = (policy.act(observation(policy, seed)) for policy in (quantized, rounded))
        np.testing.assert_allclose(one.actions, other.actions, atol=1e-4)
        kept = zip(one.pruning.kept_indices, other.pruning.kept_indices, strict=True)
        assert all(np.array_equal(a, b) for a, b in kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_decoders_linear_layers_shrink(checkpoints, family, kind):
    quantized, plain = (load(checkpoints, family, one) for one in (kind, "none"))
    networks = [getattr(policy, "model", None) or policy.network for policy in (quantized, plain)]
    changed = {
        name
        for (name, one), (_, other) in zip(*(n.named_parameters() for n in networks), strict=True)
        if type(one.data) is not type(other.data) or not torch.equal(one, other)
    }
    expected = {
        f"{name}.weight"
        for name, module in networks[0].named_modules()
        if isinstance(module, nn.Linear) and ("_proj" in name and ".layers." in name)
        and "vision" not in name
    }  # fmt: skip
    assert changed == expected
    before, after = (
        sum(stored_bytes(linear) for linear in linears(policy)) for policy in (plain, quantized)
    )
    assert after < SHARE_OF_FLOAT32[kind] * before


@pytest.mark.parametrize("family", ["openvla_oft", "pi0"])
def test_int8_actions_are_close_to_the_models_own(checkpoints, family):
    """Compare the unpruned model, with continuous actions: random weights have no clear favourite
    among
    tokens, neither of the image nor of the action."""
    kinds = ("none", *KINDS)
    plain, int8, int4 = (load(checkpoints, family, kind, keep_ratio=1.0) for kind in kinds)
    frames = [observation(plain, seed) for seed in range(2)]
    expected, close, far = (
        np.stack([policy.act(frame).actions for frame in frames]) for policy in (plain, int8, int4)
    )
    error, of_int4 = (np.abs(actions - expected) / HALF_RANGE for actions in (close, far))
    assert 0 < error.mean() < INT8_ACTION_ERROR
    assert error.mean() < of_int4.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_drafting_stays_lossless(checkpoints, kind):
    plain, drafted = (load(checkpoints, "openvla", kind, draft) for draft in ("off", "tree"))
    accepted = 0
    for seed in (0, 0, 1):
        frame = observation(plain, seed)
        chunk = drafted.act(frame)
        assert np.array_equal(chunk.actions, plain.act(frame).actions)
        accepted += chunk.pruning.accepted_tokens
    assert accepted > 0


def test_what_is_quantized_already_stays(checkpoints):
    """Policies of a benchmark share one model."""
    policy = load(checkpoints, "openvla", "int8")
    weights = [linear.weight for linear in linears(policy)]
    quantize(policy.decoder_layers, "int8")
    assert all(linear.weight is old for linear, old in zip(linears(policy), weights, strict=True))


# ---- refusals


@pytest.mark.parametrize("kind", KINDS)
def test_float16_is_refused(checkpoints, kind):
    """Its sums over integer weights are infinite where those over the plain ones are small."""
    with pytest.raises(CheckpointError, match="take bfloat16 or float32"):
        load_policy(
            checkpoints("openvla"), dtype="float16", execution=ExecutionConfig(quantization=kind)
        )


def test_a_missing_torchao_is_named_with_its_remedy(checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(CheckpointError, match=r"needs torchao .* pip install 'torchao"):
        load(checkpoints, "openvla", "int8")


def test_without_quantization_torchao_is_not_needed(checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    assert load(checkpoints, "openvla").execution.quantization == "none"


def test_int4_in_float32_is_refused_where_kernels_want_bfloat16():
    weight = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda"))
    with pytest.raises(CheckpointError, match="needs dtype bfloat16"):
        quantization._check_precision("int4", weight)


def test_what_torchao_says_is_handed_on():
    linear = nn.Linear(64, 32, device="meta", dtype=torch.bfloat16)
    with pytest.raises(CheckpointError, match="torchao cannot make int4 weights for meta"):
        quantize([linear], "int4")


def test_a_family_without_decoder_is_refused(checkpoints):
    policy = load(checkpoints, "openvla")
    policy.decoder_layers = ()
    with pytest.raises(CheckpointError, match="no decoder to quantize: set quantization to none"):
        policy.set_execution(ExecutionConfig(quantization="int8"))
