"""SmolVLA's network: SigLIP and SmolLM2 read images, prompt and state; an expert flows.

Images of 512 pixels become 64 tokens each: 4 x 4 patches are stacked into one. The expert's layers
alternate between attention to the prefix and the actions together, and attention to the prefix
alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.checkpoints import WeightFiles
from vla_pruner_ros.models.decoder.flow_matching import PERIODS, flow_times, time_embeddings
from vla_pruner_ros.models.decoder.layers import Attention, DecoderStack
from vla_pruner_ros.models.images.siglip import SiglipTower
from vla_pruner_ros.models.lerobot.networks import drop_last_layer, unused_names
from vla_pruner_ros.models.smolvla.names import NOT_RUN, SmolVlaShape


class SmolVlaNetwork(nn.Module):
    """Everything of a SmolVLA checkpoint that inference runs."""

    def __init__(self, shape: SmolVlaShape) -> None:
        super().__init__()
        self.shape = shape
        text, width = shape.text, shape.expert.width
        self.vision_tower = SiglipTower(shape.vision)
        self.connector = Connector(shape.vision.width, text.width, shape.shuffle)
        self.language_model = DecoderStack(text, shape.vocabulary)
        self.language_model.norm = nn.Identity()
        self.expert = DecoderStack(shape.expert)
        for layer, cross in zip(self.expert.layers, shape.cross, strict=True):
            if cross:
                layer.self_attn = Attention(shape.expert, text.kv_heads * text.head_dim)
        self.state_proj = nn.Linear(shape.state_dim, text.width)
        self.action_in_proj = nn.Linear(shape.action_dim, width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)
        self.action_out_proj = nn.Linear(width, shape.action_dim)
        drop_last_layer(self.language_model.layers)

    @classmethod
    def load(
        cls,
        shape: SmolVlaShape,
        weights: WeightFiles,
        device: torch.device,
        dtype: torch.dtype,
    ) -> SmolVlaNetwork:
        """Build without memory on the meta device, then fill straight from the files.

        Raises:
            CheckpointError: tensors that are missing, unknown or of another shape.
        """
        with torch.device("meta"):
            network = cls(shape)
        unused = (*NOT_RUN, *unused_names(shape.text.layers))
        weights.load_into(network, device, dtype, unused=unused)
        return network.eval()

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns of one camera."""
        return self.shape.side, self.shape.side

    def visual_tokens(self, pixels: Tensor) -> Tensor:
        """[cameras, 3, S, S] -> [1, cameras * tokens, d], camera after camera."""
        features = self.connector(self.vision_tower(pixels))
        return (features * math.sqrt(self.shape.text.width)).flatten(0, 1)[None]

    def embed(self, ids: Tensor) -> Tensor:
        """[n] ids of the prompt -> [n, d]."""
        return self.embed_special(ids) * math.sqrt(self.shape.text.width)

    def embed_special(self, ids: Tensor) -> Tensor:
        """[n] ids that mark where an image begins and ends -> [n, d], not multiplied."""
        return self.language_model.embed_tokens(ids)


class Connector(nn.Module):
    """A square of patches -> one token of the language model."""

    def __init__(self, vision_width: int, width: int, shuffle: int) -> None:
        super().__init__()
        self.shuffle = shuffle
        self.proj = nn.Linear(vision_width * shuffle**2, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[cameras, side * side, w] -> [cameras, tokens, d], row by row."""
        side, step = math.isqrt(features.shape[1]), self.shuffle
        squares = features.unflatten(1, (side // step, step, side // step, step))
        return self.proj(squares.transpose(2, 3).flatten(3).flatten(1, 2))


class FlowEmbedding:
    """Noisy actions and the flow's time -> tokens of the expert, tables of all steps made once."""

    def __init__(self, network: SmolVlaNetwork, steps: int, periods=PERIODS) -> None:
        self.network, self.steps = network, steps
        mix, width = network.action_time_mlp_in, network.shape.expert.width
        self._of_actions = mix.weight[:, :width]
        times = time_embeddings(width, flow_times(steps), mix.weight.device, periods)
        bias = F.linear(times, mix.weight[:, width:].float(), mix.bias.float())
        self._of_time = bias.to(mix.weight.dtype)

    def __call__(self, actions: Tensor, step: int) -> Tensor:
        """[1, chunk, action_dim] -> [1, chunk, width]."""
        embedded = self.network.action_in_proj(actions)
        mixed = F.linear(embedded, self._of_actions, self._of_time[step])
        return self.network.action_time_mlp_out(F.silu(mixed))
