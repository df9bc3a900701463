"""The few rows of a 32064-token vocabulary that small policies use, apart and back in place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.actions import BINS
from vla_pruner_ros.models.openvla.prompt import EMPTY_TOKEN


def used_ids(directory: Path, tokens: int) -> list[int]:
    """Return the ids of the checkpoint's tokenizer, of the mark before actions, and of action
    tokens.

    Args:
        tokens: ids of the language model without the padding rows.
    """
    text_ids = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"].values()
    return sorted({*text_ids, EMPTY_TOKEN, *range(tokens - BINS, tokens)})


class UsedEmbedding(nn.Module):
    """Embedding that has only the rows of some ids; every other id reads as the first one's."""

    def __init__(self, whole: Tensor, ids: Sequence[int]) -> None:
        """whole: [vocabulary, d]."""
        super().__init__()
        chosen = torch.tensor(ids, device=whole.device)
        self.weight = nn.Parameter(whole[chosen].clone())
        slot = torch.zeros(len(whole), dtype=torch.int64, device=whole.device)
        slot[chosen] = torch.arange(len(ids), device=whole.device)
        self.register_buffer("slot", slot, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids, int64 [...]; returns float [..., width]."""
        return F.embedding(self.slot[ids], self.weight)


def spread_rows(rows: Tensor, ids: Sequence[int], vocabulary: int) -> Tensor:
    """Spread [len(ids), d] -> [vocabulary, d], zero elsewhere (and zeros compress well)."""
    whole = rows.new_zeros(vocabulary, rows.shape[1])
    whole[torch.tensor(ids)] = rows
    return whole
