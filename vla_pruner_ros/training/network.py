"""The networks of OpenVLA and OpenVLA-OFT run over batches, with gradients.

The same modules that the policies run one observation at a time; here transformers' own LLaMA
forward runs them over padded batches, unpruned.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models import oft_head
from vla_pruner_ros.models.checkpoints import read_config
from vla_pruner_ros.models.preprocessing import Normalization
from vla_pruner_ros.models.prismatic import PrismaticModel
from vla_pruner_ros.models.prompt import BOS
from vla_pruner_ros.training.batches import PLACEHOLDER, Batch


class TrainingNetwork(nn.Module):
    """model: PrismaticModel; head and projector: of OpenVLA-OFT, else None."""

    def __init__(
        self,
        model: PrismaticModel,
        normalize: Normalization,
        head: oft_head.L1ActionHead | None = None,
        projector: oft_head.ProprioProjector | None = None,
    ) -> None:
        super().__init__()
        self.model, self.head, self.projector = model, head, projector
        self.normalize = normalize

    @classmethod
    def load(cls, directory: Path, device: torch.device) -> TrainingNetwork:
        """From a checkpoint directory, in float32 and trainable."""
        config = read_config(directory)
        model = PrismaticModel.load(directory, config, device, torch.float32)
        width = model.language_model.config.hidden_size
        head = oft_head.load_head(directory, width, device, torch.float32)
        projector = oft_head.load_proprio_projector(directory, width, device, torch.float32)
        network = cls(model, Normalization.read(directory, device), head, projector)
        return network.requires_grad_(True).train()

    def loss(self, batch: Batch, pictures: Tensor) -> Tensor:
        """Mean cross entropy of the action tokens (OpenVLA) or mean absolute error (OFT).

        pictures: the batch's, possibly augmented, 0..255.
        """
        output = self(batch, pictures)
        if self.head is None:
            return F.cross_entropy(output.flatten(0, 1).float(), batch.targets.flatten())
        return F.l1_loss(output.float(), batch.targets)

    def forward(self, batch: Batch, pictures: Tensor) -> Tensor:
        """Logits [B, 7, vocabulary] (OpenVLA) or normalised actions [B, steps, 7] (OFT)."""
        embeddings, offset = self._embeddings(batch, pictures)
        mask = self._mask(batch, offset, embeddings.shape[1])
        llama = self.model.language_model.model
        done = llama(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
        hidden = done.last_hidden_state
        read = (batch.read + offset)[..., None].expand(-1, -1, hidden.shape[2])
        rows = hidden.gather(1, read)
        if self.head is None:
            return self.model.language_model.lm_head(rows)
        return self.head(rows).view(batch.targets.shape)

    def _embeddings(self, batch: Batch, pictures: Tensor) -> tuple[Tensor, int]:
        """[B, L, d]: BOS, visual tokens, state, batch.ids; and where the ids start."""
        text = self.model.embed(batch.ids.clamp_min(0)) * (batch.ids != PLACEHOLDER)[..., None]
        start = self.model.embed(torch.full_like(batch.ids[:, :1], BOS))
        pixels = self.normalize(pictures.flatten(0, 1), torch.float32)
        visual = self.model.visual_tokens(pixels).view(len(text), -1, text.shape[2])
        parts = [start, visual.to(text.dtype)]
        if batch.states is not None:
            parts.append(self.projector(batch.states)[:, None].to(text.dtype))
        offset = sum(part.shape[1] for part in parts)
        return torch.cat([*parts, text], dim=1), offset

    def _mask(self, batch: Batch, offset: int, length: int) -> Tensor | None:
        """None: causal, where padding at the end disturbs nobody; or bool [B, 1, L, L]: every
        token sees every real one."""
        if self.head is None:
            return None
        positions = torch.arange(length, device=batch.lengths.device)
        real = positions < (batch.lengths + offset)[:, None]
        return real[:, None, None].expand(-1, 1, length, -1)


def initialise(network: nn.Module, layers: int, seed: int) -> None:
    """Draw weights to start training from, in place.

    Linear maps keep the variance of their input; those that end a residual branch are smaller by
    sqrt(2 * layers), so that the sum over the branches stays of order one.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        value = _start_value(name, parameter.shape, layers, generator)
        parameter.data.copy_(value)


def _start_value(name: str, shape: torch.Size, layers: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if name.endswith("bias"):
        return torch.zeros(shape)
    if "norm" in name or "scale_factor" in name or _is_layer_norm_of_head(name):
        return torch.ones(shape)
    if name.endswith("lm_head.weight"):
        return noise * 0.02
    if any(part in name for part in ("embed_tokens", "pos_embed", "cls_token", "reg_token")):
        return noise * 0.2
    is_branch_end = any(
        name.endswith(end) for end in ("o_proj.weight", "down_proj.weight", "attn.proj.weight")
    ) or ("mlp.fc2" in name)
    fan_in = shape[1:].numel()
    return noise * fan_in**-0.5 * ((2 * layers) ** -0.5 if is_branch_end else 1.0)


def _is_layer_norm_of_head(name: str) -> bool:
    return "mlp_resnet_blocks" in name and ".ffn.0." in name
