"""Records of measured samples, one a configuration, with ratios to their references."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.latency.configs import LatencyConfig
from vla_pruner_lab.latency.model_shapes import ModelShape
from vla_pruner_lab.latency.model_work import MODEL_STAGES, flop_speedup, model_flops, step_work
from vla_pruner_lab.latency.roofline import PRECISIONS, bounds
from vla_pruner_lab.latency.run import Samples


@dataclass(frozen=True)
class LatencyRecord:
    """One configuration, measured. Ratios are medians over rounds; None without a reference.

    stages_ms: medians of the policy's own clock (selection lies within prefill).
    speedup_vs_full: against the unpruned one of the same mode (of mode eager for transformers).
    speedup_of_fastest: the same of the two fastest steps, which depend least on what else the
        machine does.
    flop_speedup: what the model's FLOPs allow; fraction_of_flop_speedup: the share that arrived,
        selection included. bound_*: the same against the roofline, which knows bytes as well.
    roofline_ms: least time by the measured rates; fraction_of_roofline: that over median_ms.
    peak_memory_mb: weights, buffers and temporaries; graph_pool_mb: held for captured graphs.
    """

    family: str
    size: str
    method: str
    keep_ratio: float
    tokens_kept: int
    mode: str
    draft: str
    quantization: str
    still: bool
    how: str
    device: str
    dtype: str
    median_ms: float | None
    p95_ms: float | None
    fastest_ms: float | None
    stages_ms: dict[str, float]
    selection_ms: float
    speedup_vs_full: float | None
    speedup_of_fastest: float | None
    flop_speedup: float
    fraction_of_flop_speedup: float | None
    bound_speedup: float
    fraction_of_bound_speedup: float | None
    speedup_vs_transformers_eager: float | None
    gflop: float
    roofline_ms: float
    fraction_of_roofline: float | None
    accepted_tokens: float
    peak_memory_mb: float | None
    graph_pool_mb: float
    samples: int
    error: str = ""


def make_records(
    shape: ModelShape, samples: list[Samples], rates: Rates, device: str, dtype: str
) -> list[LatencyRecord]:
    """Return one record a configuration, in order, failed ones included."""
    by_config = {one.config: one for one in samples}
    return [_record(shape, one, by_config, rates, device, dtype) for one in samples]


def _record(
    shape: ModelShape,
    samples: Samples,
    by_config: dict[LatencyConfig, Samples],
    rates: Rates,
    device: str,
    dtype: str,
) -> LatencyRecord:
    config = samples.config
    times, fastest = _times(samples), _fastest(samples)
    stages = _median_stages(samples.stages)
    speedup = _ratio(by_config.get(config.full), samples)
    allowed = flop_speedup(shape, config.pruning(shape))
    roofline, bound = _roofline(shape, config, rates, dtype)
    typical = 1e3 * median(times) if times else None
    return LatencyRecord(
        **asdict(config),
        how=config.how,
        size=shape.size,
        tokens_kept=samples.tokens_kept,
        device=device,
        dtype=dtype,
        median_ms=typical,
        p95_ms=1e3 * float(np.percentile(times, 95)) if times else None,
        fastest_ms=1e3 * fastest if times else None,
        stages_ms=stages,
        selection_ms=stages.get("selection", 0.0),
        speedup_vs_full=speedup,
        speedup_of_fastest=_over(_fastest(by_config.get(config.full)), fastest),
        flop_speedup=allowed,
        fraction_of_flop_speedup=_over(speedup, allowed),
        bound_speedup=bound,
        fraction_of_bound_speedup=_over(speedup, bound),
        speedup_vs_transformers_eager=_ratio(_plain(config, by_config), samples),
        gflop=model_flops(step_work(shape, config.pruning(shape))) / 1e9,
        roofline_ms=1e3 * roofline,
        fraction_of_roofline=_over(1e3 * roofline, typical),
        accepted_tokens=float(np.mean(samples.accepted_tokens or [0])),
        peak_memory_mb=samples.peak_mb if np.isfinite(samples.peak_mb) else None,
        graph_pool_mb=samples.pool_mb,
        samples=len(times),
        error=samples.error,
    )


def _plain(config: LatencyConfig, by_config: dict[LatencyConfig, Samples]) -> Samples | None:
    found = (s for c, s in by_config.items() if c.mode == "transformers_eager")
    return next((s for s in found if s.config.family == config.family), None)


def _ratio(slow: Samples | None, fast: Samples) -> float | None:
    """Compute how many times as long `slow` takes: the median over rounds that both finished."""
    if slow is None:
        return None
    rounds = zip(slow.rounds, fast.rounds, strict=False)
    ratios = [median(a) / median(b) for a, b in rounds]
    return median(ratios) if ratios else None


def _times(samples: Samples) -> list[float]:
    return [seconds for one in samples.rounds for seconds in one]


def _fastest(samples: Samples | None) -> float | None:
    return min(_times(samples), default=None) if samples else None


def _over(value: float | None, divisor: float | None) -> float | None:
    return None if value is None or divisor is None else value / divisor


def _median_stages(steps: list[dict[str, float]]) -> dict[str, float]:
    """Milliseconds, in the order of the steps' own."""
    names = dict.fromkeys(name for step in steps for name in step)
    return {name: 1e3 * median(step.get(name, 0.0) for step in steps) for name in names}


def _roofline(
    shape: ModelShape, config: LatencyConfig, rates: Rates, dtype: str
) -> tuple[float, float]:
    """Return the least seconds, and the speed-up over the unpruned configuration they allow."""
    name = dtype if config.quantization == "none" else config.quantization
    least, full = (
        least_seconds(shape, one, PRECISIONS[name], rates) for one in (config, config.full)
    )
    return least, full / least


def least_seconds(shape: ModelShape, config: LatencyConfig, precision, rates: Rates) -> float:
    """Sum the model's own stages, each at its roofline (s)."""
    found = bounds(step_work(shape, config.pruning(shape)), precision, rates)
    return sum(found[stage].seconds for stage in MODEL_STAGES if stage in found)
