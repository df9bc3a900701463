"""pi0's network (arXiv 2410.24164): PaliGemma reads images and words, an action expert flows.

The modules are transformers' SigLIP and Gemma, called one by one; the loops are ours. The expert
has as many layers as the language model and attends, layer by layer, to the keys and values that
the language model left behind.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.checkpoints import WeightFiles

NOT_RUN = (
    "expert.embed_tokens.*",
    "*.rotary_emb.inv_freq",
    "*.position_ids",
    "vision_tower.head.*",
    "normalize_inputs.*",
    "normalize_targets.*",
    "unnormalize_outputs.*",
)
LAST_LAYER_NOT_RUN = ("self_attn.q_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp")
"""Of the language model's last layer only keys and values are used: the expert reads them."""


class Pi0Network(nn.Module):
    """Everything of a pi0 checkpoint that inference runs. config: transformers' PI0Config."""

    def __init__(self, config) -> None:
        from transformers import GemmaModel, SiglipVisionModel

        super().__init__()
        vlm, width = config.vlm_config, config.dit_config.hidden_size
        self.config = config
        vlm.vision_config.vision_use_head = False  # pi0 reads patches, not SigLIP's pooled vector
        self.vision_tower = SiglipVisionModel(vlm.vision_config)
        self.multi_modal_projector = ImageProjector(
            vlm.vision_config.hidden_size, vlm.text_config.hidden_size
        )
        self.language_model = GemmaModel(vlm.text_config)
        self.expert = GemmaModel(config.dit_config)
        self.expert.embed_tokens = None
        self.state_proj = nn.Linear(config.max_state_dim, width)
        self.action_in_proj = nn.Linear(config.max_action_dim, width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)
        self.action_out_proj = nn.Linear(width, config.max_action_dim)
        self._drop_what_is_not_run()

    def _drop_what_is_not_run(self) -> None:
        last = self.language_model.layers[-1]
        for name in LAST_LAYER_NOT_RUN:
            last.set_submodule(name, nn.Identity())

    @classmethod
    def load(
        cls, config, weights: WeightFiles, device: torch.device, dtype: torch.dtype
    ) -> Pi0Network:
        """Built without memory on the meta device, then filled straight from the files.

        Raises:
            CheckpointError: weights that do not fit the configuration.
        """
        with torch.device("meta"):
            network = cls(config)
        last = f"language_model.layers.{len(network.language_model.layers) - 1}"
        unused = (f"{last}.{name}.*" for name in LAST_LAYER_NOT_RUN)
        weights.load_into(network, device, dtype, unused=(*NOT_RUN, *unused))
        network.restore_tables(device)
        return network.eval()

    def restore_tables(self, device: torch.device) -> None:
        """What is computed and not stored came out empty on the meta device."""
        for gemma in (self.language_model, self.expert):
            gemma.rotary_emb = type(gemma.rotary_emb)(gemma.config).to(device)
        words, patches = self.language_model.embed_tokens, self.vision_tower.embeddings
        words.embed_scale = torch.tensor(words.scalar_embed_scale, device=device)
        patches.position_ids = torch.arange(patches.num_positions, device=device)[None]

    @property
    def grid(self) -> tuple[int, int]:
        """Patch rows and columns of one camera."""
        vision = self.config.vlm_config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    def visual_tokens(self, pixels: Tensor) -> Tensor:
        """[cameras, 3, S, S] -> [1, cameras * patches, d], camera after camera."""
        features = self.vision_tower(pixels).last_hidden_state
        return self.multi_modal_projector(features).flatten(0, 1)[None]

    def embed(self, ids: Tensor) -> Tensor:
        """[n] token ids -> [n, d], scaled by sqrt(d) as Gemma does; visual tokens are not."""
        return self.language_model.embed_tokens(ids)

    def embed_actions(self, actions: Tensor, time: Tensor) -> Tensor:
        """Noisy actions [1, chunk, max_action_dim] at one flow time: -> [1, chunk, width].

        time: its embedding [width], see time_embeddings.
        """
        embedded = self.action_in_proj(actions)
        both = torch.cat([embedded, time.to(embedded.dtype).expand_as(embedded)], dim=-1)
        return self.action_time_mlp_out(F.silu(self.action_time_mlp_in(both)))


class ImageProjector(nn.Module):
    """SigLIP's width -> the language model's."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(vision_width, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


def flow_times(steps: int) -> list[float]:
    """Times at which the velocity is evaluated: 1 (noise) down to 1 / steps, ends at 0."""
    return [1.0 - step / steps for step in range(steps)]


def time_embeddings(config, times: list[float], device: torch.device) -> Tensor:
    """Sines and cosines of the flow time at geometric periods: float32 [times, width]."""
    width = config.dit_config.hidden_size
    fraction = torch.linspace(0.0, 1.0, width // 2)
    period = config.min_period * (config.max_period / config.min_period) ** fraction
    angles = torch.tensor(times)[:, None] * (2.0 * math.pi / period)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(device)
