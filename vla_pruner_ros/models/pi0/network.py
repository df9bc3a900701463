"""pi0's network: the state is a token of the suffix, the flow's time is mixed into each action."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.decoder.flow_matching import PERIODS, flow_times, time_embeddings
from vla_pruner_ros.models.paligemma.expert import ActionExpert
from vla_pruner_ros.models.paligemma.network import NetworkShape, PaliGemmaNetwork


class Pi0Network(PaliGemmaNetwork):
    """Everything of a pi0 checkpoint that inference runs."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        width = shape.expert.width
        self.state_proj = nn.Linear(shape.state_dim, width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)

    def finish(self) -> None:
        super().finish()
        self.expert.add_one_to_norms()


class Pi0Expert(ActionExpert):
    """pi0's action expert. The state sees prefix and itself, the actions see everything: so its
    keys and values are the same in every flow step and are computed once."""

    leading = 1

    def __init__(self, network: Pi0Network, steps: int, periods=PERIODS) -> None:
        super().__init__(network.expert.layers, steps)
        self.network = network
        mix, width = network.action_time_mlp_in, network.shape.expert.width
        # Half of the mixed layer sees the time alone: it becomes one bias for each flow step.
        self._of_actions = mix.weight[:, :width]
        times = time_embeddings(width, flow_times(steps), mix.weight.device, periods)
        bias = F.linear(times, mix.weight[:, width:].float(), mix.bias.float())
        self._of_time = bias.to(mix.weight.dtype)

    def embed_state(self, state: Tensor) -> Tensor:
        return self.network.state_proj(state)

    def embed_actions(self, actions: Tensor, step: int) -> Tensor:
        embedded = self.network.action_in_proj(actions)
        mixed = F.linear(embedded, self._of_actions, self._of_time[step])
        return self.network.action_time_mlp_out(F.silu(mixed))

    def norm_before_attention(self, layer: int, hidden: Tensor, step: int):
        return self.layers[layer].input_layernorm(hidden), None

    def norm_before_mlp(self, layer: int, hidden: Tensor, step: int):
        return self.layers[layer].post_attention_layernorm(hidden), None

    def velocity(self, hidden: Tensor, step: int) -> Tensor:
        return self.network.action_out_proj(self.network.expert.norm(hidden))
