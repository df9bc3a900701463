"""The networks of OpenVLA and OpenVLA-OFT run over batches, with gradients.

The same modules that the policies run one observation at a time, unpruned. Two parts are left out:
rows of the vocabulary that no batch names, and in the last layer all queries but the rows that are
read.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_lab.training.batches import PLACEHOLDER, Batch
from vla_pruner_lab.training.vocabulary import UsedEmbedding, used_ids
from vla_pruner_ros.models.actions import BINS
from vla_pruner_ros.models.checkpoints import read_config
from vla_pruner_ros.models.decoder.attention import (
    attend,
    project_key_value,
    project_query,
    rotary_tables,
)
from vla_pruner_ros.models.images.preprocessing import Normalization
from vla_pruner_ros.models.openvla import oft_head
from vla_pruner_ros.models.openvla.prismatic import PrismaticModel, action_vocabulary
from vla_pruner_ros.models.openvla.prompt import BOS


class TrainingNetwork(nn.Module):
    """Network under training.

    model: PrismaticModel with the vocabulary in use. head and projector: of OpenVLA-OFT, else None.
    vocabulary: ids of the language model, padding included; tokens: without it.
    """

    def __init__(
        self,
        model: PrismaticModel,
        normalize: Normalization,
        vocabulary: int,
        tokens: int,
        head: oft_head.L1ActionHead | None = None,
        projector: oft_head.ProprioProjector | None = None,
    ) -> None:
        super().__init__()
        self.model, self.head, self.projector = model, head, projector
        self.normalize = normalize
        self.first_action = tokens - BINS
        self.other_ids = vocabulary - BINS
        self.patches = model.grid[0] * model.grid[1]
        llama = model.language_model.model
        positions = torch.arange(llama.config.max_position_embeddings)
        positions = positions.to(llama.rotary_emb.inv_freq.device)
        self.cos, self.sin = rotary_tables(llama.rotary_emb, positions, torch.float32)

    @classmethod
    def load(cls, directory: Path, device: torch.device) -> TrainingNetwork:
        """Load a checkpoint directory, in float32 and trainable."""
        config = read_config(directory)
        model = PrismaticModel.load(directory, config, device, torch.float32)
        text_config = model.language_model.config
        width = text_config.hidden_size
        head = oft_head.load_head(directory, width, device, torch.float32)
        projector = oft_head.load_proprio_projector(directory, width, device, torch.float32)
        tokens = action_vocabulary(config, text_config)
        _keep_used_rows(model.language_model, used_ids(directory, tokens), tokens)
        normalize = Normalization.read(directory, device)
        network = cls(model, normalize, text_config.vocab_size, tokens, head, projector)
        return network.requires_grad_(True).train()

    def loss(self, batch: Batch, patches: Tensor, token_loss: float = 0.0) -> Tensor:
        """Compute the mean cross entropy of action tokens (OpenVLA) or mean absolute error (OFT).

        Args:
            batch: of training.
            patches: uint8 [B, cameras, n, P, P, 3], the batch's, possibly with other colours.
            token_loss: for OFT, weight of the cross entropy of the same actions as tokens, read at
                the same rows. The absolute error alone hardly pulls towards a small object before
                its place is known. After Driess et al. 2025, "Knowledge Insulating
                Vision-Language-Action Models": there a backbone learns from discrete actions too,
                and continuous ones do not reach it.

        Returns:
            The loss, a scalar.
        """
        rows = self._outputs(batch, patches)
        if self.head is None:
            return self._cross_entropy(rows, batch.tokens)
        loss = F.l1_loss(self._actions(rows, batch).float(), batch.actions)
        if token_loss:
            loss = loss + token_loss * self._cross_entropy(rows, batch.tokens)
        return loss

    def _cross_entropy(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Compute the cross entropy over the complete vocabulary.

        Output rows of ids that are no actions stay at zero. Their equal logits of 0 enter the
        softmax as one term, log(their number).
        """
        logits = self.model.language_model.lm_head(rows).flatten(0, 1).float()
        others = logits.new_full((len(logits), 1), math.log(self.other_ids))
        targets = tokens.flatten() - self.first_action
        return F.cross_entropy(torch.cat([logits, others], dim=1), targets)

    def forward(self, batch: Batch, patches: Tensor) -> Tensor:
        """Return logits of the action tokens [B, 7, 256] (OpenVLA) or normalized actions [B, steps,
        7].
        """
        rows = self._outputs(batch, patches)
        if self.head is None:
            return self.model.language_model.lm_head(rows)
        return self._actions(rows, batch)

    def _outputs(self, batch: Batch, patches: Tensor) -> Tensor:
        """Return the hidden states [B, R, d] that become actions."""
        embeddings, positions, offset = self._embeddings(batch, patches)
        return self._decode(embeddings, positions, batch.read + offset, batch.lengths + offset)

    def _actions(self, rows: Tensor, batch: Batch) -> Tensor:
        return self.head(rows).view(batch.actions.shape)

    def _embeddings(self, batch: Batch, patches: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return embeddings, positions and the start of the ids.

        Returns:
            [B, L, d]: BOS, visual tokens, state, batch.ids; their positions [B, L] in the complete
            sequence; and where the ids start.
        """
        text = self.model.embed(batch.ids.clamp_min(0)) * (batch.ids != PLACEHOLDER)[..., None]
        start = self.model.embed(torch.full_like(batch.ids[:, :1], BOS))
        visual, visual_positions = self._visual(patches, batch.places)
        parts = [start, visual.to(text.dtype)]
        if batch.states is not None:
            parts.append(self.projector(batch.states)[:, None].to(text.dtype))
        offset = sum(part.shape[1] for part in parts)
        rest = offset - 1 - visual.shape[1] + text.shape[1]
        after = 1 + patches.shape[1] * self.patches + torch.arange(rest, device=text.device)
        zero = torch.zeros_like(visual_positions[:, :1])
        positions = torch.cat([zero, visual_positions, after.expand(len(text), -1)], dim=1)
        return torch.cat([*parts, text], dim=1), positions, offset

    def _visual(self, patches: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, cameras * n, d] and their positions; patches: [B, cameras, n, P, P, 3]."""
        size, cameras, count = places.shape
        pixels = self.normalize(patches.flatten(0, 2), torch.float32)
        pixels = pixels.unflatten(0, (size * cameras, count))
        visual = self.model.visual_tokens_of(pixels, places.flatten(0, 1))
        first = 1 + self.patches * torch.arange(cameras, device=places.device)
        return visual.view(size, cameras * count, -1), (places + first[:, None]).flatten(1)

    def _decode(self, hidden: Tensor, positions: Tensor, read: Tensor, lengths: Tensor) -> Tensor:
        """Return the hidden states [B, R, d] of the rows `read`, after the final norm."""
        llama = self.model.language_model.model
        causal = self.head is None
        index = torch.arange(hidden.shape[1], device=hidden.device)
        real = (index < lengths[:, None])[:, None, None]
        tables = self.cos[positions][:, None], self.sin[positions][:, None]
        *layers, last = llama.layers
        for layer in layers:
            # Causal: padding is at the end, so it does not affect the rows that are read.
            hidden = _run_layer(layer, hidden, tables, None if causal else real, causal)
        mask = (index <= read[..., None])[:, None] if causal else real
        return llama.norm(_run_layer(last, hidden, tables, mask, False, read))


def _run_layer(
    layer: nn.Module,
    hidden: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor | None,
    triangle: bool,
    read: Tensor | None = None,
) -> Tensor:
    """Run one decoder layer over [B, L, d]; read: int64 [B, R], the queries to compute."""
    normed = layer.input_layernorm(hidden)
    key, value = project_key_value(layer.self_attn, normed, *tables)
    if read is not None:
        hidden, normed = (_rows(tensor, read) for tensor in (hidden, normed))
        tables = tuple(_rows(table[:, 0], read)[:, None] for table in tables)
    query = project_query(layer.self_attn, normed, *tables)
    hidden = hidden + layer.self_attn.o_proj(attend(query, key, value, mask, triangle))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _rows(tensor: Tensor, index: Tensor) -> Tensor:
    """Gather [B, L, d] at [B, R] -> [B, R, d]."""
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[2]))


def _keep_used_rows(language_model: nn.Module, ids: list[int], tokens: int) -> None:
    """Keep the rows of embeddings and output that training reads: two thirds of all numbers go."""
    llama, output = language_model.model, language_model.lm_head
    llama.embed_tokens = UsedEmbedding(llama.embed_tokens.weight.detach(), ids)
    rows = output.weight.detach()[tokens - BINS : tokens].clone()
    language_model.lm_head = nn.Linear(rows.shape[1], BINS, bias=False, device=rows.device)
    language_model.lm_head.weight = nn.Parameter(rows)
