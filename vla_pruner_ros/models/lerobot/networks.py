"""Parts that the networks of LeRobot's flow policies share: names of tensors, unused weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn

WRAPPERS = (r"^(?:module\.|_orig_mod\.)+", "")
"""Prefixes of wrappers used in training, and their replacement."""
LAST_LAYER_NOT_RUN = ("self_attn.q_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp")
"""Parts of the language model's last layer that do not run: the expert reads its cache alone."""
TRAINING_ONLY = (
    "language_model.norm.*",
    "expert.lm_head.*",
    "expert.embed_tokens.*",
    "*.rotary_emb.inv_freq",
    "*.position_ids",
    "vision_tower.head.*",
    "normalize_inputs.*",
    "normalize_targets.*",
    "unnormalize_outputs.*",
)
"""Tensors that inference does not run."""


def renamed(stored: str, patterns: Iterable[tuple[str, str]]) -> str:
    """Return a tensor's name after all replacements (pattern, text), in order."""
    for pattern, replacement in patterns:
        stored = re.sub(pattern, replacement, stored)
    return stored


def drop_last_layer(layers: nn.ModuleList) -> None:
    """Remove the parts of the last layer that do not run."""
    for name in LAST_LAYER_NOT_RUN:
        layers[-1].set_submodule(name, nn.Identity())


def unused_names(layers: int) -> Iterator[str]:
    """Yield the patterns of the last layer's tensors that are not read."""
    return (f"language_model.layers.{layers - 1}.{name}.*" for name in LAST_LAYER_NOT_RUN)
