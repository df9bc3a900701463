"""OpenVLA (arXiv 2406.09246): one camera, seven action tokens decoded greedily.

Sequence: [BOS][256 visual][rest of the prompt, ending in 29871], causal, positions 0 .. L-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.base import Inference
from vla_pruner_ros.models.decoding import Pass, Select
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.preprocessing import check_images, resize_bicubic
from vla_pruner_ros.models.prismatic_policy import Components, PrismaticPolicy
from vla_pruner_ros.models.prompt import Tokenizer
from vla_pruner_ros.models.signals import Prompt, Span
from vla_pruner_ros.models.timing import StageClock
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.plan import StepPlan

FAMILY = "openvla"


def recognises(directory: Path, config: dict) -> bool:
    """OpenVLA's own model type; OpenVLA-OFT shares it and is asked first."""
    return config.get("model_type") == "openvla"


def load(
    directory: Path,
    config: dict,
    device: torch.device,
    dtype: torch.dtype,
    pruning: PruningConfig,
    unnorm_key: str | None = None,
    tokenizer: Tokenizer | None = None,
) -> OpenVlaPolicy:
    """See registry.load_policy."""
    parts = Components.load(directory, config, device, dtype, unnorm_key, tokenizer)
    return OpenVlaPolicy(parts, pruning)


@dataclass(frozen=True)
class Inputs:
    """pictures: uint8 [1, S, S, 3]; ids: int64 [n], the prompt with BOS and 29871."""

    pictures: Tensor
    ids: Tensor


class OpenVlaPolicy(PrismaticPolicy):
    decodes_token_by_token = True

    def __init__(self, parts: Components, pruning: PruningConfig) -> None:
        super().__init__(FAMILY, parts, pruning)
        self.cache = self.decoder.new_cache()

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Bicubic to 224x224 with Pillow, equal to the official processor to the pixel."""
        return resize_bicubic(image)

    def _prepare(self, observation: Observation) -> Inputs:
        check_images(observation.images, self.num_cameras)
        ids = self._prompt_ids(observation.instruction, others=ACTION_DIM)
        pictures = self._upload(self._pictures(observation.images))
        return Inputs(pictures, self._upload(np.asarray(ids, dtype=np.int64)))

    def _infer(
        self, inputs: Inputs, plan: StepPlan, select: Select, clock: StageClock
    ) -> Inference:
        pixels = self.normalize(inputs.pictures, self.decoder.dtype)
        visual = self.model.visual_tokens(pixels)
        clock.mark("vision")
        prompt = self._prompt(visual, inputs.ids)
        rows = self.pruning.semantic_rows
        done = self.decoder.run_prompt(prompt, plan, select, self.cache, rows)
        clock.mark("prefill")
        tokens = self._decode(done, prompt.length)
        clock.mark("decode")
        return Inference(tokens, done.attention, done.selection)

    def _prompt(self, visual: Tensor, ids: Tensor) -> Prompt:
        text = self.model.embed(ids)[None]
        embeddings = torch.cat([text[:, :1], visual, text[:, 1:]], dim=1)
        return Prompt(
            embeddings,
            visual=Span(1, self.num_visual),
            text=Span(1 + self.num_visual, len(ids) - 1),
            read=Span(embeddings.shape[1] - 1, 1),
            following=ACTION_DIM - 1,
        )

    def _decode(self, done: Pass, position: int) -> Tensor:
        """int64 [7]; position: that of the first generated token."""
        tokens = [self._greedy(done.hidden)]
        for offset in range(ACTION_DIM - 1):
            embedding = self.model.embed(tokens[-1])[None]
            hidden = self.decoder.run_tokens(
                embedding, position + offset, self.cache, done.attention
            )
            tokens.append(self._greedy(hidden))
        return torch.cat(tokens)

    def _to_actions(self, raw: Tensor) -> np.ndarray:
        return self.bounds.to_units(self.tokens.decode(raw.cpu().numpy()))[None]
