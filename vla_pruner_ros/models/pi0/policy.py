"""pi0 (arXiv 2410.24164): one to three cameras, robot state, a chunk of actions by flow matching.

Directories of transformers' PI0 and of LeRobot's pi0 are read (pi0_checkpoints.py). Actions are
deterministic: the flow starts from the same seeded noise at every step.

A camera that is not there takes no tokens, and what follows moves up, as with transformers'
pixel_attention_mask and LeRobot's empty cameras: num_cameras is the number of those present.

The seven numbers of an action are the first seven of the training data's, in its units: the
checkpoint must have been trained on end-effector motion dx dy dz (m), droll dpitch dyaw (rad) and
a gripper value. A checkpoint that commands joints (ALOHA) loads too, as nothing in its files tells;
its numbers are then joint values, not what ActionChunk promises, and must not drive an arm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.checkpoints import WeightFiles, is_trained, read_optional_json
from vla_pruner_ros.models.decoder.pruned_decoder import Select
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.families import Checkpoint
from vla_pruner_ros.models.images import on_device as device_images
from vla_pruner_ros.models.images.padding import resize_with_padding
from vla_pruner_ros.models.images.preprocessing import Normalization, check_images, checked_state
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.pi0.checkpoints import (
    Statistics,
    cameras_of,
    is_lerobot,
    module_name,
    network_config,
)
from vla_pruner_ros.models.pi0.decoding import Pi0Decoder
from vla_pruner_ros.models.pi0.network import Pi0Network
from vla_pruner_ros.models.pi0.options import Options
from vla_pruner_ros.models.policy import (
    ActionChunk,
    CheckpointError,
    InputError,
    Observation,
)
from vla_pruner_ros.models.pruned_policy import PolicySpec, PrunedPolicy
from vla_pruner_ros.models.tokenizer import Tokenizer, load_tokenizer
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.step import PruningStep

FAMILY = "pi0"
MAX_PROMPT = 48
"""Tokens of an instruction in training, BOS and newline included."""
USUAL_CAMERAS = 2


def load(checkpoint: Checkpoint, options: Options) -> Pi0Policy:
    """See families.Family.load. There is one set of statistics, so no unnorm_key."""
    directory, config = checkpoint.directory, checkpoint.config
    if checkpoint.unnorm_key is not None:
        raise CheckpointError("a pi0 checkpoint has one set of statistics; leave unnorm_key out")
    built = network_config(config)
    weights = WeightFiles(directory, rename=module_name)
    statistics = Statistics.read(directory, config, weights)
    statistics.check_widths(built.max_state_dim, built.max_action_dim)
    tokenizer = checkpoint.tokenizer or load_tokenizer(directory)
    normalize = _read_normalization(directory, checkpoint.device)
    network = Pi0Network.load(built, weights, checkpoint.device, checkpoint.dtype)
    parts = Pi0Parts(network, tokenizer, normalize, statistics, is_trained(config))
    flow = _flow(options, config, built)
    return Pi0Policy(parts, checkpoint.pruning, flow, checkpoint.device)


@dataclass(frozen=True)
class Flow:
    """Options in force: those given, and the checkpoint's for the others."""

    num_cameras: int
    num_flow_steps: int
    noise_seed: int
    image_padding: str


def _flow(options: Options, config: dict, built) -> Flow:
    steps = options.num_flow_steps or built.num_inference_steps
    if steps < 1:
        raise CheckpointError(f"num_flow_steps must be above 0, the checkpoint says {steps}")
    return Flow(
        num_cameras=options.num_cameras or cameras_of(config) or USUAL_CAMERAS,
        num_flow_steps=steps,
        noise_seed=options.noise_seed or 0,
        image_padding=options.image_padding or ("center" if is_lerobot(config) else "bottom_right"),
    )


