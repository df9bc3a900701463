"""The pruning methods: signals in, kept tokens out; one small class each, one registry.

Every selector works on a single robot's tokens, all cameras concatenated, and chooses globally
across the cameras, as the paper does. Scores may have any float dtype and are ranked in float32;
equal scores: lowest index first; NaN ranks last. On a GPU nothing here waits for the device and
all shapes depend on M and keep alone, so that select() can be captured in a CUDA graph.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.diversity import max_min_diversity
from vla_pruner_ros.pruning.token_selection import (
    TINY,
    Selection,
    keep_best,
    select_by_relevance,
    top_k,
)


@dataclass(frozen=True)
class Signals:
    """Inputs of a method; None unless the method needs it.

    num_visual: M, all cameras.
    semantic: [M] head- and query-mean attention onto each visual token at layer K-1.
    last_row: [M] head-mean attention of the last prompt token at layer K-1.
    text: [N_text, M] head-mean attention rows of the text tokens at layer K-1.
    text_features: [N_text, d] input embeddings of the text tokens.
    action: [M] smoothed action relevance; PruningState fills it in, never the model.
    features: [M, d] projected visual features, the LLM's input embeddings.
    device: where the model runs; needed only by selectors that read no tensor (random, uniform).
    """

    num_visual: int
    semantic: Tensor | None = None
    last_row: Tensor | None = None
    text: Tensor | None = None
    text_features: Tensor | None = None
    action: Tensor | None = None
    features: Tensor | None = None
    device: torch.device | None = None

    @property
    def target(self) -> torch.device:
        """Device for the indices of a method that reads no tensor."""
        tensors = (getattr(self, field.name) for field in fields(self))
        found = (tensor.device for tensor in tensors if isinstance(tensor, Tensor))
        return self.device or next(found, torch.device("cpu"))


class PruningMethod(ABC):
    """One pruning method. `needs` names the fields of Signals it reads, and no others;
    `needs_without_history` those it reads while there is no action relevance."""

    name: str
    needs: frozenset[str] = frozenset()
    needs_without_history: frozenset[str] = frozenset()
    prunes_before_first_layer = False

    def __init__(self, config: PruningConfig, num_cameras: int = 1) -> None:
        self.config, self.num_cameras = config, num_cameras

    @abstractmethod
    def select(self, signals: Signals, keep: int) -> Selection:
        """Choose 1 <= keep <= M tokens."""

    def reset(self) -> None:  # noqa: B027 - most carry nothing
        """Forget what the method carries between steps, if anything."""

    def buffers(self) -> list[Tensor]:
        """The tensors that hold what it carries."""
        return []

    def load(self, values: list[Tensor]) -> None:  # noqa: B027 - most carry nothing
        """Go on with what buffers() held in another method of the same kind."""


class Full(PruningMethod):
    """No pruning."""

    name = "full"

    def select(self, signals: Signals, keep: int) -> Selection:
        return Selection(torch.arange(signals.num_visual, device=signals.target))


class VlaPruner(PruningMethod):
    """Combine-then-filter; the semantic set alone while there is no action history."""

    name = "vla_pruner"
    needs = frozenset({"semantic", "action", "features"})
    needs_without_history = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        return select_by_relevance(signals.features, signals.semantic, signals.action, keep)


class SemanticOnly(PruningMethod):
    """The paper's ablation: top-k of the semantic relevance."""

    name = "semantic_only"
    needs = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        return _semantic_selection(signals.semantic, keep)


class ActionOnly(PruningMethod):
    """The paper's ablation: top-k of the action relevance (semantic while there is no history)."""

    name = "action_only"
    needs = frozenset({"action"})
    needs_without_history = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        if signals.action is None:
            return _semantic_selection(signals.semantic, keep)
        action_set = top_k(signals.action, keep)
        return Selection(action_set.sort().values, action_set=action_set)


class ScoreFusion(PruningMethod):
    """The paper's ablation: top-k of the two relevances added up, each scaled to sum 1."""

    name = "score_fusion"
    needs = frozenset({"semantic", "action"})
    needs_without_history = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        if signals.action is None:
            return _semantic_selection(signals.semantic, keep)
        kept = keep_best(_shares(signals.semantic) + _shares(signals.action), keep)
        return Selection(kept, top_k(signals.semantic, keep), top_k(signals.action, keep))


class FastV(PruningMethod):
    """Top-k of the last prompt token's attention (arXiv 2403.06764)."""

    name = "fastv"
    needs = frozenset({"last_row"})

    def select(self, signals: Signals, keep: int) -> Selection:
        return _semantic_selection(signals.last_row, keep)


class SparseVlm(PruningMethod):
    """Top-k of the attention of those text tokens that speak of the image (arXiv 2410.04417).

    Raters are the text tokens whose softmaxed similarity to the visual tokens (softmax over the
    text, mean over the image) is at least the average of all text tokens.
    """

    name = "sparsevlm"
    needs = frozenset({"text", "text_features", "features"})

    def select(self, signals: Signals, keep: int) -> Selection:
        raters = find_raters(signals.features, signals.text_features)
        scores = (raters.float() @ signals.text.float()) / raters.sum()
        return _semantic_selection(scores, keep)


