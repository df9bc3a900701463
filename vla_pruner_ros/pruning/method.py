"""Base class of the pruning methods, and how one is made: scores in, kept tokens out.

A method works on the tokens of one robot, all cameras concatenated. Scores may have any float dtype
and are ranked in float32; equal scores: lowest index first; NaN ranks last. On a GPU nothing here
waits for the device and all shapes depend on M and keep alone, so that select() can be captured in
a CUDA graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint
from types import ModuleType

import torch
from torch import Tensor

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.methods import (
    ENTRY_POINTS,
    bundled_methods,
    installed_methods,
    method_names,
)
from vla_pruner_ros.pruning.presets import resolve
from vla_pruner_ros.pruning.token_selection import Selection, top_k

PER_TOKEN = ("semantic", "last_row", "text", "action", "current_action")
"""Signals whose last dimension are the visual tokens; of features it is the first."""


@dataclass(frozen=True)
class Signals:
    """Inputs of a method; None unless the method needs it.

    "Layer K-1" is layer 0 if tokens are dropped before it: then its attention is computed from the
    embeddings, before anything else runs.

    num_visual: M, all cameras.
    semantic: [M] head- and query-mean attention onto each visual token at layer K-1; which queries
        count is the setting semantic_queries.
    last_row: [M] head-mean attention of the last prompt token at layer K-1.
    text: [N_text, M] head-mean attention rows of the text tokens at layer K-1.
    text_features: [N_text, d] input embeddings of the text tokens.
    action: [M] action relevance; PruningState fills it in, never the model.
    features: [M, d] projected visual features, the LLM's input embeddings.
    current_action: [M] head- and row-mean attention of this step's action placeholders at layer
        K-1, of families that decode in parallel.
    device: where the model runs; needed only by methods that read no tensor (random, uniform).
    """

    num_visual: int
    semantic: Tensor | None = None
    last_row: Tensor | None = None
    text: Tensor | None = None
    text_features: Tensor | None = None
    action: Tensor | None = None
    features: Tensor | None = None
    current_action: Tensor | None = None
    device: torch.device | None = None

    @property
    def target(self) -> torch.device:
        """Device for the indices of a method that reads no tensor."""
        tensors = (getattr(self, field.name) for field in fields(self))
        found = (tensor.device for tensor in tensors if isinstance(tensor, Tensor))
        return self.device or next(found, torch.device("cpu"))

    def of_camera(self, camera: int, num_cameras: int) -> Signals:
        """Return the part that one of several cameras has."""
        size = self.num_visual // num_cameras
        start = camera * size
        parts = {
            name: value.narrow(-1, start, size)
            for name in PER_TOKEN
            if (value := getattr(self, name)) is not None
        }
        if self.features is not None:
            parts["features"] = self.features.narrow(0, start, size)
        return replace(self, num_visual=size, **parts)


class PruningMethod(ABC):
    """One way to choose tokens; a subclass in a file of its own, named like the file.

    needs: fields of Signals that select() reads, and no others.
    needs_without_history: those it reads while there is no action relevance.
    prunes_before_first_layer: drop the tokens before layer 0, whatever prune_layer is.
    counts_steps: its choice depends on the number of steps since reset().
    label, colour: how reports and plots show it. looks_at_nothing: drawn as a dashed line.
    """

    name: str
    label: str
    colour: str
    needs: frozenset[str] = frozenset()
    needs_without_history: frozenset[str] = frozenset()
    prunes_before_first_layer = False
    looks_at_nothing = False
    counts_steps = False

    def __init__(self, config: PruningConfig, num_cameras: int = 1) -> None:
        self.config, self.num_cameras = config, num_cameras

    @abstractmethod
    def select(self, signals: Signals, keep: int) -> Selection:
        """Choose 1 <= keep <= M tokens."""

    def reset(self) -> None:  # noqa: B027 - most carry nothing
        """Clear what the method carries between steps, if anything."""

    def buffers(self) -> list[Tensor]:
        """Return the tensors (any shape) that hold what it carries from step to step."""
        return []

    def load(self, values: list[Tensor]) -> None:  # noqa: B027 - most carry nothing
        """Go on with what buffers() held in another method of the same kind; any shape."""


@lru_cache
def find_method(name: str) -> type[PruningMethod]:
    """Return the class of the method with this name.

    Raises:
        ValueError: no such method, or an entry point that is none; names what is there.
    """
    if name in bundled_methods():
        return _method_in(import_module(bundled_methods()[name]))
    if name in installed_methods():
        return _checked(name, installed_methods()[name])
    raise ValueError(f"method must be one of {', '.join(method_names())}, got {name!r}")


def _method_in(module: ModuleType) -> type[PruningMethod]:
    own = [found for found in vars(module).values() if isinstance(found, type)]
    return next(
        found
        for found in own
        if issubclass(found, PruningMethod) and found.__module__ == module.__name__
    )


def _checked(name: str, point: EntryPoint) -> type[PruningMethod]:
    found = point.load()
    if not (isinstance(found, type) and issubclass(found, PruningMethod) and found.name == name):
        raise ValueError(
            f"the entry point {name} = {point.value} in group {ENTRY_POINTS} must name a "
            f"PruningMethod whose `name` is {name!r}"
        )
    return found


def make_method(config: PruningConfig, num_cameras: int = 1) -> PruningMethod:
    """Return the method that config.method names."""
    return find_method(config.method)(resolve(config), num_cameras)


def select_evenly(
    method: PruningMethod, signals: Signals, keep: int, num_cameras: int
) -> Selection:
    """Let the method choose in each camera alone, the budget shared evenly by the cameras.

    method: made for one camera. A camera that gets no token is left out.
    """
    size = signals.num_visual // num_cameras
    parts = [
        (camera * size, method.select(signals.of_camera(camera, num_cameras), count))
        for camera, count in enumerate(even_parts(keep, num_cameras))
        if count
    ]
    names = ("kept", "semantic_set", "action_set")
    return Selection(**{name: _joined(parts, name) for name in names})


def _joined(parts: list[tuple[int, Selection]], name: str) -> Tensor | None:
    found = [(offset, getattr(selection, name)) for offset, selection in parts]
    if any(indices is None for _, indices in found):
        return None
    return torch.cat([indices + offset for offset, indices in found])


def even_parts(total: int, parts: int) -> list[int]:
    """Return total as a sum of parts integers that differ by at most one, larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def semantic_selection(scores: Tensor, keep: int) -> Selection:
    """Return the top-k of one semantic score, float [M]."""
    semantic_set = top_k(scores, keep)
    return Selection(semantic_set.sort().values, semantic_set)
