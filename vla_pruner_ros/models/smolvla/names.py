"""Names of the tensors of a SmolVLA file, and the sizes read off them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_pruner_ros.models.checkpoints import WeightFiles
from vla_pruner_ros.models.decoder.layers import DecoderShape, decoder_shape
from vla_pruner_ros.models.images.siglip import SiglipShape, siglip_shape
from vla_pruner_ros.models.lerobot.networks import TRAINING_ONLY, WRAPPERS, renamed
from vla_pruner_ros.models.policy import CheckpointError

PREFIXES = (
    WRAPPERS,
    (r"^model\.", ""),
    WRAPPERS,
    (r"^vlm_with_expert\.", ""),
    (r"^vlm\.(?:model\.)?vision_model\.", "vision_tower."),
    (r"^vlm\.(?:model\.)?connector\.modality_projection\.", "connector."),
    (r"^vlm\.(?:model\.)?text_model\.", "language_model."),
    (r"^vlm\.lm_head\.", "language_model.lm_head."),
    (r"^lm_expert\.(?:model\.)?", "expert."),
)
"""Pattern -> replacement, applied in this order."""
NOT_RUN = ("language_model.lm_head.*", *TRAINING_ONLY)


def module_name(stored: str) -> str:
    """Turn a tensor's name in a file into its name in SmolVlaNetwork."""
    return renamed(stored, PREFIXES)


@dataclass(frozen=True)
class VlmNumbers:
    """Numbers of the vision-language model that no tensor shows; SmolVLM2-500M's by default."""

    head_dim: int = 64
    vision_heads: int = 12
    eps: float = 1e-5


@dataclass(frozen=True)
class SmolVlaShape:
    """Sizes of the whole network.

    Attributes:
        shuffle: side of the square of patches that becomes one token.
        cross: for each layer of the expert, whether it attends to the prefix alone.
    """

    vision: SiglipShape
    text: DecoderShape
    expert: DecoderShape
    vocabulary: int
    shuffle: int
    state_dim: int
    action_dim: int
    cross: tuple[bool, ...]

    @property
    def side(self) -> int:
        """Token rows (and columns) of one camera."""
        return self.vision.side // self.shuffle

    @classmethod
    def read(cls, weights: WeightFiles, numbers: VlmNumbers, every: int) -> SmolVlaShape:
        """Read the sizes off the tensors.

        Args:
            numbers: what the tensors do not show.
            every: self_attn_every_n_layers, used if the tensors do not show which layer is which.

        Raises:
            CheckpointError: tensors that are missing, or halves that do not fit together.
        """
        shapes = weights.shapes
        try:
            shape = cls._read(shapes, numbers, every)
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(
                f"{weights.directory} holds no complete network of SmolVLA: {error}"
            ) from None
        if shape.text.layers != shape.expert.layers:
            raise CheckpointError(
                f"the action expert has {shape.expert.layers} layers, the language model "
                f"{shape.text.layers}; only equal numbers are supported"
            )
        return shape

    @classmethod
    def _read(cls, shapes: dict, numbers: VlmNumbers, every: int) -> SmolVlaShape:
        keys = shapes["language_model.layers.0.self_attn.k_proj.weight"][0]
        settings = {"activation": "silu", "eps": numbers.eps}
        kv_heads = keys // numbers.head_dim
        vision = siglip_shape(shapes, "vision_tower.", numbers.vision_heads)
        inputs = shapes["connector.proj.weight"][1]
        shuffle = math.isqrt(inputs // vision.width)
        if shuffle * shuffle * vision.width != inputs or vision.side % shuffle:
            raise ValueError(f"connector of {inputs} inputs for patches {vision.width} wide")
        expert = decoder_shape(shapes, "expert.", kv_heads, **settings)
        return cls(
            vision=vision,
            text=decoder_shape(shapes, "language_model.", kv_heads, **settings),
            expert=expert,
            vocabulary=shapes["language_model.embed_tokens.weight"][0],
            shuffle=shuffle,
            state_dim=shapes["state_proj.weight"][1],
            action_dim=shapes["action_in_proj.weight"][1],
            cross=_cross_layers(shapes, expert, keys, every),
        )


def _cross_layers(shapes: dict, expert: DecoderShape, keys: int, every: int) -> tuple[bool, ...]:
    inputs = [
        shapes[f"expert.layers.{layer}.self_attn.k_proj.weight"][1]
        for layer in range(expert.layers)
    ]
    if keys == expert.width:  # the tensors of both kinds have one shape
        return tuple(every < 1 or layer % every != 0 for layer in range(expert.layers))
    unknown = set(inputs) - {keys, expert.width}
    if unknown:
        raise ValueError(f"k_proj of the expert has {unknown} inputs, not {keys} or {expert.width}")
    return tuple(width == keys for width in inputs)
