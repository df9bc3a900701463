"""OpenVLA-OFT (arXiv 2502.19645): several cameras, robot state, a chunk of actions in one pass.

Sequence: [BOS][256 visual per camera][proprio][rest of the prompt, ending in 29871]
[one placeholder per action number][stop], every token seeing every other. The head reads the
hidden states at 29871 and all placeholders but the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models.actions import Bounds
from vla_pruner_ros.models.decoder.pruned_decoder import Select
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.families import Checkpoint
from vla_pruner_ros.models.images.preprocessing import check_images, checked_state
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.openvla import film, oft_head
from vla_pruner_ros.models.openvla.oft_images import ImagePath
from vla_pruner_ros.models.openvla.oft_options import FILM_FILES, Options
from vla_pruner_ros.models.openvla.prismatic_policy import PrismaticParts, PrismaticPolicy
from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.step import PruningStep

FAMILY = "openvla_oft"
STOP = 2
USUAL_CAMERAS, USUAL_CHUNK = 2, 8
"""Settings of LIBERO's checkpoints."""
ALOHA_NUMBERS, ALOHA_CAMERAS, ALOHA_CHUNK = 14, 3, 25
"""Action numbers of two arms, by which ALOHA's checkpoints are recognised, and their sizes."""
BOUNDS_EPSILON = 1e-8


def load(checkpoint: Checkpoint, options: Options) -> OpenVlaOftPolicy:
    """Load OpenVLA-OFT, see families.Family.load.

    Raises:
        CheckpointError: weights, statistics or options that do not fit.
    """
    directory, device, dtype = checkpoint.directory, checkpoint.device, checkpoint.dtype
    oft_head.refuse_unsupported(directory)
    film_path = oft_head.find_component(directory, FILM_FILES)
    parts = PrismaticParts.load(checkpoint, BOUNDS_EPSILON, partial(_ends, options))
    is_aloha = parts.bounds.size == ALOHA_NUMBERS
    width = parts.model.language_model.config.hidden_size
    if film_path is not None:
        parts.model.vision_backbone = film.load_backbone(
            film_path, checkpoint.config, width, device, dtype
        )
    head = oft_head.load_head(directory, width, device, dtype)
    if head is not None and head.action_dim != parts.bounds.size:
        raise CheckpointError(
            f"the action head gives {head.action_dim} numbers, the statistics of "
            f"{parts.unnorm_key} have {parts.bounds.size}"
        )
    projector = oft_head.load_proprio_projector(directory, width, device, dtype)
    return OpenVlaOftPolicy(
        parts,
        checkpoint.pruning,
        head,
        projector,
        ImagePath(options.image_path or "camera", options.center_crop is not False),
        options.num_cameras or (ALOHA_CAMERAS if is_aloha else USUAL_CAMERAS),
        options.chunk_size or (ALOHA_CHUNK if is_aloha else USUAL_CHUNK),
        _ends(options, parts.statistics),
    )


def _ends(options: Options, statistics: dict) -> tuple[str, str]:
    """Names of the ends of ranges: as set, else min and max for ALOHA's 14 numbers."""
    action = statistics.get("action") or {}
    numbers = np.size(action.get("q01", action.get("min", [])))
    usual = "min_max" if numbers == ALOHA_NUMBERS else "q01_q99"
    low, high = (options.action_range or usual).split("_")
    return low, high


@dataclass(frozen=True)
class OftInputs:
    """images: uint8 [cameras, S, S, 3]; ids: int64 [n], the prompt with BOS and 29871;
    state: float32 [1, 1, state_dim] in -1..1, or None."""

    images: Tensor
    ids: Tensor
    state: Tensor | None


