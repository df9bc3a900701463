"""One inference of a flow-matching policy, with what its parts computed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from vla_pruner_lab.conformance.recordings import watched
from vla_pruner_ros.models.decoder import pruned_decoder
from vla_pruner_ros.models.decoder.attention import attention_weights
from vla_pruner_ros.models.flow_policy import FlowPolicy
from vla_pruner_ros.models.paligemma import decoding as paligemma_decoding
from vla_pruner_ros.models.smolvla import decoding as smolvla_decoding

EXPERT_LOOPS = (paligemma_decoding, smolvla_decoding)


@dataclass
class FlowRecord:
    """Tensors of one inference; rows and keys are in the engine's own order.

    Attributes:
        given: inputs of modules by name, call by call; made: their outputs.
        prefix, expert: attention of every call, float32 [heads, rows, keys], made when asked for.
        calls: results of the decoder's methods by name, call by call.
        keys, values: cached for the prefix, one tensor a layer, [kv_heads, rows, head_dim].
        positions: rotary position of each prefix row.
    """

    given: dict[str, list[Tensor]]
    made: dict[str, list[Tensor]]
    prefix: list[Callable[[], Tensor]] = field(default_factory=list)
    expert: list[Callable[[], Tensor]] = field(default_factory=list)
    calls: dict[str, list[Any]] = field(default_factory=dict)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    positions: Tensor | None = None
    raw: Tensor | None = None


def record(policy: FlowPolicy, observation, plan) -> tuple[FlowRecord, Any]:
    """Run one inference; return what it computed and the actions."""
    network, decoder = policy.network, policy.decoder
    layers = enumerate(decoder.prefix.layers)
    inputs = {f"prefix {number}": layer.input_layernorm for number, layer in layers}
    inputs |= {"vision": network.vision_tower, "actions": network.action_in_proj}
    names = "vision_tower action_in_proj action_out_proj action_time_mlp_out state_proj connector"
    outputs = {name: getattr(network, name) for name in names.split() if hasattr(network, name)}
    with watched(inputs, inputs=True) as given, watched(outputs) as made:
        seen = FlowRecord(given, made)
        with _tapped(seen, decoder):
            inference, actions = policy.run(observation, plan)
    prompt = seen.calls["prompt"][0]
    for layer in range(len(decoder.prefix.layers)):
        key, value = decoder.cache.held(layer)
        seen.keys.append(key[0, :, : prompt.length].clone())
        seen.values.append(value[0, :, : prompt.length].clone())
    positions = prompt.positions
    seen.positions = torch.arange(prompt.length) if positions is None else positions
    seen.raw = inference.raw
    return seen, actions


@contextmanager
def _tapped(seen: FlowRecord, decoder) -> Iterator[None]:
    of_prefix = _recording(pruned_decoder.attend, seen.prefix)
    with mock.patch.object(pruned_decoder, "attend", of_prefix):
        patches = [
            mock.patch.object(loop, "attend", _recording(loop.attend, seen.expert))
            for loop in EXPERT_LOOPS
        ]
        patches += [_kept(decoder, name, seen) for name in ("prompt", "_run")]
        if hasattr(decoder, "_project_prefix"):
            patches.append(_kept(decoder, "_project_prefix", seen))
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


def _recording(attend, calls: list):
    def recorded(query, key, value, mask=None, **options):
        query_then, key_then = query.clone(), key.clone()
        calls.append(lambda: attention_weights(query_then, key_then, mask))
        return attend(query, key, value, mask, **options)

    return recorded


def _kept(decoder, name: str, seen: FlowRecord):
    method = getattr(decoder, name)

    def kept(*arguments, **options):
        result = method(*arguments, **options)
        copied = result.clone() if isinstance(result, Tensor) else result
        seen.calls.setdefault(name, []).append(copied)
        return result

    return mock.patch.object(decoder, name, kept)
