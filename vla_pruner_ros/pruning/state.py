"""State of one policy across its steps: budget, action relevance, method, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vla_pruner_ros.pruning.action_layers import ActionLayers
from vla_pruner_ros.pruning.budget import Budget, DeadlineBudget, make_budget, tokens_to_keep
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import PruningMethod, Signals, make_method, select_evenly
from vla_pruner_ros.pruning.overlap import PruningStatistics, StatisticsTracker
from vla_pruner_ros.pruning.presets import preset_in_force, resolve
from vla_pruner_ros.pruning.relevance import TemporalRelevance
from vla_pruner_ros.pruning.step import PruningStep
from vla_pruner_ros.pruning.token_selection import Selection, top_k

BUDGET_FIELDS = (
    "budget_mode",
    "keep_ratio",
    "token_budget",
    "target_latency",
    "fine_keep_ratio",
    "fine_motion",
    "coarse_motion",
)


METHOD_FIELDS = ("method", "seed", "coverage", "camera_budget")


@dataclass(frozen=True)
class SavedHistory:
    """The state of one robot's steps: see PruningState.save."""

    config: PruningConfig
    buffers: list[list[Tensor]]
    updates: int
    steps_since_full: int
    planned: PruningStep | None
    budget: Budget


class PruningState:
    """Visual token pruning for one policy; it knows no model. Every control step:

        plan = state.plan()
        ... run the layers below plan.prune_layer, read what plan.signals names ...
        selection = None if plan.full else state.select(plan, signals)
        ... run the other layers on selection.kept, decode, read the rows of plan.action_layers ...
        if plan.action_layers:
            state.update_history(action_rows, plan, selection)
            state.commit_step(plan)
        state.record_step(latency_s, actions)

    plan(), commit_step() and record_step() are arithmetic on the host. select() and
    update_history() are device work that never waits for the device. To capture them in a CUDA
    graph: run them once before the capture, inside preserved(), so that their buffers exist. Call
    commit_step(plan) on every replay. A capture serves steps of its capture_key().

    num_layers: decoder layers L. num_visual: M, all cameras, which is also what selection ranges
    over: the budget is shared globally, as in the paper, not split by camera.
    always_observe: remember action attention for the statistics even where the method does
        not use it.

    Raises:
        ValueError: settings that do not fit the model, by name.
    """

    def __init__(
        self,
        config: PruningConfig,
        num_layers: int,
        num_visual: int,
        num_cameras: int = 1,
        always_observe: bool = False,
        family: str = "",
        decodes_in_parallel: bool = False,
    ) -> None:
        if num_cameras < 1 or num_visual % num_cameras:
            raise ValueError(
                f"num_visual ({num_visual}) must be a multiple of num_cameras ({num_cameras})"
            )
        self.num_layers, self.num_visual, self.num_cameras = num_layers, num_visual, num_cameras
        self.always_observe = always_observe
        self.family, self.decodes_in_parallel = family, decodes_in_parallel
        self.generation = 0
        self._config, self.settings = config, self.check(config)
        self._method = self._new_method()
        self._budget = make_budget(config, num_visual, num_cameras)
        self._relevance = _new_relevance(self.settings)
        self._tracker = StatisticsTracker(num_visual)
        self._steps_since_full = 0
        self._planned: PruningStep | None = None

    @property
    def config(self) -> PruningConfig:
        """May be replaced between steps and takes effect on the next plan(). `settings` are the
        same with everything filled in that is left to the preset.

        The action relevance survives unless its meaning changes (other layers observed); another
        window keeps the newest steps that fit. A deadline budget keeps what it has learned.
        """
        return self._config

    @config.setter
    def config(self, config: PruningConfig) -> None:
        settings = self.check(config)
        old_config, old, old_layers = self._config, self.settings, self._action_layers()
        self._config, self.settings = config, settings
        if any(getattr(settings, name) != getattr(old, name) for name in METHOD_FIELDS):
            self._method = self._new_method()
            self.generation += 1
        if any(getattr(config, name) != getattr(old_config, name) for name in BUDGET_FIELDS):
            self._budget = self._renewed_budget(old_config)
        if config.temporal_window != old_config.temporal_window:
            self._relevance = self._relevance.resized(config.temporal_window)
            self.generation += 1
        self._relevance.set_decay(settings.temporal_decay, settings.decay_order)
        if self._action_layers() != old_layers:
            self._clear_history()

    def plan(self) -> PruningStep:
        """Decide what the coming step does; changes nothing."""
        requested = tokens_to_keep(self._budget.ratio, self.num_visual)
        uses_action = self._remembers_action()
        has_history = len(self._relevance) >= self.settings.temporal_window
        history_incomplete = uses_action and not has_history
        refresh = uses_action and not history_incomplete and self._is_refresh_due()
        full = (
            self._method.name == "full"
            or requested == self.num_visual
            or (history_incomplete and self.settings.history_fill == "full")
            or refresh
        )
        observes = bool(self._action_layers())
        prune_layer = self._prune_layer()
        self._planned = PruningStep(
            keep=self.num_visual if full else requested,
            requested=requested,
            full=full,
            prune_layer=prune_layer,
            signals=frozenset() if full else self._signals(history_incomplete),
            semantic_layer=max(prune_layer - 1, 0),
            action_layers=self._action_layers(),
            uses_history=not full and uses_action and has_history,
            tracks_history=not full and observes and has_history,
            history_incomplete=history_incomplete,
            refresh=refresh,
            history_length=len(self._relevance),
            semantic_queries=self.settings.semantic_queries,
            token_reuse=self.settings.token_reuse if full else "off",
        )
        return self._planned

    def select(self, plan: PruningStep, signals: Signals) -> Selection:
        """The tokens that go on. signals: what plan.signals names, on the model's device.

        Raises:
            ValueError: a signal is missing or covers another number of visual tokens.
        """
        if plan.full:
            return Selection(torch.arange(self.num_visual, device=signals.target))
        self._check_signals(plan, signals)
        action = self._relevance.smooth() if plan.tracks_history else None
        if plan.uses_history:
            signals = replace(signals, action=action)
        elif signals.current_action is not None:
            signals = replace(signals, action=signals.current_action)
        selection = self._select(signals, plan.keep)
        if action is not None and selection.action_set is None:
            selection = replace(selection, action_set=top_k(action, plan.keep))
        self._tracker.track(selection)
        return selection

    def update_history(
        self, action_rows: Tensor, plan: PruningStep, selection: Selection | None
    ) -> None:
        """Remember this step's action attention: the half on the device.

        A row with a value that is not finite leaves the history as it was.

        Args:
            action_rows: [len(plan.action_layers), M], per layer the softmaxed attention onto each
                ORIGINAL visual token, mean over heads and action queries; dropped tokens exactly 0.
            plan: of this step.
            selection: what select() returned, None if the step ran full.

        Raises:
            ValueError: rows of another shape.
        """
        expected = (len(plan.action_layers), self.num_visual)
        if tuple(action_rows.shape) != expected:
            raise ValueError(f"action_rows must be {list(expected)}, got {list(action_rows.shape)}")
        kept = None if selection is None else selection.kept
        rows = action_rows.float()
        self._relevance.push(self._layers().reduce(rows, plan.action_layers, kept))

    def commit_step(self, plan: PruningStep) -> None:
        """Count a step whose action attention is remembered: the half on the host."""
        self._relevance.commit_step()
        self._steps_since_full = 0 if plan.full else self._steps_since_full + 1

    def record_step(self, latency_s: float | None, actions: np.ndarray | None) -> None:
        """Report the step last planned to the budget.

        Args:
            latency_s: duration of the whole step (s), None if it was not measured.
            actions: float [steps, 7], None if there are none.
        """
        if self._planned is not None:
            planned = self._planned
            ratio = self._budget.ratio
            if planned.keep != planned.requested:
                ratio = planned.keep / self.num_visual
            self._budget.record(ratio, latency_s, actions)

    def statistics(self) -> PruningStatistics:
        """Return the overlaps of the last step, NaN after a full one; waits for the device."""
        if self._planned is None or self._planned.full:
            return PruningStatistics()
        return self._tracker.read()

    def capture_key(self, plan: PruningStep) -> tuple:
        """Equal for two steps whose work on the device is the same, on the same buffers."""
        names = ("method", "action_layer", "token_recovery")
        settings = (getattr(self.settings, name) for name in names)
        return (plan.shape_key, self.generation, *settings)

    @property
    def preset(self) -> str:
        """The preset that the settings in force equal, or "custom"."""
        return preset_in_force(self.settings, self.family, self.num_layers)

    def reset(self) -> None:
        """Clear the action relevance (new episode, new instruction). The deadline budget keeps
        what it knows of the machine; the motion budget starts anew."""
        self._clear_history()
        self._method.reset()
        self._planned = None
        if not isinstance(self._budget, DeadlineBudget):
            self._budget = make_budget(self._config, self.num_visual, self.num_cameras)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Undo, at the end, what the body does to the state: for trial runs before a capture.

        Buffers that exist keep their addresses; ones the body allocates stay, emptied.
        """
        parts = (self._relevance, self._tracker, self._method)
        saved = [[buffer.clone() for buffer in part.buffers()] for part in parts]
        host = (self._relevance.updates, self._steps_since_full, self._planned)
        try:
            yield
        finally:
            for part, values in zip(parts, saved, strict=True):
                part.reset()
                # strict=False: the body may have allocated what did not exist before
                for buffer, value in zip(part.buffers(), values, strict=False):
                    buffer.copy_(value)
            self._relevance.updates, self._steps_since_full, self._planned = host

    def save(self) -> SavedHistory:
        """Copy what this robot's steps have left behind, so that another's can go on here.

        The buffers' contents are copied, the buffers stay: a captured graph holds their addresses.
        """
        return SavedHistory(
            config=self._config,
            buffers=[[buffer.clone() for buffer in part.buffers()] for part in self._parts],
            updates=self._relevance.updates,
            steps_since_full=self._steps_since_full,
            planned=self._planned,
            budget=self._budget,
        )

    def restore(self, saved: SavedHistory) -> None:
        """Go on where save() was called; the settings of then come back too."""
        self.config = saved.config
        for part, values in zip(self._parts, saved.buffers, strict=True):
            part.reset()
            # strict=False: another robot's steps may have allocated what did not exist then.
            for buffer, value in zip(part.buffers(), values, strict=False):
                buffer.copy_(value)
        self._method.load(saved.buffers[-1])
        self._relevance.updates = saved.updates
        self._steps_since_full, self._planned = saved.steps_since_full, saved.planned
        self._budget = saved.budget

    def renew_budget(self) -> None:
        """Start with a budget that knows nothing; for a robot that has no saved state."""
        self._budget = make_budget(self._config, self.num_visual, self.num_cameras)

    @property
    def _parts(self) -> tuple[TemporalRelevance, StatisticsTracker, PruningMethod]:
        return self._relevance, self._tracker, self._method

    def _new_method(self) -> PruningMethod:
        cameras = 1 if self._is_even() else self.num_cameras
        return make_method(self.settings, cameras)

    def _is_even(self) -> bool:
        return self.settings.camera_budget == "even" and self.num_cameras > 1

    def _select(self, signals: Signals, keep: int) -> Selection:
        if self._is_even():
            return select_evenly(self._method, signals, keep, self.num_cameras)
        return self._method.select(signals, keep)

    def _prune_layer(self) -> int:
        return 0 if self._method.prunes_before_first_layer else self.settings.prune_layer

    def _remembers_action(self) -> bool:
        uses_action = "action" in self._method.needs
        return uses_action and self.settings.action_source == "history"

    def _signals(self, history_incomplete: bool) -> frozenset[str]:
        """Return the signals that the model has to compute; past action attention is here."""
        if history_incomplete:
            return self._method.needs_without_history
        needs = self._method.needs
        if "action" in needs and not self._remembers_action():
            needs = needs | {"current_action"}
        return needs - {"action"}

    def _action_layers(self) -> tuple[int, ...]:
        if not (self._remembers_action() or self.always_observe):
            return ()
        return self._layers().all

    def _layers(self) -> ActionLayers:
        return ActionLayers.of(self.settings, self.num_layers, self._prune_layer())

    def _is_refresh_due(self) -> bool:
        is_periodic = self.settings.token_recovery == "refresh"
        return is_periodic and self._steps_since_full >= self.settings.refresh_period - 1

    def _renewed_budget(self, old: PruningConfig) -> Budget:
        if old.budget_mode == self._config.budget_mode == "deadline":
            self._budget.retarget(self._config.target_latency)
            return self._budget
        return make_budget(self._config, self.num_visual, self.num_cameras)

    def _clear_history(self) -> None:
        self._relevance.reset()
        self._tracker.reset()
        self._steps_since_full = 0

    def check(self, config: PruningConfig) -> PruningConfig:
        """Return the settings for this model, with everything filled in that is left to the preset.

        Raises:
            ValueError: a layer is named that the model does not have, or a source of the action
                relevance.
        """
        settings = resolve(config, self.family, self.num_layers)
        for name in ("prune_layer", "action_layer"):
            if getattr(settings, name) >= self.num_layers:
                raise ValueError(
                    f"{name} must be below the model's {self.num_layers} decoder layers, "
                    f"got {getattr(settings, name)}"
                )
        if settings.action_source == "current" and not self.decodes_in_parallel:
            raise ValueError(
                "action_source current needs a policy that decodes its action in parallel, such "
                f"as openvla_oft; with {self.family or 'this one'} set it to history"
            )
        return settings

    def _check_signals(self, plan: PruningStep, signals: Signals) -> None:
        for name in sorted(plan.signals):
            value = getattr(signals, name)
            if value is None:
                raise ValueError(f"signal {name!r} is missing: the plan asks for it")
            axis = 0 if name == "features" else -1
            if name != "text_features" and value.shape[axis] != self.num_visual:
                raise ValueError(
                    f"signal {name!r} must cover {self.num_visual} visual tokens, "
                    f"got shape {list(value.shape)}"
                )


def _new_relevance(config: PruningConfig) -> TemporalRelevance:
    return TemporalRelevance(config.temporal_window, config.temporal_decay, config.decay_order)
