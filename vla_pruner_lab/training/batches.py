"""Batches of demonstration frames for training.

A batch is a function of the seed and the step alone, with any number of loading processes. So a
resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_lab.training import sharing
from vla_pruner_lab.training.augmentation import random_window, stored_size
from vla_pruner_lab.training.images import ImageStore, cut_patches, draw_places
from vla_pruner_ros.models.actions import BINS, ActionTokens, Bounds
from vla_pruner_ros.models.images.preprocessing import PATCHES
from vla_pruner_ros.models.openvla import prompt
from vla_pruner_ros.models.openvla.openvla_oft import STOP
from vla_pruner_ros.models.tokenizer import Tokenizer

CAMERAS = {"openvla": ("scene",), "openvla_oft": ("scene", "gripper")}
CHUNK_SIZE = {"openvla": 1, "openvla_oft": 8}
PLACEHOLDER = -1
"""In Batch.ids: a position whose embedding is zero and whose output becomes an action."""
PADDING = 0


@dataclass(frozen=True)
class Batch:
    """B frames.

    patches: uint8 [B, cameras, n, P, P, 3], all 256 of an image or a random part of them. places:
    int64 [B, cameras, n], which ones, ascending. ids: int64 [B, T], what follows the visual tokens
    (and the state): the prompt without BOS, then action tokens (OpenVLA) or placeholders and the
    stop token (OFT), then padding. lengths: int64 [B], ids that are not padding. read: int64
    [B, R], columns of ids whose outputs are the actions. actions: float32 [B, steps, 7] in -1..1, R
    values each. tokens: int64 [B, R], their ids. states: float32 [B, state_dim] in -1..1, or None.
    """

    patches: Tensor
    places: Tensor
    ids: Tensor
    lengths: Tensor
    read: Tensor
    actions: Tensor
    tokens: Tensor
    states: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        values = (getattr(self, field.name) for field in fields(self))
        return Batch(*(None if v is None else v.to(device, non_blocking=True) for v in values))


def encode_actions(tokens: ActionTokens, normalized: np.ndarray) -> np.ndarray:
    """Convert values in -1..1, any shape, into token ids, int64; inverse of ActionTokens.decode.

    OpenVLA's scheme: bin d of 256 edges, counted from 1, becomes the d-th id from the end.
    """
    edges = np.linspace(-1.0, 1.0, BINS)
    return tokens.ids.stop - np.digitize(np.clip(normalized, -1.0, 1.0), edges)


def normalize_actions(bounds: Bounds, actions: np.ndarray) -> np.ndarray:
    """Normalize [..., 7] in units to float64 in -1..1; dimensions that never move become 0."""
    still = bounds.mask & (bounds.high == bounds.low)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = bounds.from_units(actions)
    return np.where(still, 0.0, normalized)


class BatchSource(torch.utils.data.Dataset):
    """Source of batches: item `step` is that step's batch. It draws tasks by weight, frames evenly.

    task_weights: relative frequency by task, 1 by default.
    visual_tokens: patches of each image that steps before full_from see; later ones see all.
    augment: random crops or shifts. folder: of the run, for decoded images.
    """

    def __init__(
        self,
        folder: Path,
        data: Demonstrations,
        family: str,
        tokenize: Tokenizer,
        tokens: ActionTokens,
        statistics: dict,
        batch_size: int,
        seed: int,
        visual_tokens: int = PATCHES,
        full_from: int = 0,
        augment: bool = True,
        task_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Create a source.

        Raises:
            ValueError: a weight is not above 0, or its task has no frames.
        """
        self.data, self.family, self.tokenize, self.tokens = data, family, tokenize, tokens
        self.batch_size, self.seed = batch_size, seed
        self.visual_tokens, self.full_from, self.augment = visual_tokens, full_from, augment
        self.action_bounds = Bounds(statistics["action"], "action")
        self.state_bounds = Bounds(statistics["proprio"], "proprio")
        tasks = np.array(data.tasks)
        names = np.unique(tasks)
        self.frames_by_task = [np.flatnonzero(tasks == task) for task in names]
        self.task_shares = task_shares(names.tolist(), task_weights or {})
        cameras = len(CAMERAS[family])
        self.images = ImageStore(folder, data, cameras, *stored_size(family, augment))

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        indices = draw_frames(self.frames_by_task, self.task_shares, self.batch_size, rng)
        indices = indices[sharing.rank() :: sharing.count()]
        count = self.visual_tokens if step < self.full_from else PATCHES
        return self.batch(indices, rng, count)

    def batch(self, indices: list[int], rng: np.random.Generator, count: int = PATCHES) -> Batch:
        """Return the batch of the given frames, with `count` patches of each image."""
        frames = [self.data.state_record(index) for index in indices]
        chunks = np.stack([self.data.action_chunk(i, CHUNK_SIZE[self.family]) for i in indices])
        normalized = normalize_actions(self.action_bounds, chunks)
        prompts = [self._prompt(frame.instruction) for frame in frames]
        tokens = encode_actions(self.tokens, normalized).reshape(len(indices), -1)
        rows = [[*text, *tail] for text, tail in zip(prompts, self._tails(tokens), strict=True)]
        starts = torch.tensor([len(text) - 1 for text in prompts])
        patches, places = self._patches(indices, rng, count)
        return Batch(
            torch.from_numpy(patches),
            torch.from_numpy(places),
            _padded(rows),
            torch.tensor([len(row) for row in rows]),
            starts[:, None] + torch.arange(tokens.shape[1]),
            torch.from_numpy(normalized.astype(np.float32)),
            torch.from_numpy(tokens),
            self._states(np.stack([frame.joints for frame in frames])),
        )

    def _patches(
        self, indices: list[int], rng: np.random.Generator, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return patches and places of a Batch."""
        patches, places = [], []
        for image in (image for index in indices for image in self.images[index]):
            if self.augment:
                image = random_window(image, self.family, rng)
            chosen = draw_places(image, count, rng)
            patches.append(cut_patches(image, chosen))
            places.append(chosen)
        shape = (len(indices), -1, count)
        return np.stack(patches).reshape(*shape, *patches[0].shape[1:]), np.reshape(places, shape)

    def _prompt(self, instruction: str) -> list[int]:
        """The prompt's ids without BOS, which precedes the images."""
        return prompt.complete(self.tokenize(prompt.prompt_text(instruction)))[1:]

    def _tails(self, tokens: np.ndarray) -> list[list[int]]:
        """Return the ids that follow each prompt. tokens: [B, R]."""
        if self.family == "openvla_oft":
            return [[PLACEHOLDER] * tokens.shape[1] + [STOP]] * len(tokens)
        return tokens[:, :-1].tolist()

    def _states(self, states: np.ndarray) -> Tensor | None:
        if self.family != "openvla_oft":
            return None
        return torch.from_numpy(self.state_bounds.from_units(states).astype(np.float32))


def task_shares(tasks: Sequence[str], weights: Mapping[str, float]) -> np.ndarray:
    """Return the probability of each task, float [tasks], by its weight (1 by default).

    Raises:
        ValueError: a weight is not above 0, or its task has no frames.
    """
    for task, weight in weights.items():
        if task not in tasks:
            raise ValueError(f"weight of {task}, but there are frames only of {', '.join(tasks)}")
        if not (0 < weight < math.inf):
            raise ValueError(f"weight of {task} must be a number above 0, not {weight}")
    shares = np.array([weights.get(task, 1.0) for task in tasks])
    return shares / shares.sum()


def draw_frames(
    frames_by_task: Sequence[np.ndarray], shares: np.ndarray, count: int, rng: np.random.Generator
) -> list[int]:
    """Draw a task by its share, float [tasks], then one of its frames, int [n]; `count` times."""
    picks = rng.choice(len(shares), size=count, p=shares)
    return [int(rng.choice(frames_by_task[pick])) for pick in picks]


def _padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