class OpenVlaOftPolicy(PrismaticPolicy):
    """OpenVLA-OFT (arXiv 2502.19645): a chunk of actions in one parallel pass."""

    decodes_in_parallel = True

    def __init__(
        self,
        parts: PrismaticParts,
        pruning: PruningConfig,
        head: oft_head.L1ActionHead | None,
        projector: oft_head.ProprioProjector | None,
        images: ImagePath,
        num_cameras: int,
        chunk_size: int,
        ends: tuple[str, str] = ("q01", "q99"),
    ) -> None:
        state_dim = 0 if projector is None else projector.fc1.in_features
        super().__init__(FAMILY, parts, pruning, num_cameras, state_dim, chunk_size)
        self.head, self.projector, self.images = head, projector, images
        self.state_bounds = None
        if projector is not None:
            self.state_bounds = self._read_state_bounds(parts, ends)
        self.placeholders = chunk_size * parts.bounds.size
        self._stop = torch.tensor([STOP], device=self.device)

    def _read_state_bounds(self, parts: PrismaticParts, ends: tuple[str, str]) -> Bounds:
        name = f"{parts.unnorm_key}, proprio"
        bounds = Bounds(parts.statistics.get("proprio", {}), name, BOUNDS_EPSILON, ends)
        if bounds.size != self.state_dim:
            raise CheckpointError(
                f"statistics of {name} have {bounds.size} numbers, "
                f"the proprio projector takes {self.state_dim}"
            )
        return bounds

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Resize with Lanczos and crop the centre as in training, see oft_images.py.

        Args:
            image: uint8 [H, W, 3].

        Returns:
            Uint8 [224, 224, 3].
        """
        return self.images(image)

    @property
    def other_tokens(self) -> int:
        return self.placeholders + 2

    def _prepare(self, observation: Observation) -> OftInputs:
        check_images(observation.images, self.num_cameras)
        ids = self._prompt_ids(observation.instruction, self.other_tokens)
        state = self._prepare_state(observation.state)
        frames = observation.images
        if self.resizes_on_device:
            frames = [self.images.on_host(image) for image in frames]
        images = self._upload_images(frames, self.images.on_device)
        return OftInputs(images, self._upload_ids("ids", ids), state)

    def _prepare_state(self, state: np.ndarray | None) -> Tensor | None:
        if self.state_bounds is None:
            return None
        values = checked_state(state, self.state_dim)
        normalized = self.state_bounds.from_units(values).astype(np.float32)
        return self._upload("state", normalized)[None, None]

    def _infer(
        self, inputs: OftInputs, plan: PruningStep, select: Select, clock: StageClock
    ) -> InferenceOutput:
        pixels = self.normalize(inputs.images, self.decoder.dtype)
        visual = self.model.visual_tokens(pixels, self._task(inputs.ids))
        clock.mark("vision")
        prompt = self._prompt(visual, inputs)
        done = self.decoder.run_prompt(prompt, plan, select)
        clock.mark("prefill")
        raw = self._greedy(done.hidden) if self.head is None else self.head(done.hidden[0])
        return InferenceOutput(raw, done.attention, done.selection)

    def _task(self, ids: Tensor) -> Tensor | None:
        """Return the mean embedding of the prompt and the stop token, [d]; None without FiLM."""
        if not self.model.vision_backbone.task_width:
            return None
        return self.model.embed(torch.cat([ids, self._stop])).mean(dim=0)

    def _prompt(self, visual: Tensor, inputs: OftInputs) -> Prompt:
        text = self.model.embed(inputs.ids)[None]
        parts = [text[:, :1], visual]
        if inputs.state is not None:
            parts.append(self.projector(inputs.state.to(visual.dtype)))
        placeholders = visual.new_zeros(1, self.placeholders, visual.shape[2])
        stop = self.model.embed(self._stop)[None]
        embeddings = torch.cat([*parts, text[:, 1:], placeholders, stop], dim=1)
        before_text = sum(part.shape[1] for part in parts)
        text = Span(before_text, len(inputs.ids) - 1)
        return Prompt(
            embeddings,
            visual=Span(1, self.num_visual),
            text=text,
            read=Span(text.stop - 1, self.placeholders),
            causal=False,
        )

    def _to_actions(self, raw: Tensor, inputs: OftInputs) -> np.ndarray:
        if self.head is None:
            normalized = self.tokens.decode(raw.cpu().numpy())
        else:
            normalized = raw.float().cpu().numpy().astype(np.float64)
        return self.bounds.to_units(normalized.reshape(self.chunk_size, self.bounds.size))
