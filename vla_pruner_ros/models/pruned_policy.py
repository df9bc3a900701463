"""Base of all families: one act() around the family's own inference, and the pruning state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from vla_pruner_ros.models.decoder.pruned_decoder import Select
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.graphed_steps import GraphedStep, GraphedSteps
from vla_pruner_ros.models.execution.pinned_uploader import PinnedUploader
from vla_pruner_ros.models.execution.quantization import quantize
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.policy import (
    ActionChunk,
    CheckpointError,
    Observation,
    PolicyError,
    PruningReport,
)
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import Signals
from vla_pruner_ros.pruning.state import PruningState, SavedHistory
from vla_pruner_ros.pruning.step import PruningStep
from vla_pruner_ros.pruning.token_selection import Selection

USUAL_RATIOS = (1.0, 0.5, 0.25, 0.125)
"""Budgets whose graphs are recorded before the first step, next to the configured one."""


@dataclass(frozen=True)
class PolicySpec:
    """Specification of a policy, which never changes. See VlaPolicy for the fields' meaning."""

    family: str
    trained: bool
    num_cameras: int
    state_dim: int
    chunk_size: int
    grid: tuple[int, int]
    """Patch rows and columns of one camera."""
    num_layers: int
    image_size: int
    """Side of the square image the model sees, pixels."""
    action_dim: int = 7
    """Numbers of one action."""
    action_names: tuple[str, ...] = ()
    """Names of those numbers, empty if the checkpoint lacks them."""
    camera_names: tuple[str, ...] = ()
    """Names of the cameras in the order of training, empty if the checkpoint lacks them."""
    relative_actions: tuple[bool, ...] = ()
    """One a number of the action, True if the policy itself adds the present state to it; empty:
    to none."""


