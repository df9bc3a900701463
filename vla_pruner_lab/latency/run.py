"""Measurement of one family, its configurations in turns: a busy machine affects all alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from vla_pruner_lab.common.machine import PeakMemory, synchronize
from vla_pruner_lab.latency.baseline import make_baseline
from vla_pruner_lab.latency.configs import LatencyConfig
from vla_pruner_lab.latency.models import Model, observation
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig

SCENES = 3
"""Number of observations, used in turn."""


@dataclass
class Samples:
    """Measurements of one configuration. rounds: seconds of each step, by round."""

    config: LatencyConfig
    rounds: list[list[float]] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    tokens_kept: int = 0
    accepted_tokens: list[int] = field(default_factory=list)
    peak_mb: float = float("nan")
    pool_mb: float = 0.0
    error: str = ""


@dataclass
class _Running:
    """A configuration with its policy, past warm-up."""

    samples: Samples
    policy: PrunedPolicy
    held_mb: float
    """Memory the policy itself holds, on CUDA."""


def measure(
    model: Model,
    configs: list[LatencyConfig],
    rounds: int,
    repeats: int,
    memory: PeakMemory,
    ends: float,
) -> list[Samples]:
    """Time every configuration once a round. One that fails stores its error and drops out.

    memory: started before the model was built. ends: time.monotonic() after which no further round
    begins; the first always does.
    """
    scenes = [observation(model.shape, seed) for seed in range(SCENES)]
    samples = [Samples(config) for config in configs]
    with tqdm(total=len(configs) * (rounds + 1), unit="step", desc=model.shape.family) as bar:
        running = list(_warm(model, samples, scenes, memory, bar))
        for number in range(rounds):
            if number and time.monotonic() > ends:
                break
            for one in running:
                bar.set_postfix_str(one.samples.config.label, refresh=False)
                _guarded(one.samples, lambda one=one: _one_round(one, scenes, repeats, memory))
                bar.update()
            running = [one for one in running if not one.samples.error]
    return samples


def _warm(
    model: Model,
    samples: list[Samples],
    scenes: list[Observation],
    memory: PeakMemory,
    bar: tqdm,
) -> Iterator[_Running]:
    for one in samples:
        made: list[_Running] = []
        _guarded(one, lambda one=one, made=made: made.append(_start(model, one, scenes, memory)))
        bar.update()
        yield from made


def _start(
    model: Model, samples: Samples, scenes: list[Observation], memory: PeakMemory
) -> _Running:
    allocated, reserved = memory.allocated(), memory.reserved()
    policy = make_policy(model, samples.config)
    for step in range(samples.config.warmup):
        policy.act(_scene(samples.config, scenes, step))
    if samples.config.mode == "graph":
        samples.pool_mb = max(0.0, memory.reserved() - reserved)
    return _Running(samples, policy, memory.allocated() - allocated)


def make_policy(model: Model, config: LatencyConfig) -> PrunedPolicy:
    """Make the policy of a configuration."""
    if config.is_baseline:
        return make_baseline(model, config.mode.removeprefix("transformers_"))
    policy = model.make_policy(PruningConfig(method=config.method, keep_ratio=config.keep_ratio))
    policy.set_execution(config.execution)
    return policy


def _one_round(one: _Running, scenes: list[Observation], repeats: int, memory: PeakMemory) -> None:
    samples, times = one.samples, []
    memory.restart()
    for number in range(repeats):
        scene = _scene(samples.config, scenes, len(samples.rounds) * repeats + number)
        synchronize(memory.device)
        start = time.perf_counter()
        report = one.policy.act(scene).pruning
        times.append(time.perf_counter() - start)
        samples.stages.append(report.timings)
        samples.accepted_tokens.append(report.accepted_tokens)
        samples.tokens_kept = report.tokens_kept
    samples.rounds.append(times)
    peak = memory.peak(one.held_mb)
    samples.peak_mb = peak if len(samples.rounds) == 1 else max(samples.peak_mb, peak)


def _scene(config: LatencyConfig, scenes: list[Observation], step: int) -> Observation:
    return scenes[0 if config.still else step % SCENES]


def _guarded(samples: Samples, run) -> None:
    """Run one configuration; its failure (memory, a failed capture) must not end the others."""
    try:
        run()
    except Exception as error:
        samples.error = f"{type(error).__name__}: {error}".splitlines()[0]
        tqdm.write(f"{samples.config.label} failed: {samples.error}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
