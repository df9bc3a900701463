"""Parts that the flow-matching families share around their networks: cameras, pixels, state,
actions.

A camera without an image is left out, as training masks it: nothing sees its tokens, and positions
skip them. The token history starts anew whenever the set of cameras changes. Actions are
deterministic: every flow starts from the same seeded noise.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models.images.padding import ImageFitter
from vla_pruner_ros.models.images.preprocessing import check_images, checked_state
from vla_pruner_ros.models.lerobot.prompts import check_instruction
from vla_pruner_ros.models.lerobot.statistics import Statistics
from vla_pruner_ros.models.policy import (
    ActionChunk,
    CheckpointError,
    InputError,
    Observation,
)
from vla_pruner_ros.models.pruned_policy import PolicySpec, PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig


@dataclass(frozen=True)
class PixelRange:
    """Mean and standard deviation of pixel values in 0..1, by colour."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __call__(self, pixels: Tensor) -> Tensor:
        """float32 [cameras, 3, S, S] in 0..1 -> the model's range."""
        if set(self.mean) == set(self.std) == {0.5}:
            return pixels.mul(2.0).sub_(1.0)
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True)
class FlowParts:
    """Parts of a flow-matching checkpoint around its network.

    Attributes:
        max_state_dim: width that the network's state is padded to; 0: not padded.
    """

    statistics: Statistics
    fit_image: ImageFitter
    pixel_range: PixelRange
    max_state_dim: int


@dataclass(frozen=True)
class FlowInputs:
    """Inputs of one step.

    Attributes:
        pixels: float32 [cameras, 3, S, S], as the vision tower takes them.
        ids: int64 [n], the prompt.
        state: float32 [1, 1, max_state_dim], normalised and padded; None where the prompt has it.
        raw_state: float64 [state_dim], as observed; actions may count from it.
        real: bool [n], False where ids are padding, or None.
        position: int64 [1], real prefix tokens, where `real` is given.
    """

    pixels: Tensor
    ids: Tensor
    state: Tensor | None
    raw_state: np.ndarray
    real: Tensor | None = None
    position: Tensor | None = None


class FlowPolicy(PrunedPolicy):
    """Base of pi0, pi0.5 and SmolVLA."""

    can_miss_cameras = True

    def __init__(
        self, spec: PolicySpec, parts: FlowParts, pruning: PruningConfig, device: torch.device
    ) -> None:
        super().__init__(spec, pruning, device)
        self.parts, self.statistics = parts, parts.statistics
        self.resizes_on_device = device.type == "cuda" and parts.fit_image.runs_on_device

    @abstractmethod
    def _prompt_ids(self, instruction: str, state: np.ndarray) -> list[int]:
        """Return the prompt's ids. state: normalised, float32 [state_dim]."""

    def check_instruction(self, instruction: str) -> None:
        """See PrunedPolicy.check_instruction."""
        state = np.zeros(self.state_dim, dtype=np.float32)
        self._prompt_ids(check_instruction(instruction), state)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Return what the model sees of an image, uint8 [H, W, 3] -> [S, S, 3].

        Shrunk without distortion and padded with black, see images/padding.py.
        """
        return self.parts.fit_image.preview(image)

    def act(self, observation: Observation) -> ActionChunk:
        """See VlaPolicy.act."""
        return super().act(self.with_present_cameras(observation))

    def act_unpruned(self, observation: Observation) -> np.ndarray:
        """Return the unpruned actions, float64 [steps, width]; see PrunedPolicy.act_unpruned."""
        return super().act_unpruned(self.with_present_cameras(observation))

    def with_present_cameras(self, observation: Observation) -> Observation:
        """See with the cameras that have an image; return the observation with those alone.

        Raises:
            InputError: no camera has an image, or the number of cameras is wrong.
        """
        images = observation.images
        cameras = tuple(number for number, image in enumerate(images) if image is not None)
        if not cameras or len(images) != self.num_cameras:
            raise InputError(
                f"the model takes {self.num_cameras} image(s) per step, of which some may be None, "
                f"got {len(images)} with {len(cameras)} image(s)"
            )
        if cameras != self.cameras:
            self._use_cameras(cameras, self.pruning)
        return replace(observation, images=[images[number] for number in cameras])

    def _prepare(self, observation: Observation) -> FlowInputs:
        check_images(observation.images, len(self.cameras))
        instruction = check_instruction(observation.instruction)
        raw = checked_state(observation.state, self.state_dim)
        state = self.statistics.state.normalize(raw)
        ids = np.asarray(self._prompt_ids(instruction, state), dtype=np.int64)
        return self._inputs(self._pixels(observation.images), ids, state, raw)

    def _inputs(
        self, pixels: Tensor, ids: np.ndarray, state: np.ndarray, raw: np.ndarray
    ) -> FlowInputs:
        padded = None
        if self.parts.max_state_dim:
            padded = np.zeros((1, 1, self.parts.max_state_dim), dtype=np.float32)
            padded[0, 0, : len(state)] = state
            padded = self._upload("state", padded)
        return FlowInputs(pixels, self._upload("ids", ids), padded, raw)

    def _pixels(self, images: list[np.ndarray]) -> Tensor:
        """Camera images -> float32 [cameras, 3, S, S] in the model's range.

        A GPU gets the frames as they come and resizes them itself.
        """
        fit = self.parts.fit_image
        if self.resizes_on_device:
            frames = (self._upload(f"image {n}", image) for n, image in enumerate(images))
            fitted = torch.stack([fit.fit_on_device(frame) for frame in frames])
        else:
            fitted = torch.stack([fit.fit(image) for image in images])
            fitted = self._upload("pixels", fitted.numpy())
        return self.parts.pixel_range(fitted)

    def _to_actions(self, raw: Tensor, inputs: FlowInputs) -> np.ndarray:
        normalized = raw[0].float().cpu().numpy()
        return self.statistics.actions(normalized, inputs.raw_state).astype(np.float64)


def check_cameras(names: tuple[str, ...], given: int | None, usual: int) -> int:
    """Return the number of cameras of a policy.

    Args:
        names: those of training, in order; empty if the files lack them.
        given: what the user set, or None. usual: taken if neither gives any.

    Raises:
        CheckpointError: another number than in training, with the names.
    """
    count = given or len(names) or usual
    if names and count != len(names):
        raise CheckpointError(
            f"the checkpoint was trained with {len(names)} camera(s), {count} given: set one image "
            f"topic a camera, in this order: {', '.join(names)}"
        )
    return count


def seeded_noise(seed: int, chunk: int, action_dim: int, device: torch.device) -> Tensor:
    """Draw the noise that flows start from: float32 [1, chunk, action_dim].

    It is drawn on the host, so that it is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, chunk, action_dim), generator=generator).to(device)