class PrunedPolicy(ABC):
    """A VlaPolicy (policy.py); a family adds how to prepare, infer and read back.

    Data goes host -> device once (_prepare) and device -> host once (_to_actions).
    """

    decodes_token_by_token = False
    """True where drafting applies."""
    reuses_tokens = False
    """True where token_reuse applies."""
    decodes_in_parallel = False
    """True where the action's placeholders are rows of the prompt."""
    can_miss_cameras = False
    decoder_layers: tuple[nn.Module, ...] = ()
    """Whose linear layers quantization replaces."""
    robot = ""
    """See VlaPolicy; load_policy sets it."""
    dtype = ""
    """Data type of the weights, for diagnostics; load_policy sets it."""
    buffer_generation = 0
    """Counts how often buffers of the family's own have moved; CUDA graphs hold addresses."""

    def __init__(self, spec: PolicySpec, pruning: PruningConfig, device: torch.device) -> None:
        """Raises ValueError where the pruning settings do not fit the model."""
        self.spec, self.device = spec, device
        self.family, self.trained = spec.family, spec.trained
        self.num_cameras, self.state_dim = spec.num_cameras, spec.state_dim
        self.chunk_size, self.action_dim = spec.chunk_size, spec.action_dim
        self.grid, self.image_size = spec.grid, spec.image_size
        self.graphs: GraphedSteps | None = None
        self._check_reuse(pruning)
        self._use_cameras(tuple(range(spec.num_cameras)), pruning)
        self.execution = ExecutionConfig()
        self.uploader = PinnedUploader(device)
        self.resizes_on_device = device.type == "cuda"

    def _use_cameras(self, cameras: tuple[int, ...], pruning: PruningConfig) -> None:
        """See with these cameras alone; what is known of another set's tokens is cleared."""
        self.cameras = cameras
        self.num_visual = len(cameras) * self.grid[0] * self.grid[1]
        layers = self.spec.num_layers
        self.pruning_state = PruningState(
            pruning,
            layers,
            self.num_visual,
            len(cameras),
            family=self.spec.family,
            decodes_in_parallel=self.decodes_in_parallel,
        )
        if self.graphs is not None:  # they hold addresses of the old pruning state
            self.graphs = self.graphs.emptied()

    @abstractmethod
    def preview(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> what the model sees of it, uint8 [image_size, image_size, 3]."""

    @abstractmethod
    def _prepare(self, observation: Observation) -> object:
        """Check the observation and upload it. Raises PolicyError."""

    @abstractmethod
    def _infer(
        self, inputs, plan: PruningStep, select: Select, clock: StageClock
    ) -> InferenceOutput:
        """Everything on the device; waits for nothing."""

    def _complete(self, inference: InferenceOutput, inputs) -> InferenceOutput:
        """Do the work that waits for the device; nothing for most families."""
        return inference

    def _remember(self, inference: InferenceOutput) -> None:  # noqa: B027 - most have nothing to do
        """Take in a step that gave actions; for a family that carries something of its own."""

    @abstractmethod
    def _to_actions(self, raw: Tensor, inputs) -> np.ndarray:
        """Read back and convert: float64 [steps, n]. Raises PolicyError for what is no action."""

    def set_execution(self, execution: ExecutionConfig) -> None:
        """Run like this from now on; called once, right after loading.

        Raises:
            CheckpointError: this family cannot, or a library is missing.
        """
        if execution.draft != "off" and not self.decodes_token_by_token:
            raise CheckpointError(
                f"{self.family} does not decode its actions token by token, there is nothing to "
                "draft: set draft to off"
            )
        if execution.quantization != "none":
            self._quantize(execution.quantization)
        self.execution = execution
        if execution.graphs and self.device.type == "cuda":
            self.graphs = GraphedSteps(self, execution.graph_memory_mb)

    def _quantize(self, kind: str) -> None:
        if not self.decoder_layers:
            raise CheckpointError(
                f"{self.family} has no decoder to quantize: set quantization to none"
            )
        quantize(self.decoder_layers, kind)

    def capture_graphs(self, instruction: str) -> None:
        """Record the graphs of the budgets that are likely to be asked for, so that no step on the
        robot is slow because it is the first of its kind. Clears the state afterwards.

        Raises:
            PolicyError: as act().
        """
        if self.graphs is None:
            return
        config = self.pruning
        for ratio in sorted({*USUAL_RATIOS, config.keep_ratio, config.fine_keep_ratio}):
            changes = {"keep_ratio": ratio, "token_budget": 0, "budget_mode": "fixed"}
            self.pruning = replace(config, **changes)
            self.reset()
            # Until the history is full, steps are of another kind.
            for _ in range(config.temporal_window + 1):
                self.act(self._blank(instruction))
        self.pruning = config
        self.reset()

    def _blank(self, instruction: str) -> Observation:
        image = np.full((self.image_size, self.image_size, 3), 128, dtype=np.uint8)
        state = np.zeros(self.state_dim) if self.state_dim else None
        return Observation([image] * self.num_cameras, instruction, state)

    @property
    def pruning(self) -> PruningConfig:
        """Pruning settings; may be replaced between steps."""
        return self.pruning_state.config

    @pruning.setter
    def pruning(self, config: PruningConfig) -> None:
        self._check_reuse(config)
        self.pruning_state.config = config

    @torch.no_grad()
    def act(self, observation: Observation) -> ActionChunk:
        """See VlaPolicy.act."""
        plan = self.pruning_state.plan()
        clock = StageClock(self.device)
        inputs = self._prepare(observation)
        clock.mark("preprocess")
        graphs = self.graphs if plan.token_reuse == "off" else None
        graphed = None if graphs is None else graphs.find(inputs, plan)
        if graphed is None:
            inference = self.infer(inputs, plan, clock)
        else:
            inference = graphed.infer(inputs, clock)
        inference, actions = self._finish(inference, inputs, clock)
        timings = clock.read()
        if plan.action_layers:
            self._observe(plan, inference, graphed)
        self.pruning_state.record_step(timings["total"], actions)
        self._remember(inference)
        report = self._report(plan, inference, timings)
        if graphs is not None and graphed is None:
            graphs.add(inputs, plan)
        return ActionChunk(actions.astype(np.float32), report)

    def _observe(
        self, plan: PruningStep, inference: InferenceOutput, graphed: GraphedStep | None
    ) -> None:
        if graphed is None or not graphed.observe():
            rows = inference.attention.mean()
            self.pruning_state.update_history(rows, plan, inference.selection)
        self.pruning_state.commit_step(plan)

    def act_unpruned(self, observation: Observation) -> np.ndarray:
        """Actions of the whole model, float64 [steps, 7]; leaves the pruning state as it was."""
        return self.run(observation, self.unpruned_plan())[1]

    @torch.no_grad()
    def run(
        self,
        observation: Observation,
        plan: PruningStep,
        select: Select | None = None,
        clock: StageClock | None = None,
    ) -> tuple[InferenceOutput, np.ndarray]:
        """One inference under any plan, with nothing remembered: act() without the pruning state.

        select: called where the plan prunes; the policy's own method by default.
        Returns the device's results and the actions, float64 [steps, 7]. Raises PolicyError.
        """
        clock = clock or StageClock(self.device)
        inputs = self._prepare(observation)
        clock.mark("preprocess")
        return self._finish(self.infer(inputs, plan, clock, select), inputs, clock)

    def infer(
        self, inputs, plan: PruningStep, clock: StageClock, select: Select | None = None
    ) -> InferenceOutput:
        """_infer, with each selection timed. select: the policy's own method by default."""
        clock.begin()
        select = select or partial(self.pruning_state.select, plan)
        return self._infer(inputs, plan, _timed(select, clock), clock)

    def _finish(
        self, inference: InferenceOutput, inputs, clock: StageClock
    ) -> tuple[InferenceOutput, np.ndarray]:
        """The host's half: wait, read back and check."""
        inference = self._complete(inference, inputs)
        clock.mark("decode")
        actions = self._to_actions(inference.raw, inputs)
        if not np.isfinite(actions).all():
            raise PolicyError(
                "the model's actions are not finite; no action is sent. "
                "Try dtype float32 and check the checkpoint"
            )
        return inference, actions

    def check_instruction(self, instruction: str) -> None:
        """Raise InputError if the model cannot take an instruction; any thread may ask."""
        return

    def wait(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check_pruning(self, pruning: PruningConfig) -> None:
        """Raise ValueError if settings cannot fit this model, such as a layer it does not have."""
        self._check_reuse(pruning)
        self.pruning_state.check(pruning)

    def _check_reuse(self, pruning: PruningConfig) -> None:
        if pruning.token_reuse != "off" and not self.reuses_tokens:
            raise ValueError(
                "token_reuse needs an openvla policy with draft off; with this "
                f"{self.spec.family} set it to off"
            )

    def reset(self) -> None:
        """See VlaPolicy.reset."""
        self.pruning_state.reset()

    def save_history(self) -> SavedHistory:
        """Return the pruning state of the robot served last, to be given to restore_history."""
        return self.pruning_state.save()

    def restore_history(self, saved: SavedHistory | None) -> None:
        """Go on with another robot's pruning state, or with none at all (None)."""
        self.reset()
        if saved is None:
            self.pruning_state.renew_budget()
        else:
            self.pruning_state.restore(saved)

    def unpruned_plan(self) -> PruningStep:
        """Runs every token and remembers nothing."""
        prune_layer = self.pruning_state.settings.prune_layer
        return PruningStep(
            keep=self.num_visual,
            requested=self.num_visual,
            full=True,
            prune_layer=prune_layer,
            signals=frozenset(),
            semantic_layer=max(prune_layer - 1, 0),
            action_layers=(),
            uses_history=False,
            tracks_history=False,
            history_incomplete=False,
            refresh=False,
            history_length=0,
        )

    def _upload_images(self, images: list[np.ndarray], view: Callable[[Tensor], Tensor]) -> Tensor:
        """Camera images -> what the model sees: uint8 [cameras, S, S, 3]. view: preview, of a
        uint8 [H, W, 3] on the device.

        A GPU gets the frames as they come and resizes them itself; on a CPU the host's ways are
        the faster ones.
        """
        if not self.resizes_on_device:
            return self._upload("images", np.stack([self.preview(image) for image in images]))
        frames = (self._upload(f"image {n}", image) for n, image in enumerate(images))
        return torch.stack([view(frame) for frame in frames])

    def _upload(self, name: str, array: np.ndarray) -> Tensor:
        """Host -> device without waiting; see Staging."""
        return self.uploader.upload(name, array)

    def _report(
        self, plan: PruningStep, inference: InferenceOutput, timings: dict[str, float]
    ) -> PruningReport:
        return PruningReport(
            kept_indices=self._by_camera(inference.selection),
            grid=self.grid,
            tokens_total=self.num_visual,
            tokens_requested=plan.requested,
            tokens_kept=plan.keep,
            method=self.pruning.method,
            preset=self.pruning_state.preset,
            prune_layer=plan.prune_layer,
            history_incomplete=plan.history_incomplete,
            refresh=plan.refresh,
            history_length=plan.history_length,
            timings=timings,
            reused_tokens=inference.reused,
            drafted_tokens=inference.drafted,
            accepted_tokens=inference.accepted,
            **asdict(self.pruning_state.statistics()),
        )

    def _by_camera(self, selection: Selection | None) -> list[np.ndarray]:
        patches = self.grid[0] * self.grid[1]
        kept = np.arange(self.num_visual) if selection is None else selection.kept.cpu().numpy()
        camera = np.array(self.cameras)[kept // patches]
        indices = (kept % patches).astype(np.int32)
        return [indices[camera == number] for number in range(self.num_cameras)]


def _timed(select: Select, clock: StageClock) -> Select:
    def timed(signals: Signals) -> Selection:
        with clock.inside("selection"):
            return select(signals)

    return timed
