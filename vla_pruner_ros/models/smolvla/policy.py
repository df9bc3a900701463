"""SmolVLA as a policy."""

from __future__ import annotations

import numpy as np
import torch

from vla_pruner_ros.models.decoder.pruned_decoder import Select
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.flow_policy import FlowInputs, FlowParts, FlowPolicy, seeded_noise
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.lerobot.prompts import PromptTokenizer, with_newline
from vla_pruner_ros.models.pruned_policy import PolicySpec
from vla_pruner_ros.models.smolvla.decoding import ImageMarks, SmolVlaDecoder
from vla_pruner_ros.models.smolvla.network import FlowEmbedding, SmolVlaNetwork
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.step import PruningStep


class SmolVlaPolicy(FlowPolicy):
    """See FlowPolicy. tokenize may be replaced."""

    def __init__(
        self,
        spec: PolicySpec,
        network: SmolVlaNetwork,
        embed_actions: FlowEmbedding,
        tokenize: PromptTokenizer,
        parts: FlowParts,
        marks: ImageMarks,
        noise_seed: int,
        pruning: PruningConfig,
        device: torch.device,
    ) -> None:
        super().__init__(spec, parts, pruning, device)
        self.network, self.tokenize = network, tokenize
        noise = seeded_noise(noise_seed, spec.chunk_size, network.shape.action_dim, device)
        longest = self.num_visual + spec.num_cameras * marks.count + tokenize.max_length + 1
        self.decoder = SmolVlaDecoder(network, embed_actions, marks, longest, noise)
        self.decoder_layers = (self.decoder.prefix.layers, network.expert.layers)

    @property
    def buffer_generation(self) -> int:
        """Grows when the cache's buffers move, which makes captured graphs invalid."""
        return self.decoder.cache.generation

    def _prompt_ids(self, instruction: str, state: np.ndarray) -> list[int]:
        return self.tokenize(with_newline(instruction))

    def _infer(
        self, inputs: FlowInputs, plan: PruningStep, select: Select, clock: StageClock
    ) -> InferenceOutput:
        dtype, cameras = self.decoder.prefix.dtype, len(self.cameras)
        visual = self.network.visual_tokens(inputs.pixels.to(dtype))
        clock.mark("vision")
        state = inputs.state.to(dtype)
        done = self.decoder.run_prefix(visual, inputs.ids, state, cameras, plan, select)
        clock.mark("prefill")
        position = self.num_visual + cameras * self.decoder.marks.count + len(inputs.ids) + 1
        actions = self.decoder.flow(position, done.attention)
        return InferenceOutput(actions, done.attention, done.selection)
