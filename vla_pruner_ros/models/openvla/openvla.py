"""OpenVLA (arXiv 2406.09246): one camera, seven action tokens decoded greedily.

Sequence: [BOS][256 visual][rest of the prompt, ending in 29871], causal, positions 0 .. L-1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.decoder.pruned_decoder import PrefillResult, Select
from vla_pruner_ros.models.decoder.reusing_pass import run_reusing
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.drafting import Drafter, accepted_path, chain
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.execution.token_reuse import Held, TokenReuse
from vla_pruner_ros.models.families import Checkpoint
from vla_pruner_ros.models.images import on_device as device_images
from vla_pruner_ros.models.images.preprocessing import IMAGE_SIZE, check_images, resize_bicubic
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.openvla.prismatic_policy import PrismaticParts, PrismaticPolicy
from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.step import PruningStep

FAMILY = "openvla"
VAIN_PASSES = 2
"""A pass over several tokens costs little more than over one, on a CPU up to twice as much."""
USUAL_PROMPT = 128
"""Tokens next to the visual ones, guesses included, that the cache has room for from the start."""


def load(checkpoint: Checkpoint) -> OpenVlaPolicy:
    """Load OpenVLA, see families.Family.load.

    Raises:
        CheckpointError: weights, statistics or settings that do not fit.
    """
    parts = PrismaticParts.load(checkpoint)
    if parts.bounds.size != ACTION_DIM:
        raise CheckpointError(
            f"{parts.unnorm_key} has {parts.bounds.size}-dimensional actions, not {ACTION_DIM}"
        )
    return OpenVlaPolicy(parts, checkpoint.pruning)


@dataclass(frozen=True)
class OpenVlaInputs:
    """images: uint8 [1, S, S, 3]; ids: int64 [n], the prompt with BOS and 29871;
    proposal: guessed tokens, one for each node of the drafter's tree, and guesses the same on the
    device: int64 [nodes]; None where the step decodes plainly."""

    images: Tensor
    ids: Tensor
    proposal: list[int] | None = None
    guesses: Tensor | None = None


class OpenVlaPolicy(PrismaticPolicy):
    """OpenVLA (arXiv 2406.09246): seven action tokens, decoded one by one."""

    decodes_token_by_token = True
    reuses_tokens = True

    def __init__(self, parts: PrismaticParts, pruning: PruningConfig) -> None:
        super().__init__(FAMILY, parts, pruning)
        self.cache = self.decoder.new_cache(self.num_visual + USUAL_PROMPT)
        self.drafter: Drafter | None = None
        self.reuse = TokenReuse(self.grid, self.spec.num_layers)
        self.branches: Tensor | None = None

    def set_execution(self, execution: ExecutionConfig) -> None:
        super().set_execution(execution)
        if execution.draft != "off":
            self.reuses_tokens = False
            self.check_pruning(self.pruning)
            self.drafter = Drafter(execution.draft, ACTION_DIM, self.tokens.ids)
            visible = torch.tensor(self.drafter.tree.visible, device=self.device)
            self.branches = None if self.drafter.tree.is_chain else visible

    @property
    def buffer_generation(self) -> int:
        """Grows when the cache's buffers move, which makes captured graphs invalid."""
        return self.cache.generation

    def reset(self) -> None:
        super().reset()
        if self.drafter is not None:
            self.drafter.reset()
        self.reuse.reset()

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Resize bicubically with Pillow, equal to the official processor to the pixel.

        Args:
            image: uint8 [H, W, 3].

        Returns:
            Uint8 [224, 224, 3].
        """
        return resize_bicubic(image)

    def _view(self, image: Tensor) -> Tensor:
        return device_images.resize_bicubic(image, IMAGE_SIZE, IMAGE_SIZE)

    def _prepare(self, observation: Observation) -> OpenVlaInputs:
        check_images(observation.images, self.num_cameras)
        proposal = None if self.drafter is None else self.drafter.propose()
        others = max(ACTION_DIM, len(proposal or []))
        ids = self._prompt_ids(observation.instruction, others)
        images = self._upload_images(observation.images, self._view)
        guesses = None if proposal is None else self._upload_ids("guesses", proposal)
        return OpenVlaInputs(images, self._upload_ids("ids", ids), proposal, guesses)

    def _infer(
        self, inputs: OpenVlaInputs, plan: PruningStep, select: Select, clock: StageClock
    ) -> InferenceOutput:
        pixels = self.normalize(inputs.images, self.decoder.dtype)
        visual = self.model.visual_tokens(pixels)
        clock.mark("vision")
        prompt = self._prompt(visual, inputs)
        reused: tuple[int, ...] = ()
        if plan.token_reuse != "off":
            done, reused = self._run_reusing(prompt, inputs, plan)
        else:
            self.reuse.reset()  # the cache is about to hold a pruned prompt
            done = self.decoder.run_prompt(prompt, plan, select, self.cache)
        clock.mark("prefill")
        if inputs.guesses is None:
            tokens = self._decode(done, prompt.length)
        else:
            tokens = self._greedy(done.hidden)  # after the prompt and after each guess
        return InferenceOutput(tokens, done.attention, done.selection, done.cached, reused)

    def _run_reusing(
        self, prompt: Prompt, inputs: OpenVlaInputs, plan: PruningStep
    ) -> tuple[PrefillResult, tuple[int, ...]]:
        """Return the pass, and the visual tokens that each layer took from the last inference."""
        image, ids = inputs.images[0].clone(), inputs.ids.clone()  # the next upload overwrites both
        gated = plan.token_reuse == "gated"
        rows = self.reuse.begin(image, ids, self.cache.generation, prompt.visual.start, gated)
        done, attention = run_reusing(self.decoder, prompt, plan, self.cache, rows)
        self.reuse.offer(Held(image, ids, attention, self.cache.generation))
        return done, tuple(map(len, rows))

    def _greedy(self, hidden: Tensor) -> Tensor:
        logits = self.logits(hidden)
        self.reuse.see(logits)
        return logits.argmax(dim=-1)

    def _prompt(self, visual: Tensor, inputs: OpenVlaInputs) -> Prompt:
        text = self.model.embed(inputs.ids)[None]
        parts = [text[:, :1], visual, text[:, 1:]]
        guesses = 0 if inputs.guesses is None else len(inputs.guesses)
        if guesses:
            parts.append(self.model.embed(inputs.guesses)[None])
        length = self.num_visual + len(inputs.ids)
        return Prompt(
            torch.cat(parts, dim=1),
            visual=Span(1, self.num_visual),
            text=Span(1 + self.num_visual, len(inputs.ids) - 1),
            read=Span(length - 1, 1 + guesses),
            following=ACTION_DIM - 1,
            guesses=guesses,
            branches=self.branches if guesses else None,
        )

    def _decode(self, done: PrefillResult, position: int) -> Tensor:
        """int64 [7]; position: that of the first generated token."""
        tokens = [self._greedy(done.hidden)]
        for offset in range(ACTION_DIM - 1):
            embedding = self.model.embed(tokens[-1])[None]
            hidden = self.decoder.run_tokens(
                embedding, position + offset, self.cache, done.attention
            )
            tokens.append(self._greedy(hidden))
        return torch.cat(tokens)

    def _complete(self, inference: InferenceOutput, inputs: OpenVlaInputs) -> InferenceOutput:
        if inputs.proposal is None:
            return inference
        length = self.num_visual + len(inputs.ids)
        return self._verify(inference, inputs.proposal, length)

    def _verify(
        self, inference: InferenceOutput, proposal: list[int], position: int
    ) -> InferenceOutput:
        """Keep the guesses that held and decode what is missing; waits once for each pass.

        position: that of the first generated token. What is missing is drafted as a chain: next to
        the token known last, the guesses for the places after it run in the same pass; after
        VAIN_PASSES that accepted nothing it goes on token by token.
        """
        attention, first_choice = inference.attention, proposal[: ACTION_DIM - 1]
        path, tokens = accepted_path(self.drafter.tree, proposal, inference.raw.tolist())
        self._keep_guesses(inference, path)
        accepted = len(path)
        in_vain = 0 if path else 1
        while len(tokens) < ACTION_DIM:
            guesses = first_choice[len(tokens) :] if in_vain < VAIN_PASSES else []
            embeddings = self.model.embed(self._upload_ids("tokens", [tokens[-1], *guesses]))[None]
            held = [length + len(tokens) for length in inference.cached]
            start = position + len(tokens) - 1
            hidden = self.decoder.run_tokens(embeddings, start, self.cache, attention, verify=True)
            predictions = self._greedy(hidden).tolist()
            path, found = accepted_path(chain(len(guesses)), guesses, predictions)
            attention.accept(1 + len(path))
            in_vain = 0 if path else in_vain + 1
            tokens += found
            accepted += len(path)
            self.cache.rewind([length + len(path) for length in held])
        raw = torch.tensor(tokens)
        return replace(inference, raw=raw, drafted=len(first_choice), accepted=accepted)

    def _keep_guesses(self, inference: InferenceOutput, path: list[int]) -> None:
        """Keep only these nodes of the pass over prompt and guesses."""
        if path == list(range(len(path))):
            inference.attention.accept(1 + len(path))
            self.cache.rewind([length + len(path) for length in inference.cached])
            return
        nodes = self._upload_ids("path", path)
        rows = torch.cat([nodes.new_zeros(1), nodes + 1])
        inference.attention.accept(len(rows), rows)
        self.cache.move(inference.cached, nodes)

    def _remember(self, inference: InferenceOutput) -> None:
        if self.drafter is not None:
            accepted = inference.accepted if inference.drafted else None
            self.drafter.record(inference.raw.tolist(), accepted)
        if inference.reused:
            self.reuse.keep()

    def _to_actions(self, raw: Tensor, inputs: OpenVlaInputs) -> np.ndarray:
        return self.bounds.to_units(self.tokens.decode(raw.cpu().numpy()))[None]
