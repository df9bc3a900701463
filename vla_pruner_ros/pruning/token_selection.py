"""Combine-then-filter: two relevances in, the kept visual tokens out (arXiv 2511.16449)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vla_pruner_ros.pruning.diversity import extend_max_min, max_min_diversity

TINY = torch.finfo(torch.float32).tiny  # keeps a division by an empty sum finite


@dataclass(frozen=True)
class Selection:
    """kept: sorted int64 [keep]. semantic_set, action_set: the top-k sets behind it, int64 [keep],
    best first, or None where the method has no such set."""

    kept: Tensor
    semantic_set: Tensor | None = None
    action_set: Tensor | None = None


def top_k(scores: Tensor, k: int) -> Tensor:
    """Indices of the k largest of scores [M], best first, equal ones by lowest index: int64 [k].

    torch.topk promises no order among equals, a stable sort does.
    """
    ranked = torch.nan_to_num(scores.float(), nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    ranked = ranked + 0.0  # -0.0 becomes 0.0: a radix sort would separate them
    return torch.sort(ranked, descending=True, stable=True).indices[:k]


def combine(num_visual: int, *sets: Tensor) -> Tensor:
    """The union of index sets as a bool mask [M]."""
    mask = torch.zeros(num_visual, dtype=torch.bool, device=sets[0].device)
    for indices in sets:
        mask.index_fill_(0, indices, True)
    return mask


def keep_best(scores: Tensor, keep: int) -> Tensor:
    """top_k in the tokens' own order: sorted int64 [keep]."""
    return top_k(scores, keep).sort().values


def filter_candidates(features: Tensor, candidates: Tensor, keep: int, at_most: int) -> Tensor:
    """The keep most diverse tokens of a mask [M] with keep..at_most set: sorted int64 [keep]."""
    find = slots_on_cpu if candidates.device.type == "cpu" else slots_on_device
    slots, is_candidate = find(candidates, at_most)
    order = max_min_diversity(features.index_select(0, slots), keep, is_candidate)
    return slots[order].sort().values


def slots_on_cpu(candidates: Tensor, at_most: int) -> tuple[Tensor, Tensor | None]:
    """Return the candidates of a mask [M]: int64 of their number, which a CPU may look at.

    The second is None: there are no others. at_most is that of slots_on_device.
    """
    return candidates.nonzero()[:, 0], None


def slots_on_device(candidates: Tensor, at_most: int) -> tuple[Tensor, Tensor | None]:
    """Move the candidates of a mask [M] to the front of an array of fixed length, whatever their
    number: int64 [min(at_most, M)], and bool of that shape, which of them are candidates."""
    slots = torch.sort(~candidates, stable=True).indices[: min(at_most, candidates.shape[0])]
    return slots, candidates[slots]


def combine_then_filter(
    features: Tensor,
    semantic: Tensor,
    action: Tensor | None,
    keep: int,
    validate: bool | None = None,
) -> Tensor:
    """Choose visual tokens by semantic and action relevance (arXiv 2511.16449, section 3).

    C_vl = top-k of semantic, C_act = top-k of action; of their union keep the k tokens that
    max_min_diversity picks by cosine distance of the features.

    features: [M, d]. semantic: [M]. action: [M], or None: the semantic set alone. Any float
    dtypes, one device. keep: 1..M.
    validate: look for NaN and Inf in the scores, and NaN in the features, which waits for a GPU;
        default: on a CPU only. Without it NaN ranks last and counts as no distance.

    Returns:
        Sorted indices, int64 [keep].

    Raises:
        ValueError: shapes, devices or dtypes that do not fit, batched input, keep out of range,
            scores that are not finite.
    """
    _check_inputs(features, semantic, action, keep)
    if validate is None:
        validate = features.device.type == "cpu"
    if validate:
        _check_finite(features=features, semantic=semantic, action=action)
    return select_by_relevance(features, semantic, action, keep).kept


def select_by_relevance(
    features: Tensor, semantic: Tensor, action: Tensor | None, keep: int
) -> Selection:
    """Run combine_then_filter without its checks, and return the two sets it started from.

    Args:
        features: float [M, D].
        semantic: float [M].
        action: float [M], or None.
        keep: tokens to keep.
    """
    semantic_set = top_k(semantic, keep)
    if action is None:
        return Selection(semantic_set.sort().values, semantic_set)
    action_set = top_k(action, keep)
    candidates = combine(semantic.shape[0], semantic_set, action_set)
    kept = filter_candidates(features, candidates, keep, at_most=2 * keep)
    return Selection(kept, semantic_set, action_set)


def select_with_coverage(
    features: Tensor, semantic: Tensor, action: Tensor | None, keep: int, coverage: float
) -> Selection:
    """Select by relevance for most of the budget, by diversity over all tokens for the rest.

    Args:
        features: float [M, D].
        semantic: float [M].
        action: float [M], or None.
        keep: tokens to keep.
        coverage: share of the budget, 0 to 1, for tokens as far as possible from those chosen so
            far, whatever their relevance; at least one token is chosen by relevance.
    """
    extra = min(round(coverage * keep), keep - 1)
    core = select_by_relevance(features, semantic, action, keep - extra)
    if extra == 0:
        return core
    added = extend_max_min(features, core.kept, extra)
    return replace(core, kept=torch.cat([core.kept, added]).sort().values)


def _check_inputs(features: Tensor, semantic: Tensor, action: Tensor | None, keep: int) -> None:
    if features.ndim != 2:
        raise ValueError(
            f"features must be [M, d], got shape {tuple(features.shape)}; "
            "a batch holds several robots: call once for each"
        )
    num_visual = features.shape[0]
    for name, scores in (("semantic", semantic), ("action", action)):
        if scores is None:
            continue
        if scores.shape != (num_visual,):
            raise ValueError(f"{name} must be [{num_visual}], got {tuple(scores.shape)}")
        if not scores.is_floating_point():
            raise ValueError(f"{name} must be of a float dtype, got {scores.dtype}")
        if scores.device != features.device:
            raise ValueError(f"{name} is on {scores.device}, features on {features.device}")
    if not features.is_floating_point():
        raise ValueError(f"features must be of a float dtype, got {features.dtype}")
    if isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= num_visual:
        raise ValueError(f"keep must be an integer in 1..{num_visual}, got {keep!r}")


def _check_finite(**arrays: Tensor | None) -> None:
    for name, array in arrays.items():
        # One sum suffices in the usual case, without an array of verdicts as large as the features.
        if array is None or torch.isfinite(array.sum(dtype=torch.float32)):
            continue
        if not torch.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or Inf: the model that produced it has diverged")
