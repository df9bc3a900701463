"""pi0.5's network: every norm of the expert takes scale, shift and gate from the flow's time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.decoder.flow_matching import PERIODS, flow_times, time_embeddings
from vla_pruner_ros.models.paligemma.expert import ActionExpert
from vla_pruner_ros.models.paligemma.network import NetworkShape, PaliGemmaNetwork


class AdaptiveNorm(nn.Module):
    """RMS norm without a weight; `dense` makes scale, shift and gate of the flow's time."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)
        self.eps = eps


class Pi05Network(PaliGemmaNetwork):
    """Everything of a pi0.5 checkpoint that inference runs."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        width, eps = shape.expert.width, shape.expert.eps
        for layer in self.expert.layers:
            layer.input_layernorm = AdaptiveNorm(width, eps)
            layer.post_attention_layernorm = AdaptiveNorm(width, eps)
        self.expert.norm = AdaptiveNorm(width, eps)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)

    def drop_what_expert_keeps(self) -> None:
        for layer in self.expert.layers:
            layer.input_layernorm.dense = layer.post_attention_layernorm.dense = None
        self.expert.norm.dense = None

    def conditions(self, steps: int, periods: tuple[float, float] = PERIODS) -> Tensor:
        """Return what steers the norms in each flow step: float32 [steps, width]."""
        weight = self.time_mlp_in.weight
        times = time_embeddings(weight.shape[1], flow_times(steps), weight.device, periods)
        inner = F.silu(_in_float32(self.time_mlp_in, times))
        return F.silu(_in_float32(self.time_mlp_out, inner))


class Pi05Expert(ActionExpert):
    """pi0.5's action expert.

    The norms depend on the time alone, so their scale, shift and gate are computed here for all
    flow steps; the large layers that make them are not run again.
    """

    def __init__(self, network: Pi05Network, steps: int, periods=PERIODS) -> None:
        super().__init__(network.expert.layers, steps)
        self.network = network
        self.conditions = network.conditions(steps, periods)
        dtype = network.action_in_proj.weight.dtype
        norms = [
            norm
            for layer in network.expert.layers
            for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        ]
        self.eps = network.expert.norm.eps
        tables = (self._table(norm, dtype) for norm in (*norms, network.expert.norm))
        self._tables = [table.unbind(1) for table in tables]

    def _table(self, norm: AdaptiveNorm, dtype: torch.dtype) -> Tensor:
        """[steps, 3, width]: factor of the norm, shift, gate."""
        parts = _in_float32(norm.dense, self.conditions).unflatten(-1, (3, -1))
        parts[:, 0] += 1.0
        return parts.to(dtype)

    def embed_actions(self, actions: Tensor, step: int) -> Tensor:
        return self.network.action_in_proj(actions)

    def norm_before_attention(self, layer: int, hidden: Tensor, step: int):
        return self._norm(2 * layer, hidden, step)

    def norm_before_mlp(self, layer: int, hidden: Tensor, step: int):
        return self._norm(2 * layer + 1, hidden, step)

    def velocity(self, hidden: Tensor, step: int) -> Tensor:
        return self.network.action_out_proj(self._norm(-1, hidden, step)[0])

    def _norm(self, number: int, hidden: Tensor, step: int) -> tuple[Tensor, Tensor]:
        factor, shift, gate = (table[step] for table in self._tables[number])
        normed = F.rms_norm(hidden, factor.shape, factor, self.eps)
        return normed.add_(shift), gate


def _in_float32(linear: nn.Linear, inputs: Tensor) -> Tensor:
    return F.linear(inputs, linear.weight.float(), linear.bias.float())