def find_raters(features: Tensor, text_features: Tensor) -> Tensor:
    """SparseVLM's raters: bool [N_text] from features [M, d] and text_features [N_text, d]."""
    similarity = features.float() @ text_features.float().T
    relevance = similarity.softmax(dim=1).mean(dim=0)
    raters = relevance >= relevance.mean()
    # Rounding may put the mean of equal values above all of them: then every token rates.
    return raters | ~raters.any()


class DivPrune(PruningMethod):
    """Max-min diversity over all visual tokens, before layer 0 (arXiv 2503.02175)."""

    name = "divprune"
    needs = frozenset({"features"})
    prunes_before_first_layer = True

    def select(self, signals: Signals, keep: int) -> Selection:
        return Selection(max_min_diversity(signals.features, keep).sort().values)


class Random(PruningMethod):
    """Another random set every step, the same sequence for the same seed on any device.

    Each token's score is a hash of seed, step and index, so that the draw needs no generator
    state and advances inside a captured graph. reset() starts the sequence anew.
    """

    name = "random"

    def __init__(self, config: PruningConfig, num_cameras: int = 1) -> None:
        super().__init__(config, num_cameras)
        self._step: Tensor | None = None  # int64 [1], on the device

    def select(self, signals: Signals, keep: int) -> Selection:
        if self._step is None or self._step.device != signals.target:
            self._step = torch.zeros(1, dtype=torch.int64, device=signals.target)
        index = torch.arange(signals.num_visual, device=signals.target)
        scores = _hash(_hash(_hash(self._step) + self.config.seed) + index)
        self._step += 1
        # Of 63 random bits float32 holds 24: equal scores are possible and settled by index.
        return Selection(keep_best(scores, keep))

    def reset(self) -> None:
        if self._step is not None:
            self._step.zero_()

    def buffers(self) -> list[Tensor]:
        return [] if self._step is None else [self._step]

    def load(self, values: list[Tensor]) -> None:
        if self._step is None and values:
            self._step = torch.empty_like(values[0])
        for buffer, value in zip(self.buffers(), values, strict=False):
            buffer.copy_(value)


def _hash(values: Tensor) -> Tensor:
    """A bijective mix of int64 values (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = values + -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
    values = (values ^ _shift_right(values, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    values = (values ^ _shift_right(values, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return values ^ _shift_right(values, 31)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)  # without copies of the sign


class Uniform(PruningMethod):
    """An even grid over every camera's image, the budget shared evenly by the cameras."""

    name = "uniform"

    def __init__(self, config: PruningConfig, num_cameras: int = 1) -> None:
        super().__init__(config, num_cameras)
        self._grids: dict[tuple, Tensor] = {}  # made once: a captured graph cannot upload them

    def select(self, signals: Signals, keep: int) -> Selection:
        key = (signals.num_visual, keep, signals.target)
        if key not in self._grids:
            indices = uniform_grid(signals.num_visual, keep, self.num_cameras)
            self._grids[key] = torch.tensor(indices, device=signals.target)
        return Selection(self._grids[key])


def uniform_grid(num_visual: int, keep: int, num_cameras: int) -> list[int]:
    """keep evenly spread indices into num_cameras square row-major patch grids, ascending.

    A camera whose patches form no square is spread along its index alone.
    """
    patches = num_visual // num_cameras
    side = math.isqrt(patches)
    rows, columns = (side, side) if side * side == patches else (1, patches)
    indices: list[int] = []
    for camera, count in enumerate(_even_parts(keep, num_cameras)):
        grid = _spread_over_grid(rows, columns, count)
        indices += [camera * patches + index for index in grid]
    return indices


def _spread_over_grid(rows: int, columns: int, count: int) -> list[int]:
    """count indices on about sqrt(count) evenly spaced rows, evenly spaced in each."""
    if count == 0:
        return []
    used_rows = min(rows, max(round(math.sqrt(count * rows / columns)), -(-count // columns)))
    per_row = _even_parts(count, used_rows)
    row_numbers = _midpoints(rows, used_rows)
    return [
        row * columns + column
        for row, in_row in zip(row_numbers, per_row, strict=True)
        for column in _midpoints(columns, in_row)
    ]


def _midpoints(length: int, count: int) -> list[int]:
    """Middle of each of count equal stretches of 0..length-1."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _even_parts(total: int, parts: int) -> list[int]:
    """total as a sum of parts integers that differ by at most one, the larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def _semantic_selection(scores: Tensor, keep: int) -> Selection:
    semantic_set = top_k(scores, keep)
    return Selection(semantic_set.sort().values, semantic_set)


def _shares(scores: Tensor) -> Tensor:
    scores = torch.nan_to_num(scores.float(), nan=0.0)
    return scores / scores.sum().clamp_min(TINY)


METHODS: dict[str, type[PruningMethod]] = {
    selector.name: selector
    for selector in (
        Full,
        VlaPruner,
        SemanticOnly,
        ActionOnly,
        ScoreFusion,
        FastV,
        SparseVlm,
        DivPrune,
        Random,
        Uniform,
    )
}


def make_method(config: PruningConfig, num_cameras: int = 1) -> PruningMethod:
    """The selector that config.method names."""
    return METHODS[config.method](config, num_cameras)