def _read_normalization(directory: Path, device: torch.device) -> Normalization:
    """Of pixel values in 0..1; to -1..1 where the checkpoint does not say."""
    processor = read_optional_json(directory / "processor_config.json").get("image_processor", {})
    given = processor or read_optional_json(directory / "preprocessor_config.json")
    values = (given.get(name) or [0.5] * 3 for name in ("image_mean", "image_std"))
    try:
        return Normalization(*(torch.tensor(v, device=device).reshape(1, 3, 1, 1) for v in values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"image_mean or image_std of {directory} is odd: {error}") from None


@dataclass(frozen=True)
class Pi0Parts:
    """What a checkpoint directory yields."""

    network: Pi0Network
    tokenize: Tokenizer
    normalize: Normalization
    statistics: Statistics
    trained: bool


@dataclass(frozen=True)
class Pi0Inputs:
    """pictures: uint8 [cameras, S, S, 3]; ids: int64 [n]; state: float32 [1, 1, max_state_dim],
    normalised and padded with zeros."""

    pictures: Tensor
    ids: Tensor
    state: Tensor


class Pi0Policy(PrunedPolicy):
    """tokenize may be replaced.

    A camera without an image is left out, as the original masks it: nothing sees its tokens, and
    positions skip them. The pruning state starts anew whenever the set of cameras changes.
    """

    can_miss_cameras = True

    def __init__(
        self, parts: Pi0Parts, pruning: PruningConfig, options: Flow, device: torch.device
    ) -> None:
        config = parts.network.config
        self.network, self.tokenize = parts.network, parts.tokenize
        self.normalize, self.statistics = parts.normalize, parts.statistics
        self.options, self.config = options, config
        facts = PolicySpec(
            family=FAMILY,
            trained=parts.trained,
            num_cameras=options.num_cameras,
            state_dim=parts.statistics.state.size,
            chunk_size=config.chunk_size,
            grid=parts.network.grid,
            num_layers=config.vlm_config.text_config.num_hidden_layers,
            image_size=config.vlm_config.vision_config.image_size,
        )
        super().__init__(facts, pruning, device)
        steps, longest = options.num_flow_steps, self.num_visual + MAX_PROMPT
        self.decoder = Pi0Decoder(self.network, longest, steps, self._noise())
        self.decoder_layers = (self.decoder.prefix.layers, self.decoder.expert.layers)

    @property
    def buffer_generation(self) -> int:
        return self.decoder.cache.generation

    def _noise(self) -> Tensor:
        """Drawn on the host, so that it is the same on every device."""
        generator = torch.Generator().manual_seed(self.options.noise_seed)
        shape = (1, self.config.chunk_size, self.config.max_action_dim)
        return torch.randn(shape, generator=generator).to(self.device)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Shrunk without distortion, padded with black, see images/padding.py."""
        return resize_with_padding(image, self.image_size, self.options.image_padding)

    def _view(self, picture: Tensor) -> Tensor:
        padding = self.options.image_padding
        return device_images.resize_with_padding(picture, self.image_size, padding)

    def act(self, observation: Observation) -> ActionChunk:
        """See VlaPolicy.act."""
        images = observation.images
        cameras = tuple(number for number, image in enumerate(images) if image is not None)
        if not cameras or len(images) != self.num_cameras:
            raise InputError(
                f"the model takes {self.num_cameras} image(s) per step, of which some may be None, "
                f"got {len(images)} with {len(cameras)} picture(s)"
            )
        if cameras != self.cameras:
            self._use_cameras(cameras, self.pruning)
        return super().act(replace(observation, images=[images[number] for number in cameras]))

    def _prepare(self, observation: Observation) -> Pi0Inputs:
        check_images(observation.images, len(self.cameras))
        ids = np.asarray(self._prompt_ids(observation.instruction), dtype=np.int64)
        state = self._padded_state(observation.state)
        pictures = self._upload_pictures(observation.images, self._view)
        return Pi0Inputs(pictures, self._upload("ids", ids), self._upload("state", state))

    def check_instruction(self, instruction: str) -> None:
        """See PrunedPolicy.check_instruction."""
        self._prompt_ids(instruction)

    def _prompt_ids(self, instruction: str) -> list[int]:
        """BOS, instruction, newline."""
        if not instruction.strip():
            raise InputError("the instruction is empty; tell the robot what to do")
        bos = self.config.vlm_config.text_config.bos_token_id
        ids = self.tokenize(instruction.rstrip("\n") + "\n")
        ids = ids if ids[:1] == [bos] else [bos, *ids]
        if len(ids) > MAX_PROMPT:
            raise InputError(
                f"the instruction is too long: {len(ids)} tokens, the model takes {MAX_PROMPT}"
            )
        return ids

    def _padded_state(self, state: np.ndarray | None) -> np.ndarray:
        values = checked_state(state, self.state_dim)
        padded = np.zeros((1, 1, self.config.max_state_dim), dtype=np.float32)
        padded[0, 0, : self.state_dim] = self.statistics.state.normalize(values)
        return padded

    def _infer(
        self, inputs: Pi0Inputs, plan: PruningStep, select: Select, clock: StageClock
    ) -> InferenceOutput:
        dtype = self.decoder.prefix.dtype
        visual = self.network.visual_tokens(self.normalize(inputs.pictures, dtype))
        clock.mark("vision")
        rows = self.pruning.semantic_queries
        done = self.decoder.run_prefix(visual, inputs.ids, plan, select, rows)
        clock.mark("prefill")
        position = self.num_visual + len(inputs.ids)
        actions = self.decoder.flow(inputs.state.to(dtype), position, done.attention)
        return InferenceOutput(actions, done.attention, done.selection)

    def _to_actions(self, raw: Tensor) -> np.ndarray:
        normalized = raw[0].cpu().numpy().astype(np.float64)
        return self.statistics.action.to_units(normalized)[:, :ACTION_DIM]
