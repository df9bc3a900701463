"""Max-min diversity: the filter step of combine-then-filter."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.pruning import diversity_triton

TINY_LENGTH = float(np.finfo(np.float32).tiny) ** 0.5
"""Shorter features count as zero."""


def max_min_diversity(features: Tensor, k: int, candidates: Tensor | None = None) -> Tensor:
    """Choose k tokens greedily so that the smallest pairwise cosine distance stays large.

    Starts with the candidate whose nearest other candidate is farthest, then adds the candidate
    farthest from its nearest chosen token (arXiv 2511.16449, filter step). Computed in float32;
    equal distances: lowest index first; no token is chosen twice, identical features included.
    O(k n) after one Gram matrix.

    features: [n, d] any float dtype. candidates: bool [n], None means all; on a GPU the caller
    guarantees at least k of them, for looking would wait for the device.

    Returns:
        The choices in greedy order, int64 [k].

    Raises:
        ValueError: wrong shapes, k negative or above the number of candidates.
    """
    _check(features, k, candidates)
    return greedy_max_min(cosine_distances(features), k, candidates)


def extend_max_min(features: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Choose more tokens, each the one farthest from its nearest chosen token.

    The greedy step of max_min_diversity, begun with a set that is there already.

    features: [n, d] any float dtype. chosen: int64 [m], different tokens, 1 <= m <= n - count.

    Returns:
        The new choices in greedy order, int64 [count].
    """
    extend = _extend_on_cpu if features.device.type == "cpu" else extend_on_device
    return extend(features, chosen, count)


def extend_on_device(features: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Run extend_max_min without reading a value on the host.

    Args:
        features: float [M, D].
        chosen: int64 [c], chosen so far.
        count: further ones to choose.

    Returns:
        Int64 [count].
    """
    distances = torch.nan_to_num(cosine_distances(features), nan=0.0)
    nearest = distances.index_select(0, chosen).amin(dim=0)
    # A virtual token that is as far from each as the chosen set, and is drawn first.
    square = torch.nn.functional.pad(distances, (1, 0, 1, 0))
    square[0, 1:] = nearest
    first_scores = torch.zeros_like(square[0])
    first_scores[:1] = torch.inf
    first_scores.index_fill_(0, chosen + 1, -torch.inf)
    fused = distances.is_cuda and diversity_triton.AVAILABLE
    greedy = diversity_triton.greedy if fused else greedy_torch
    return greedy(square, first_scores, count + 1)[1:] - 1


def _extend_on_cpu(features: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Only the rows of chosen tokens are computed: most of the Gram matrix is never read."""
    unit = torch.nn.functional.normalize(features.detach().float(), dim=1, eps=TINY_LENGTH)
    similar = torch.nan_to_num(unit.index_select(0, chosen) @ unit.T, nan=1.0)
    closest = similar.amax(dim=0).numpy()  # cosine to the nearest chosen token
    closest[chosen.numpy()] = np.inf
    rows, order = unit.numpy(), np.empty(count, dtype=np.int64)
    for step in range(count):
        choice = order[step] = closest.argmin()
        np.fmax(closest, rows @ rows[choice], out=closest)
        closest[choice] = np.inf
    return torch.from_numpy(order)


def cosine_distances(features: Tensor) -> Tensor:
    """1 - cos(u, v) of every pair of rows, float32 [n, n]; a zero row is at distance 1 from all.

    The Gram matrix is taken of the features as they are and scaled by its diagonal afterwards:
    products of bfloat16 values are exact in float32 and in TF32, so bfloat16 features give the
    same distances whatever float32 matmul precision the host program has set.
    """
    features = features.detach().float()
    gram = features @ features.T
    scale = gram.diagonal().clamp_min(torch.finfo(torch.float32).tiny).rsqrt()
    return 1.0 - gram * torch.outer(scale, scale)  # in this order it rounds symmetrically


def greedy_max_min(distances: Tensor, k: int, candidates: Tensor | None = None) -> Tensor:
    """The greedy choice of max_min_diversity on given distances [n, n]: int64 [k], greedy order.

    NaN distances count as 0. Fixed shapes and no host synchronisation on a GPU, one fused kernel
    where Triton is installed; numpy on a CPU, where its calls cost a third of torch's.
    """
    distances = torch.nan_to_num(distances.float(), nan=0.0)
    first_scores = _distance_to_nearest_other(distances, candidates)
    if distances.device.type == "cpu":
        return _greedy_numpy(distances, first_scores, k)
    if distances.is_cuda and diversity_triton.AVAILABLE:
        return diversity_triton.greedy(distances, first_scores, k)
    return greedy_torch(distances, first_scores, k)


def _distance_to_nearest_other(distances: Tensor, candidates: Tensor | None) -> Tensor:
    """float32 [n]; -inf marks what may not be chosen, +inf a candidate without another."""
    others = distances.clone()
    others.fill_diagonal_(torch.inf)
    if candidates is None:
        return others.amin(dim=1)
    nearest = others.masked_fill(~candidates, torch.inf).amin(dim=1)
    return nearest.masked_fill(~candidates, -torch.inf)


def _greedy_numpy(distances: Tensor, first_scores: Tensor, k: int) -> Tensor:
    rows, nearest = distances.numpy(), first_scores.numpy()
    order = np.empty(k, dtype=np.int64)
    for step in range(k):
        choice = order[step] = nearest.argmax()
        if step == 0:  # from here on: distance to the nearest chosen token
            nearest = np.where(nearest == -np.inf, nearest, rows[choice])
        else:
            np.minimum(nearest, rows[choice], out=nearest)
        nearest[choice] = -np.inf
    return torch.from_numpy(order)


def greedy_torch(distances: Tensor, first_scores: Tensor, k: int) -> Tensor:
    """Choose greedily in plain torch, for accelerators without Triton; see greedy_max_min.

    Args:
        distances: float [M, M].
        first_scores: float [M], which decide the first choice.
        k: number of choices.

    Returns:
        Int64 [k].
    """
    order = torch.empty(k, dtype=torch.int64, device=distances.device)
    barred = first_scores == -torch.inf
    nearest = torch.full_like(first_scores, torch.inf)
    scores = first_scores
    for step in range(k):
        choice = scores.argmax(keepdim=True)  # the first of equal maxima
        order[step : step + 1] = choice
        barred.scatter_(0, choice, True)
        nearest = torch.minimum(nearest, distances.index_select(0, choice)[0])
        scores = nearest.masked_fill(barred, -torch.inf)
    return order


def _check(features: Tensor, k: int, candidates: Tensor | None) -> None:
    if features.ndim != 2:
        raise ValueError(f"features must be [n, d], got shape {tuple(features.shape)}")
    available = features.shape[0]
    if candidates is not None:
        if candidates.shape != (available,) or candidates.dtype != torch.bool:
            raise ValueError(
                f"candidates must be bool [{available}], got {candidates.dtype} "
                f"{tuple(candidates.shape)}"
            )
        if candidates.device.type == "cpu":
            available = int(candidates.sum())
    if not 0 <= k <= available:
        raise ValueError(f"k must be between 0 and the {available} candidates, got {k}")
