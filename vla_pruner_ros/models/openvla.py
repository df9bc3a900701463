"""OpenVLA (arXiv 2406.09246): one camera, seven action tokens decoded greedily.

Sequence: [BOS][256 visual][rest of the prompt, ending in 29871], causal, positions 0 .. L-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models import prismatic, prompt
from vla_pruner_ros.models.actions import ACTION_DIM, ActionTokens, Bounds
from vla_pruner_ros.models.base import Facts, Inference, PrunedPolicy
from vla_pruner_ros.models.checkpoints import choose_statistics, is_trained, read_statistics
from vla_pruner_ros.models.decoding import Pass, Select
from vla_pruner_ros.models.policy import CheckpointError, Observation, PolicyError
from vla_pruner_ros.models.preprocessing import (
    IMAGE_SIZE,
    Normalization,
    check_images,
    resize_bicubic,
)
from vla_pruner_ros.models.prismatic import PrismaticModel
from vla_pruner_ros.models.signals import Prompt, Span
from vla_pruner_ros.models.timing import StageClock
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.plan import StepPlan

FAMILY = "openvla"


def recognises(directory: Path, config: dict) -> bool:
    """OpenVLA's own model type. OpenVLA-OFT shares it and is asked first."""
    return config.get("model_type") == "openvla"


def load(
    directory: Path,
    config: dict,
    device: torch.device,
    dtype: torch.dtype,
    pruning: PruningConfig,
    unnorm_key: str | None = None,
    tokenizer: prompt.Tokenizer | None = None,
) -> OpenVlaPolicy:
    """See registry.load_policy."""
    key, statistics = choose_statistics(
        read_statistics(directory, config), unnorm_key, str(directory)
    )
    bounds = Bounds(statistics.get("action", {}), f"{key}, action")
    if bounds.size != ACTION_DIM:
        raise CheckpointError(f"{key} has {bounds.size}-dimensional actions, not {ACTION_DIM}")
    tokenizer = tokenizer or prompt.load_tokenizer(directory)
    normalize = Normalization.read(directory, device)
    model = PrismaticModel.load(directory, config, device, dtype)
    vocabulary = prismatic.action_vocabulary(config, model.language_model.config)
    policy = OpenVlaPolicy(model, tokenizer, normalize, bounds, ActionTokens(vocabulary), pruning)
    policy.unnorm_key, policy.trained = key, is_trained(config)
    return policy


@dataclass(frozen=True)
class Inputs:
    """pictures: uint8 [1, S, S, 3]; ids: int64 [n], the prompt with BOS and 29871."""

    pictures: Tensor
    ids: Tensor


class OpenVlaPolicy(PrunedPolicy):
    """See VlaPolicy. tokenize may be replaced, unnorm_key names the statistics in use."""

    unnorm_key: str

    def __init__(
        self,
        model: PrismaticModel,
        tokenizer: prompt.Tokenizer,
        normalize: Normalization,
        bounds: Bounds,
        tokens: ActionTokens,
        pruning: PruningConfig,
    ) -> None:
        llama = model.language_model
        facts = Facts(
            family=FAMILY,
            trained=True,
            num_cameras=1,
            state_dim=0,
            chunk_size=1,
            grid=model.grid,
            num_layers=llama.config.num_hidden_layers,
            image_size=IMAGE_SIZE,
        )
        super().__init__(facts, pruning, llama.lm_head.weight.device)
        self.model, self.tokenize, self.normalize = model, tokenizer, normalize
        self.bounds, self.tokens = bounds, tokens
        self.decoder = model.new_decoder()
        self.cache = self.decoder.new_cache()

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Bicubic to 224x224 with Pillow, as the official processor does, to the pixel."""
        return resize_bicubic(image)

    def _prepare(self, observation: Observation) -> Inputs:
        check_images(observation.images, self.num_cameras)
        ids = prompt.complete(self.tokenize(prompt.prompt_text(observation.instruction)))
        self._check_length(self.num_visual + len(ids) + ACTION_DIM)
        pictures = np.stack([self.preview(image) for image in observation.images])
        upload = (torch.from_numpy(a) for a in (pictures, np.asarray(ids, dtype=np.int64)))
        return Inputs(*(tensor.to(self.device, non_blocking=True) for tensor in upload))

    def _check_length(self, length: int) -> None:
        limit = len(self.decoder.positions)
        if length > limit:
            raise PolicyError(
                f"the instruction is too long: {length} tokens with image and action, "
                f"the model's context holds {limit}"
            )

    def _infer(
        self, inputs: Inputs, plan: StepPlan, select: Select, clock: StageClock
    ) -> Inference:
        pixels = self.normalize(inputs.pictures, self.decoder.dtype)
        visual = self.model.visual_tokens(pixels)
        clock.mark("vision")
        prompt = self._prompt(visual, inputs.ids)
        done = self.decoder.run_prompt(prompt, plan, select, self.cache, self.pruning.semantic_rows)
        clock.mark("prefill")
        tokens = self._decode(done, prompt.length)
        clock.mark("decode")
        return Inference(tokens, done.attention, done.selection)

    def _prompt(self, visual: Tensor, ids: Tensor) -> Prompt:
        text = self.model.embed(ids)[None]
        embeddings = torch.cat([text[:, :1], visual, text[:, 1:]], dim=1)
        length = embeddings.shape[1]
        return Prompt(
            embeddings,
            visual=Span(1, self.num_visual),
            text=Span(1 + self.num_visual, len(ids) - 1),
            read=Span(length - 1, 1),
            following=ACTION_DIM - 1,
        )

    def _decode(self, done: Pass, position: int) -> Tensor:
        """Greedy over the whole vocabulary, as trained: int64 [7]."""
        tokens = [self._next(done.hidden)]
        for _ in range(ACTION_DIM - 1):
            embedding = self.model.embed(tokens[-1])[None]
            hidden = self.decoder.run_tokens(embedding, position, self.cache, done.attention)
            tokens.append(self._next(hidden))
            position += 1
        return torch.cat(tokens)

    def _next(self, hidden: Tensor) -> Tensor:
        """[1, 1, d] -> the likeliest id, [1]."""
        return self.model.language_model.lm_head(hidden[0]).argmax(dim=-1)

    def _to_actions(self, raw: Tensor) -> np.ndarray:
        return self.bounds.to_units(self.tokens.decode(raw.cpu().numpy()))[None]
