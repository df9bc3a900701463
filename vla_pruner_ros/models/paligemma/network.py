"""PaliGemma with an action expert: SigLIP reads images, Gemma the prompt, a smaller Gemma acts.

The expert has as many layers as the language model and attends, layer by layer, to the keys and
values that the language model left behind. pi0 and pi0.5 add how the expert learns of the flow's
time; both are subclasses here: ActionExpert of pi0/network.py and pi05/network.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_pruner_ros.models.checkpoints import WeightFiles
from vla_pruner_ros.models.decoder.layers import DecoderShape, DecoderStack, decoder_shape
from vla_pruner_ros.models.images.siglip import SiglipShape, SiglipTower, siglip_shape
from vla_pruner_ros.models.lerobot.networks import drop_last_layer, unused_names
from vla_pruner_ros.models.paligemma.names import NOT_RUN
from vla_pruner_ros.models.policy import CheckpointError


@dataclass(frozen=True)
class HeadCounts:
    """Numbers of heads, which no tensor shows; those of the one published size by default."""

    key_value: int = 1
    vision: int = 16


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the whole network.

    Attributes:
        state_dim, action_dim: widest state and action that the projections take; state_dim is 0
            where the state is part of the prompt.
    """

    vision: SiglipShape
    text: DecoderShape
    expert: DecoderShape
    vocabulary: int
    state_dim: int
    action_dim: int

    @classmethod
    def read(cls, weights: WeightFiles, heads: HeadCounts, source: str) -> NetworkShape:
        """Read the sizes off the tensors' shapes; configuration files do not hold them.

        Raises:
            CheckpointError: tensors that are missing, or halves that do not fit together.
        """
        shapes = weights.shapes
        try:
            shape = cls(
                vision=siglip_shape(shapes, "vision_tower.", heads.vision),
                text=decoder_shape(shapes, "language_model.", heads.key_value),
                expert=decoder_shape(shapes, "expert.", heads.key_value),
                vocabulary=shapes["language_model.embed_tokens.weight"][0],
                state_dim=shapes.get("state_proj.weight", (0, 0))[1],
                action_dim=shapes["action_in_proj.weight"][1],
            )
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(
                f"{source} holds no complete network of pi0 or pi0.5: {error}"
            ) from None
        shape.check_halves()
        return shape

    def check_halves(self) -> None:
        """Raises CheckpointError unless the expert fits the language model's keys and values."""
        for name in ("layers", "kv_heads", "head_dim"):
            text, expert = getattr(self.text, name), getattr(self.expert, name)
            if text != expert:
                raise CheckpointError(
                    f"{name} is {text} in the language model and {expert} in the action expert; "
                    "they must be equal"
                )


class PaliGemmaNetwork(nn.Module):
    """Everything that pi0 and pi0.5 have in common."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.vision_tower = SiglipTower(shape.vision)
        self.multi_modal_projector = ImageProjector(shape.vision.width, shape.text.width)
        self.language_model = DecoderStack(shape.text, shape.vocabulary)
        self.language_model.norm = nn.Identity()
        self.expert = DecoderStack(shape.expert)
        self.action_in_proj = nn.Linear(shape.action_dim, shape.expert.width)
        self.action_out_proj = nn.Linear(shape.expert.width, shape.action_dim)
        drop_last_layer(self.language_model.layers)

    @classmethod
    def load(
        cls, shape: NetworkShape, weights: WeightFiles, device: torch.device, dtype: torch.dtype
    ):
        """Build without memory on the meta device, then fill straight from the files.

        Raises:
            CheckpointError: tensors that are missing, unknown or of another shape.
        """
        with torch.device("meta"):
            network = cls(shape)
        unused = (*NOT_RUN, *unused_names(shape.text.layers))
        weights.load_into(network, device, dtype, unused=unused)
        network.finish()
        return network.eval()

    def finish(self) -> None:
        """Turn stored weights into the form that runs; called once, when they are there."""
        self.language_model.add_one_to_norms()

    def drop_what_expert_keeps(self) -> None:
        """Free weights whose results the expert holds for all flow steps."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patch rows and columns of one camera."""
        return self.shape.vision.side, self.shape.vision.side

    def visual_tokens(self, pixels: Tensor) -> Tensor:
        """[cameras, 3, S, S] -> [1, cameras * patches, d], camera after camera."""
        return self.multi_modal_projector(self.vision_tower(pixels)).flatten(0, 1)[None]

    def embed(self, ids: Tensor) -> Tensor:
        """[n] token ids -> [n, d], times sqrt(d) as in Gemma; visual tokens are not multiplied."""
        return self.language_model.embed_tokens(ids) * math.sqrt(self.shape.text.width)


class ImageProjector(nn.Module):
    """SigLIP's width -> the language model's."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(vision_width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return [..., text width] for [..., vision width]."""
        return self.linear(features)
