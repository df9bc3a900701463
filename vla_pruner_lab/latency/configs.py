"""Cells that a benchmark measures, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_pruner_lab.latency.baseline import ATTENTIONS, BASELINES
from vla_pruner_lab.latency.model_shapes import ModelShape
from vla_pruner_lab.latency.model_work import Pruning
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.pruning.budget import tokens_to_keep
from vla_pruner_ros.pruning.config import PruningConfig

BASELINE_MODES = tuple(f"transformers_{attention}" for attention in ATTENTIONS)
MODES = ("eager", "graph", *BASELINE_MODES)
"""eager, graph: this package, without and with CUDA graphs; see benchmark_baseline for the rest."""


@dataclass(frozen=True)
class LatencyConfig:
    """One setting that is timed. still: the same image again and again, where drafts can hold;
    else images change at every step."""

    family: str
    method: str
    keep_ratio: float
    mode: str
    draft: str = "off"
    quantization: str = "none"
    still: bool = False

    @property
    def label(self) -> str:
        """Name of this configuration in logs."""
        return f"{self.family} {self.method} {self.keep_ratio:g} {self.how}"

    @property
    def how(self) -> str:
        """Mode and draft as text."""
        if self.draft == "off":
            return self.mode
        return f"{self.mode}, draft {self.draft}, {'still' if self.still else 'moving'} scene"

    @property
    def is_baseline(self) -> bool:
        """True if transformers' own forward pass runs, without this package's decoder."""
        return self.mode in BASELINE_MODES

    @property
    def full(self) -> LatencyConfig:
        """The unpruned configuration that this one is compared with."""
        mode = "eager" if self.is_baseline else self.mode
        return replace(self, method="full", keep_ratio=1.0, mode=mode, draft="off", still=False)

    @property
    def warmup(self) -> int:
        """Steps until the temporal history is complete, buffers exist and graphs are captured."""
        return 2 if self.method == "full" else PruningConfig.temporal_window + 2

    @property
    def execution(self) -> ExecutionConfig:
        """Settings of the execution."""
        graphs = self.mode == "graph"
        return ExecutionConfig(graphs=graphs, draft=self.draft, quantization=self.quantization)

    def pruning(self, shape: ModelShape) -> Pruning:
        """Return the tokens kept and the method, for a model of this shape."""
        return Pruning(tokens_to_keep(self.keep_ratio, shape.visual), self.method)


@dataclass(frozen=True)
class Grid:
    """Axes of the grid of configurations."""

    families: tuple[str, ...]
    keep_ratios: tuple[float, ...]
    methods: tuple[str, ...]
    modes: tuple[str, ...]
    drafts: tuple[str, ...] = ("off",)
    quantization: str = "none"

    def configs(self, family: str) -> list[LatencyConfig]:
        """Return one family's configurations: per mode the unpruned model, then the pruned ones."""
        return [config for mode in self.modes for config in self._of_mode(family, mode)]

    def _of_mode(self, family: str, mode: str) -> list[LatencyConfig]:
        full = LatencyConfig(family, "full", 1.0, mode, quantization=self.quantization)
        if full.is_baseline:
            # transformers has no pi0.5 and no SmolVLA.
            return [full] if family in BASELINES else []
        pruned = [
            replace(full, method=method, keep_ratio=ratio)
            for method in self.methods
            for ratio in self.keep_ratios
            if ratio < 1.0 and method != "full"
        ]
        drafts = [draft for draft in self.drafts if draft != "off" and family == "openvla"]
        drafted = [
            replace(config, draft=draft, still=still)
            for draft in drafts
            for config in (full, *pruned)
            for still in (False, True)
        ]
        return [full, *pruned, *drafted]


@dataclass(frozen=True)
class Preset:
    """Defaults of the command's options. time_limit: seconds for all families together."""

    size: str
    device: str
    dtype: str
    keep_ratios: tuple[float, ...]
    methods: tuple[str, ...]
    modes: tuple[str, ...]
    rounds: int
    repeats: int
    time_limit: float
    drafts: tuple[str, ...] = ("off",)


RATIOS = (1.0, 0.5, 0.25, 0.125)
PRESETS = {
    "cpu": Preset(
        size="small",
        device="cpu",
        dtype="float32",
        keep_ratios=RATIOS,
        methods=("vla_pruner",),
        modes=("eager", "transformers_eager"),
        rounds=20,
        repeats=1,
        time_limit=210.0,
    ),
    "gpu": Preset(
        size="full",
        device="cuda",
        dtype="bfloat16",
        keep_ratios=RATIOS,
        methods=("vla_pruner", "fastv"),
        modes=("eager", "graph", *BASELINE_MODES),
        rounds=10,
        repeats=5,
        time_limit=360.0,
        drafts=("off", "linear"),
    ),
}
