"""Choice of the tokens that keep their last keys and values (VLA-Cache, arXiv 2502.02175).

A token is reused if its patch looks as it did one inference ago and the text hardly attends to it.
The less spread a layer's attention is, the more of these tokens it reuses. `gated` (arXiv
2608.10824) computes everything after an action whose tokens were not clearly the likeliest ones.

What differs from the authors' code, and why:
- Entropies are of the text's rows alone, for those of all rows need every layer's whole map.
- Every layer from FIRST_LAYER on takes its share, in the code only the layers 2, 6, 9 and 11.
- The stillest patches are reused first, in the code those highest up in the image.
- Counts are shares of the patches, so that other grids work.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.reusing_pass import TextAttention
from vla_pruner_ros.pruning.token_selection import top_k

SIMILARITY = 0.996
"""Smallest cosine between a patch's pixels now and before."""
STATIC_SHARE, RELEVANT_SHARE = 120 / 256, 100 / 256
"""Patches that count as static at most, and those of them that the text looks at: recomputed."""
RELEVANT_LAYER = 15 / 32
"""Depth of the layer whose text attention counts."""
FIRST_LAYER = 2
GROWTH = 0.55
"""Part of a rise of the share from one layer to the next that is followed."""
LEAST_MARGIN = 0.65
"""Mean gap between the two likeliest tokens' probabilities below which nothing is reused next."""


def static_patches(image: Tensor, before: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the patches that look as before, the stillest first.

    Args:
        image, before: uint8 [S, S, 3].
        grid: rows and columns of patches.

    Returns:
        int64 [n], n at most STATIC_SHARE of the patches; equally still ones by lowest index.
    """
    now, then = (_patches(one, grid) for one in (image, before))
    lengths = now.norm(dim=1) * then.norm(dim=1)
    cosines = (now * then).sum(dim=1) / lengths.clamp_min(1e-8)
    cosines[(now == then).all(dim=1)] = 1.0  # a black patch has no direction
    order = top_k(cosines, round(STATIC_SHARE * len(cosines)))
    return order[cosines[order] >= SIMILARITY]


def _patches(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """uint8 [S, S, 3] -> float32 [rows * columns, pixels * 3]."""
    rows, columns = grid
    parts = image.float().unflatten(0, (rows, -1)).unflatten(2, (columns, -1))
    return parts.transpose(1, 2).flatten(2).flatten(0, 1)


def layer_shares(entropies: Tensor) -> Tensor:
    """Return the share of the reusable tokens that each layer reuses, float32 [layers].

    The least spread layer's share is 1, the most spread one's 0; a rise from layer to layer is
    damped. A token that one layer reuses is reused by all later ones, so shares never fall.
    """
    spread = (entropies.max() - entropies.min()).clamp_min(1e-10)
    shares = (1.0 - (entropies - entropies.min()) / spread).tolist()
    for layer in range(1, len(shares)):
        rise = shares[layer] - shares[layer - 1]
        if rise > 0:
            shares[layer] = shares[layer - 1] + GROWTH * rise
    shares[:FIRST_LAYER] = [0.0] * len(shares[:FIRST_LAYER])
    return torch.tensor(shares).cummax(dim=0).values


def reused_rows(
    static: Tensor, attention: TextAttention, first_row: int, num_layers: int
) -> list[Tensor]:
    """Return the prompt rows that each layer reuses.

    Args:
        static: int64 [n], patches in the order in which they are reused.
        attention: of the inference before.
        first_row: row of the first visual token.
        num_layers: L; the last layer reuses what the one before it does.

    Returns:
        L tensors int64 [at most n].
    """
    relevance = attention.visual[min(int(RELEVANT_LAYER * num_layers), num_layers - 2)]
    relevant = top_k(relevance, round(RELEVANT_SHARE * len(relevance)))
    rows = static[~torch.isin(static, relevant)] + first_row
    shares = layer_shares(attention.entropies).tolist()
    return [rows[: int(share * len(rows))] for share in (*shares, shares[-1])]


@dataclass(frozen=True)
class Held:
    """Inputs and attention of an inference whose keys and values the cache still holds.

    image: uint8 [S, S, 3]. ids: of the prompt. generation: of the cache's buffers.
    """

    image: Tensor
    ids: Tensor
    attention: TextAttention
    generation: int


class TokenReuse:
    """Memory from one inference to the next; for one camera."""

    def __init__(self, grid: tuple[int, int], num_layers: int) -> None:
        self._grid, self._num_layers = grid, num_layers
        self._gated = False
        self._held: Held | None = None
        self._next: Held | None = None
        self._margins: list[Tensor] = []

    def reset(self) -> None:
        """Compute everything in the next inference."""
        self._held = self._next = None
        self._gated, self._margins = False, []

    def begin(
        self, image: Tensor, ids: Tensor, generation: int, first_row: int, gated: bool
    ) -> list[Tensor]:
        """Return what each layer of this inference reuses, as reused_rows does.

        The cache is about to change: until keep() nothing is there to be reused.

        Args:
            image: uint8 [S, S, 3].
            ids: int64 [n], of the prompt.
            generation: of the cache's buffers.
            first_row: row of the first visual token.
            gated: whether this inference's margins decide about the next one.
        """
        held = self._held
        self.reset()
        self._gated = gated
        same_prompt = held is not None and torch.equal(held.ids, ids)
        if held is None or not same_prompt or held.generation != generation:
            return [torch.empty(0, dtype=torch.int64, device=image.device)] * self._num_layers
        static = static_patches(image, held.image, self._grid)
        return reused_rows(static, held.attention, first_row, self._num_layers)

    def offer(self, held: Held) -> None:
        """Take note of an inference that is about to give its action."""
        self._next = held

    def see(self, logits: Tensor) -> None:
        """Take note of how clear the choice of tokens was; logits: [n, vocabulary]."""
        if self._gated:
            best = logits.float().softmax(dim=-1).topk(2, dim=-1).values
            self._margins.append(best[:, 0] - best[:, 1])

    def keep(self) -> None:
        """Let the next inference reuse this one, which has given its action."""
        unsure = self._gated and bool(torch.cat(self._margins).mean() < LEAST_MARGIN)
        self._held = None if unsure else self._next
        self._margins = []
