"""pi0 and pi0.5 as policies: one prefix of images and prompt, then a flow on its cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.pruned_decoder import Select
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.flow_policy import FlowInputs, FlowParts, FlowPolicy, seeded_noise
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.lerobot.prompts import PromptTokenizer
from vla_pruner_ros.models.paligemma.decoding import FlowDecoder
from vla_pruner_ros.models.paligemma.expert import ActionExpert
from vla_pruner_ros.models.paligemma.network import PaliGemmaNetwork
from vla_pruner_ros.models.pruned_policy import PolicySpec
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import find_method
from vla_pruner_ros.pruning.step import PruningStep


@dataclass(frozen=True)
class Flow:
    """Settings of a policy's flow.

    Attributes:
        chunk: actions of one inference. noise_seed: of the noise that every flow starts from.
        padded_prompt: prompts are padded to a multiple of so many tokens, so that one CUDA graph
            serves prompts of several lengths; 1: not at all.
    """

    chunk: int
    noise_seed: int = 0
    padded_prompt: int = 1


class PaliGemmaPolicy(FlowPolicy):
    """Base of Pi0Policy and Pi05Policy. tokenize may be replaced."""

    def __init__(
        self,
        spec: PolicySpec,
        network: PaliGemmaNetwork,
        expert: ActionExpert,
        tokenize: PromptTokenizer,
        parts: FlowParts,
        flow: Flow,
        pruning: PruningConfig,
        device: torch.device,
    ) -> None:
        super().__init__(spec, parts, pruning, device)
        self.network, self.tokenize, self.flow = network, tokenize, flow
        noise = seeded_noise(flow.noise_seed, flow.chunk, network.shape.action_dim, device)
        longest = self.num_visual + _rounded_up(tokenize.max_length, flow.padded_prompt)
        self.decoder = FlowDecoder(network, expert, longest, noise)
        self.decoder_layers = (self.decoder.prefix.layers, expert.layers)

    @property
    def buffer_generation(self) -> int:
        """Grows when the cache's buffers move, which makes captured graphs invalid."""
        return self.decoder.cache.generation

    def _inputs(
        self, pixels: Tensor, ids: np.ndarray, state: np.ndarray, raw: np.ndarray
    ) -> FlowInputs:
        inputs = super()._inputs(pixels, ids, state, raw)
        # Methods that read the features of each text token would have to count the padding.
        reads_text_features = "text_features" in find_method(self.pruning.method).needs
        if self.flow.padded_prompt == 1 or reads_text_features:
            return inputs
        length = _rounded_up(len(ids), self.flow.padded_prompt)
        padded = np.zeros(length, dtype=np.int64)
        padded[: len(ids)] = ids
        position = np.array([self.num_visual + len(ids)], dtype=np.int64)
        return FlowInputs(
            pixels,
            self._upload("padded ids", padded),
            inputs.state,
            raw,
            real=self._upload("real ids", np.arange(length) < len(ids)),
            position=self._upload("position", position),
        )

    def _infer(
        self, inputs: FlowInputs, plan: PruningStep, select: Select, clock: StageClock
    ) -> InferenceOutput:
        dtype = self.decoder.prefix.dtype
        visual = self.network.visual_tokens(inputs.pixels.to(dtype))
        clock.mark("vision")
        done = self.decoder.run_prefix(visual, inputs.ids, plan, select, inputs.real)
        clock.mark("prefill")
        position = inputs.position
        if position is None:
            position = self.num_visual + len(inputs.ids)
        suffix = self.decoder.suffix(position, inputs.real)
        state = None if inputs.state is None else inputs.state.to(dtype)
        actions = self.decoder.flow(suffix, done.attention, state)
        return InferenceOutput(actions, done.attention, done.selection)


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
