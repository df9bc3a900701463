"""Least time of a step on a device: each layer waits for its arithmetic or for its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.latency.model_work import STAGES, Work


@dataclass(frozen=True)
class Precision:
    """Bytes of a number. decoder_weight: of a decoder's weight, smaller where it is quantised.
    arithmetic: how much faster than in 16 bits the decoder's products are."""

    name: str
    number: float
    decoder_weight: float
    arithmetic: float = 1.0

    def bytes_of(self, work: Work) -> float:
        """Return the bytes of a work: weights once, keys and values once."""
        weight = self.decoder_weight if work.decoder else self.number
        return work.weights * weight + work.cached * self.number


GROUP = 128
"""Weights that share a 16-bit scale in int4 (torchao's default); int8 has one scale a row."""
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", 4, 4),
        Precision("bfloat16", 2, 2),
        Precision("float16", 2, 2),
        Precision("int8", 2, 1),
        Precision("fp8", 2, 1, arithmetic=2.0),
        Precision("int4", 2, 0.5 + 2 / GROUP),
    )
}
"""int8 and int4: weight-only in the decoder, all arithmetic in 16 bits. fp8: the decoder's weights
and products in 8 bits, for predictions alone: this package does not run it."""


@dataclass(frozen=True)
class Bound:
    """Seconds of one stage, and the share of them that bytes bind."""

    seconds: float
    by_bytes: float

    @property
    def binds(self) -> str:
        """compute or bytes, whichever binds more of the time."""
        return "bytes" if self.by_bytes > 0.5 else "compute"


def stage_bound(works: list[Work], precision: Precision, rates: Rates) -> Bound:
    """Sum over works the longer of arithmetic and bytes."""
    seconds = bound_by_bytes = 0.0
    for work in works:
        faster = precision.arithmetic if work.decoder else 1.0
        compute = work.flops / (rates.flops * faster)
        memory = precision.bytes_of(work) / rates.bytes
        seconds += max(compute, memory)
        bound_by_bytes += memory if memory > compute else 0.0
    return Bound(seconds, bound_by_bytes / seconds if seconds else 0.0)


def bounds(works: list[Work], precision: Precision, rates: Rates) -> dict[str, Bound]:
    """Return the bounds by stage, in order; stages without work are left out."""
    stages = {stage: [work for work in works if work.stage == stage] for stage in STAGES}
    return {stage: stage_bound(part, precision, rates) for stage, part in stages.items() if part}
