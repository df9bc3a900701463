"""The network that OpenVLA and OpenVLA-OFT share: fused vision, projector, LLaMA.

Official Hugging Face layout: config.json, safetensors (single or sharded), with the names of
openvla/openvla-7b. Nothing from the directory is executed.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.checkpoints import WeightFiles, read_optional_json
from vla_pruner_ros.models.decoder.layers import RmsNorm
from vla_pruner_ros.models.decoder.pruned_decoder import PrunedDecoder
from vla_pruner_ros.models.openvla.vision_backbone import (
    FusedVisionBackbone,
    Projector,
    TowerShape,
)
from vla_pruner_ros.models.policy import CheckpointError

VISION_BACKBONE = "dinosiglip-vit-so-224px"
TOWERS = ("vision_backbone.featurizer", "vision_backbone.fused_featurizer")
HEADS_BY_WIDTH = {1024: 16, 1152: 16}
"""DINOv2 ViT-L and SigLIP So400m; head counts cannot be read off tensor shapes."""
OVERRIDES_FILE = "tiny_vision_overrides.json"
"""Says the head counts of towers of other widths, by timm model name."""
NOT_RUN = (
    "vision_backbone.fused_featurizer.attn_pool.*",
    "vision_backbone.featurizer.norm.*",
    "vision_backbone.fused_featurizer.norm.*",
    "*.rotary_emb.inv_freq",
)


class PrismaticModel(nn.Module):
    """vision_backbone, projector and language_model, under their checkpoint names."""

    def __init__(self, dino: TowerShape, siglip: TowerShape, text_config) -> None:
        from transformers import LlamaForCausalLM

        super().__init__()
        self.vision_backbone = FusedVisionBackbone(dino, siglip)
        self.projector = Projector(dino.width + siglip.width, text_config.hidden_size)
        self.language_model = LlamaForCausalLM(text_config)
        _fuse_norms(self.language_model.model)
        side = math.isqrt(dino.patches)
        self.grid = (side, side)

    @classmethod
    def load(
        cls, directory: Path, config: dict, device: torch.device, dtype: torch.dtype
    ) -> PrismaticModel:
        """Built without memory on the meta device, then filled straight from the files.

        Raises:
            CheckpointError: another architecture, or weights that do not fit.
        """
        check_architecture(config)
        weights = WeightFiles(directory)
        dino, siglip = tower_shapes(directory, config, weights.shapes)
        text_config = llama_config(config)
        with torch.device("meta"):
            model = cls(dino, siglip, text_config)
        last_blocks = (
            f"{tower}.blocks.{shape.depth - 1}.*"
            for tower, shape in zip(TOWERS, (dino, siglip), strict=True)
        )
        weights.load_into(model, device, dtype, unused=(*NOT_RUN, *last_blocks))
        model.restore_tables(device)
        return model.eval()

    def restore_tables(self, device: torch.device) -> None:
        """Rotary frequencies are computed, not stored; on the meta device they came out empty."""
        llama = self.language_model.model
        with torch.device("cpu"):
            llama.rotary_emb = type(llama.rotary_emb)(llama.config)
        llama.rotary_emb.to(device)

    def new_decoder(self) -> PrunedDecoder:
        """Return a pruned decoder over the language model's layers."""
        llama = self.language_model.model
        return PrunedDecoder(llama, llama.config.max_position_embeddings)

    def embed(self, ids: Tensor) -> Tensor:
        """[..., n] token ids -> [..., n, d]."""
        return self.language_model.model.embed_tokens(ids)

    def visual_tokens(self, pixels: Tensor, task: Tensor | None = None) -> Tensor:
        """[cameras, 6, S, S] -> [1, cameras * patches, d], camera after camera.

        task: [d], see FusedVisionBackbone.
        """
        return self.projector(self.vision_backbone(pixels, task)).flatten(0, 1)[None]

    def visual_tokens_of(self, patches: Tensor, places: Tensor) -> Tensor:
        """Some patches of each camera, [cameras, n, 6, P, P] at places [cameras, n] ->
        [cameras, n, d]."""
        return self.projector(self.vision_backbone.forward_some(patches, places))


def check_architecture(config: dict) -> None:
    """Raises CheckpointError for what this file does not build."""
    backbone = config.get("vision_backbone_id", VISION_BACKBONE)
    if backbone != VISION_BACKBONE or not config.get("use_fused_vision_backbone", True):
        raise CheckpointError(
            f"vision backbone {backbone!r} is not supported; only {VISION_BACKBONE} is"
        )
    text_model = config.get("text_config", {}).get("model_type", "llama")
    if text_model != "llama":
        raise CheckpointError(f"language model {text_model!r} is not supported; only llama is")


def llama_config(config: dict):
    """transformers' LlamaConfig; what config.json leaves out is LLaMA-2-7B's."""
    from transformers import LlamaConfig

    given = dict(config.get("text_config", {}))
    given.pop("torch_dtype", None)
    return LlamaConfig(**given)


def action_vocabulary(config: dict, text_config) -> int:
    """Token ids without the padding rows; action tokens are the last 256 of them."""
    return text_config.vocab_size - config.get("pad_to_multiple_of", 64)


def tower_shapes(
    directory: Path, config: dict, shapes: dict[str, tuple[int, ...]]
) -> tuple[TowerShape, TowerShape]:
    """DINOv2's and SigLIP's, read off the tensors; raises CheckpointError if they are not there."""
    overrides = read_optional_json(directory / OVERRIDES_FILE)
    models = config.get("timm_model_ids", [None, None])
    dino, siglip = (
        _tower_shape(tower, shapes, overrides.get(model, {}))
        for tower, model in zip(TOWERS, models, strict=True)
    )
    return dino, siglip


def _tower_shape(tower: str, shapes: dict[str, tuple[int, ...]], overrides: dict) -> TowerShape:
    blocks = re.compile(re.escape(tower) + r"\.blocks\.(\d+)\.")
    numbers = [int(match[1]) for match in map(blocks.match, shapes) if match]
    try:
        width, _, patch_size, _ = shapes[f"{tower}.patch_embed.proj.weight"]
        return TowerShape(
            width=width,
            depth=max(numbers) + 1,
            heads=_heads(tower, width, overrides),
            mlp_width=shapes[f"{tower}.blocks.0.mlp.fc1.weight"][0],
            registers=shapes.get(f"{tower}.reg_token", (1, 0))[1],
            layer_scale=f"{tower}.blocks.0.ls1.scale_factor" in shapes,
            patch_size=patch_size,
            patches=shapes[f"{tower}.pos_embed"][1],
        )
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"the weights of {tower} are missing or have unexpected shapes: {error}"
        ) from None


def _heads(tower: str, width: int, overrides: dict) -> int:
    heads = overrides.get("num_heads", HEADS_BY_WIDTH.get(width))
    if heads is None or width % heads:
        raise CheckpointError(
            f"{tower} is {width} wide, which is not a known size: "
            f"give its num_heads in {OVERRIDES_FILE}"
        )
    return heads


class FusedRmsNorm(RmsNorm):
    """LLaMA's norm as one fused operation; equal to transformers' in float32."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise [..., width]; return the same shape and dtype."""
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


def _fuse_norms(llama: nn.Module) -> None:
    width, eps = llama.config.hidden_size, llama.config.rms_norm_eps
    llama.norm = FusedRmsNorm(width, eps)
    for layer in llama.layers:
        layer.input_layernorm = FusedRmsNorm(width, eps)
        layer.post_attention_layernorm = FusedRmsNorm(width, eps)
