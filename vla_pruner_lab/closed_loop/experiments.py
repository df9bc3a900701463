"""Experiments of a closed-loop evaluation, in the order that decides most first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from vla_pruner_lab.rollout.seeds import TRAINING_SEEDS
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.presets import resolve

DECIDING_METHODS = ("vla_pruner", "fastv", "semantic_only", "divprune")
DECIDING_RATIOS = (0.25, 0.125)
VARIED = (
    "preset",
    "temporal_window",
    "temporal_decay",
    "prune_layer",
    "semantic_queries",
    "coverage",
    "camera_budget",
    "action_source",
    "token_recovery",
    "history_fill",
)
"""Fields of PruningConfig that an ablation varies."""


@dataclass(frozen=True)
class ExperimentConfig:
    """One method at one budget, to be tried on every task and seed.

    settings: the varied fields whose values are not PruningConfig's defaults. unpruned_first:
    inferences at the start of an episode that see every token, whatever the method: the ones that
    a method with a history has anyway, as a control for those without.
    """

    method: str
    keep_ratio: float
    settings: tuple[tuple[str, object], ...] = ()
    unpruned_first: int = 0

    def config(self) -> PruningConfig:
        """Return the pruning settings of this experiment."""
        return PruningConfig(method=self.method, keep_ratio=self.keep_ratio, **dict(self.settings))

    @property
    def variant(self) -> str:
        """The settings as text, empty for the defaults."""
        first = [("unpruned_first", self.unpruned_first)] if self.unpruned_first else []
        return ", ".join(f"{name} {value}" for name, value in [*self.settings, *first])


@dataclass(frozen=True)
class EpisodeConfig:
    """One attempt; equal tasks and seeds start from equal states, whatever the experiment."""

    experiment: ExperimentConfig
    task: str
    seed: int

    @property
    def key(self) -> tuple:
        """Values by which an episode's record is found again."""
        return (
            self.experiment.method,
            self.experiment.keep_ratio,
            self.experiment.variant,
            self.task,
            self.seed,
        )


def make_experiments(
    methods: Sequence[str],
    keep_ratios: Sequence[float],
    varied: dict[str, Sequence[object]],
    unpruned_first: Sequence[int] = (0,),
    token_reuse: Sequence[str] = (),
) -> list[ExperimentConfig]:
    """Return every method at every ratio with every combination of settings and unpruned_first.

    full runs once, at 1.0: at that ratio every method equals it; and once more for each kind of
    token_reuse. First full, then the deciding methods at the deciding ratios, then the rest as
    given.

    Raises:
        ValueError: a value that PruningConfig refuses, or a negative number of inferences.
    """
    if min(unpruned_first) < 0:
        raise ValueError(f"unpruned_first must be 0 or more inferences, got {min(unpruned_first)}")
    variants = [_not_default(dict(v)) for v in _combinations(varied)]
    experiments = [ExperimentConfig("full", 1.0)] if "full" in methods or 1.0 in keep_ratios else []
    experiments += [ExperimentConfig("full", 1.0, (("token_reuse", kind),)) for kind in token_reuse]
    ratios = [ratio for ratio in keep_ratios if ratio != 1.0]
    for ratio, method, variant, first in itertools.product(
        ratios, methods, variants, unpruned_first
    ):
        if method != "full":
            experiments.append(ExperimentConfig(method, ratio, variant, first))
    for experiment in experiments:
        experiment.config()
    return sorted(dict.fromkeys(experiments), key=_rank)


def make_episodes(
    experiments: Sequence[ExperimentConfig], tasks: Sequence[str], count: int, first_seed: int = 0
) -> Iterator[EpisodeConfig]:
    """Yield `count` episodes of each task for each experiment, experiment after experiment.

    Raises:
        ValueError: seeds that training may have seen.
    """
    if not 0 <= first_seed <= first_seed + count <= TRAINING_SEEDS:
        raise ValueError(
            f"evaluation seeds must lie in 0..{TRAINING_SEEDS - 1}, got "
            f"{first_seed}..{first_seed + count - 1}: those above are for training"
        )
    seeds = range(first_seed, first_seed + count)
    for experiment, task, seed in itertools.product(experiments, tasks, seeds):
        yield EpisodeConfig(experiment, task, seed)


def settings_of(config: PruningConfig) -> dict[str, object]:
    """Return the varied fields of a configuration, defaults included."""
    values = asdict(config)
    return {name: values[name] for name in VARIED}


def _combinations(varied: dict[str, Sequence[object]]) -> Iterator[tuple]:
    named = [[(name, value) for value in values] for name, values in varied.items() if values]
    return itertools.product(*named)


def _not_default(settings: dict[str, object]) -> tuple[tuple[str, object], ...]:
    config = PruningConfig(**settings)
    preset = settings_of(resolve(PruningConfig(preset=config.preset)))
    default = {**preset, "preset": PruningConfig.preset}
    values = settings_of(resolve(config))
    return tuple((name, values[name]) for name in VARIED if values[name] != default[name])


def _rank(experiment: ExperimentConfig) -> int:
    if experiment.method == "full":
        return 0
    decides = experiment.method in DECIDING_METHODS and experiment.keep_ratio in DECIDING_RATIOS
    return 1 if decides and not experiment.variant else 2
