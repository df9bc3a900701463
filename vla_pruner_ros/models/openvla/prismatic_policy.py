"""Steps that OpenVLA and OpenVLA-OFT share around the network: load, check, tokenize, upload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vla_pruner_ros.models.actions import ACTION_DIM, ActionTokens, Bounds
from vla_pruner_ros.models.checkpoints import choose_statistics, is_trained, read_statistics
from vla_pruner_ros.models.families import Checkpoint
from vla_pruner_ros.models.images.preprocessing import IMAGE_SIZE, Normalization
from vla_pruner_ros.models.openvla import prompt
from vla_pruner_ros.models.openvla.prismatic import PrismaticModel, action_vocabulary
from vla_pruner_ros.models.policy import InputError
from vla_pruner_ros.models.pruned_policy import PolicySpec, PrunedPolicy
from vla_pruner_ros.models.tokenizer import Tokenizer, find_tokenizer
from vla_pruner_ros.pruning.config import PruningConfig

BASE = "openvla/openvla-7b"
"""Repository whose tokenizer all checkpoints of both families share."""

Ends = Callable[[dict], tuple[str, str]]


def quantile_ends(statistics: dict) -> tuple[str, str]:
    """Return the ends that OpenVLA's ranges have."""
    return ("q01", "q99")


@dataclass(frozen=True)
class PrismaticParts:
    """Parts of a checkpoint directory of either family."""

    model: PrismaticModel
    tokenize: Tokenizer
    normalize: Normalization
    bounds: Bounds
    tokens: ActionTokens
    unnorm_key: str
    statistics: dict
    trained: bool

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, bounds_epsilon: float = 0.0, ends: Ends = quantile_ends
    ) -> PrismaticParts:
        """Read the small files first: their troubles show before gigabytes are read.

        Args:
            bounds_epsilon: see Bounds.
            ends: statistics of one data set -> names of the ends of its ranges.
        """
        directory, config = checkpoint.directory, checkpoint.config
        key, statistics = choose_statistics(
            read_statistics(directory, config), checkpoint.unnorm_key, str(directory)
        )
        name = f"{key}, action"
        bounds = Bounds(statistics.get("action", {}), name, bounds_epsilon, ends(statistics))
        tokenizer = find_tokenizer(checkpoint.tokenizer, directory, BASE, fetch=False).encode
        normalize = Normalization.read(directory, checkpoint.device)
        model = PrismaticModel.load(directory, config, checkpoint.device, checkpoint.dtype)
        tokens = ActionTokens(action_vocabulary(config, model.language_model.config))
        trained = is_trained(config)
        return cls(model, tokenizer, normalize, bounds, tokens, key, statistics, trained)


class PrismaticPolicy(PrunedPolicy):
    """tokenize may be replaced; unnorm_key names the statistics in use."""

    def __init__(
        self,
        family: str,
        parts: PrismaticParts,
        pruning: PruningConfig,
        num_cameras: int = 1,
        state_dim: int = 0,
        chunk_size: int = 1,
    ) -> None:
        llama = parts.model.language_model
        spec = PolicySpec(
            family=family,
            trained=parts.trained,
            num_cameras=num_cameras,
            state_dim=state_dim,
            chunk_size=chunk_size,
            grid=parts.model.grid,
            num_layers=llama.config.num_hidden_layers,
            image_size=IMAGE_SIZE,
            action_dim=parts.bounds.size,
        )
        super().__init__(spec, pruning, llama.lm_head.weight.device)
        self.model, self.tokenize, self.normalize = parts.model, parts.tokenize, parts.normalize
        self.bounds, self.tokens = parts.bounds, parts.tokens
        self.unnorm_key = parts.unnorm_key
        self.decoder = parts.model.new_decoder()
        self.decoder_layers = (self.decoder.layers,)

    def _prompt_ids(self, instruction: str, others: int) -> list[int]:
        """The prompt's ids with BOS and 29871. others: further tokens next to the visual ones."""
        ids = prompt.complete(self.tokenize(prompt.prompt_text(instruction)))
        length, limit = self.num_visual + len(ids) + others, len(self.decoder.positions)
        if length > limit:
            raise InputError(
                f"the instruction is too long: {length} tokens with images and action, "
                f"the model's context holds {limit}"
            )
        return ids

    def check_instruction(self, instruction: str) -> None:
        """See PrunedPolicy.check_instruction."""
        self._prompt_ids(instruction, self.other_tokens)

    @property
    def other_tokens(self) -> int:
        """Tokens next to the visual ones and the prompt's."""
        return ACTION_DIM

    def _upload_ids(self, name: str, ids: list[int]) -> Tensor:
        return self._upload(name, np.asarray(ids, dtype=np.int64))

    def logits(self, hidden: Tensor) -> Tensor:
        """[1, n, d] -> of the whole vocabulary, as trained: [n, ids]."""
        return self.model.language_model.lm_head(hidden[0])

    def _greedy(self, hidden: Tensor) -> Tensor:
        """[1, n, d] -> the likeliest ids: int64 [n]."""
        return self.logits(hidden).argmax(dim=-1)
