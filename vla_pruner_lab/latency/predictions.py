"""Latency by roofline from datasheet rates, for hardware that is not at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vla_pruner_lab.common.charts import PALETTE, Axis, Curve, Panel, chart_svg, log_marks
from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.latency.configs import RATIOS, LatencyConfig
from vla_pruner_lab.latency.model_shapes import SHAPES, ModelShape
from vla_pruner_lab.latency.model_work import MODEL_STAGES, step_work, weights_once
from vla_pruner_lab.latency.roofline import PRECISIONS, Bound, Precision, bounds


@dataclass(frozen=True)
class Hardware:
    """rates: of dense 16-bit matrix products, and of memory. memory_gb: what it has."""

    label: str
    rates: Rates
    memory_gb: float
    source: str
    fp8: bool = False


HARDWARE = {
    "orin": Hardware(
        "Jetson AGX Orin 64 GB",
        Rates(42.5e12, 204.8e9),
        64,
        "NVIDIA Jetson AGX Orin Series data sheet: 85 TFLOP/s FP16 sparse on the GPU's tensor "
        "cores, half of it dense; 204.8 GB/s",
    ),
    "rtx4090": Hardware(
        "GeForce RTX 4090",
        Rates(165.2e12, 1008e9),
        24,
        "NVIDIA Ada GPU architecture white paper: 165.2 TFLOP/s FP16 with FP32 accumulation, "
        "dense; 1008 GB/s",
    ),
    "thor": Hardware(
        "Jetson AGX Thor",
        Rates(258e12, 273e9),
        128,
        "RidgeRun's table of the T5000: 2070 TFLOP/s FP4 sparse, 1035 FP8, 273 GB/s "
        "(developer.ridgerun.com); an eighth of the first in 16 bits dense",
        fp8=True,
    ),
    "rtx5090": Hardware(
        "GeForce RTX 5090",
        Rates(209.5e12, 1792e9),
        32,
        "Published tables (spheron.network, Linux Format, May 2025): 838 TFLOP/s FP16 sparse, "
        "1792 GB/s; taken here: a quarter of the first, because products are dense and GeForce "
        "accumulates in FP32 at half the rate (that half was not found in a source at hand)",
        fp8=True,
    ),
    "h100": Hardware(
        "H100 SXM",
        Rates(790e12, 3.0e12),
        80,
        "989 TFLOP/s BF16 dense and 3.35 TB/s at best (glennklockwood.com/garden/processors/h100, "
        "from NVIDIA's white paper); taken here: 790 and 3.0, about 80 and 90 % of that",
        fp8=True,
    ),
    "h200": Hardware(
        "H200 SXM",
        Rates(790e12, 4.3e12),
        141,
        "NVIDIA H200 datasheet: 989 TFLOP/s BF16 dense and 4.8 TB/s at best; taken here: 790 and "
        "4.3, about 80 and 90 % of that",
        fp8=True,
    ),
}
FAMILIES = ("openvla", "openvla_oft", "pi0", "pi05", "smolvla")
PREDICTED = {
    **{family: (family, "full") for family in FAMILIES},
    "pi05, 3 cameras": ("pi05", "full_3_cameras"),
}
"""Row label -> shape."""
PREDICTED_PRECISIONS = ("bfloat16", "int8", "int4")
SHOWN = {"vision": ("vision", "projector"), "prefill": ("prefill",), "decode": ("decode", "head")}
HEADER = ("family", "weights", "GB", "keep", "ms", "× keep 1", "per second", *SHOWN)
NOTE = """\
**Prediction, not measurement.** Each layer takes the longer of two times: that of its FLOPs, and
that of its bytes (weights, keys and values), at the rates named. Layers run one after another.
Launches, preprocessing and the choice of tokens cost nothing. Real times lie above; ratios between
rows hold better than times.
16-bit stands for bfloat16 and float16 alike; int8 and int4 are weight-only in the decoder, with
16-bit arithmetic. Per stage: milliseconds and what binds most of it. GB: weights alone; what does
not fit into the memory is marked. fp8: the decoder's weights and products in 8 bits at twice the
rate, which this package does not run. Full-size shapes: OpenVLA-7B with one camera and seven action
tokens, OpenVLA-OFT with two cameras and eight actions a pass, pi0 with three cameras, pi0.5 with
two and three, SmolVLA with three; ten flow steps and 50 actions. Lossless drafting is not
counted."""


@dataclass(frozen=True)
class Prediction:
    """One row: seconds of the whole step and bounds by stage (model_work.STAGES)."""

    family: str
    precision: str
    keep_ratio: float
    stages: dict[str, Bound]
    weight_gb: float

    @property
    def seconds(self) -> float:
        """Time of one step (s)."""
        return sum(bound.seconds for bound in self.stages.values())


def predict(shape: ModelShape, precision: Precision, keep_ratio: float, rates: Rates) -> Prediction:
    """Predict the latency by roofline; the selection costs nothing."""
    config = LatencyConfig(shape.family, "vla_pruner", keep_ratio, "graph")
    found = bounds(step_work(shape, config.pruning(shape)), precision, rates)
    stages = {stage: found[stage] for stage in MODEL_STAGES if stage in found}
    return Prediction(
        shape.family, precision.name, keep_ratio, stages, weight_gigabytes(shape, precision)
    )


def weight_gigabytes(shape: ModelShape, precision: Precision) -> float:
    """Return the size of all weights (GB); a precision below 16 bits holds for the decoder."""
    held = [replace(work, cached=0) for work in weights_once(shape)]
    return sum(precision.bytes_of(work) for work in held) / 1e9


def latency_chart(names: list[str]) -> str:
    """Return a panel for each piece of hardware: latency in 16 bits against the tokens kept.

    A family whose weights do not fit into the memory is left out there.
    """
    seconds = {
        name: {label: _latencies(shape, HARDWARE[name]) for label, shape in PREDICTED.items()}
        for name in names
    }
    drawn = [value for of in seconds.values() for values in of.values() for value in values]
    low, high = 1e3 * min(drawn), 1e3 * max(drawn)
    x = Axis("visual tokens kept", marks=[(math.log2(r), f"{r:g}") for r in RATIOS])
    y = Axis("ms", (math.log10(0.8 * low), math.log10(1.2 * high)), log_marks(low, high))
    panels = [
        Panel(HARDWARE[name].label, _latency_curves(of), x, y) for name, of in seconds.items()
    ]
    return chart_svg(panels, columns=2, width=920, height=260)


def _latencies(shape: tuple[str, str], hardware: Hardware) -> list[float]:
    precision = PRECISIONS["bfloat16"]
    if weight_gigabytes(SHAPES[shape], precision) >= hardware.memory_gb:
        return []
    return [predict(SHAPES[shape], precision, r, hardware.rates).seconds for r in RATIOS]


def _latency_curves(seconds: dict[str, list[float]]) -> list[Curve]:
    return [
        Curve(
            label,
            [math.log2(ratio) for ratio, _ in zip(RATIOS, values, strict=False)],
            [math.log10(1e3 * value) for value in values],
            PALETTE[place % len(PALETTE)],
        )
        for place, (label, values) in enumerate(seconds.items())
    ]


def page(names: list[str], command: str, chart: str | None = None) -> str:
    """Return one table for each piece of hardware; chart: file name of latency_chart."""
    lines = ["# Predicted latency", "", NOTE, "", f"Command: `{command}`"]
    if chart:
        lines += ["", f"![Predicted latency against visual tokens kept, 16-bit]({chart})"]
    for name in names:
        hardware = HARDWARE[name]
        lines += ["", f"## {hardware.label} (prediction)", "", hardware.source + ".", ""]
        lines += markdown_table(HEADER, _rows(hardware))
    return "\n".join(lines) + "\n"


def _rows(hardware: Hardware) -> list[list[str]]:
    rows = []
    fp8 = ("fp8",) if hardware.fp8 else ()
    for label, shape in PREDICTED.items():
        for name in (*PREDICTED_PRECISIONS, *fp8):
            made = [
                predict(SHAPES[shape], PRECISIONS[name], ratio, hardware.rates) for ratio in RATIOS
            ]
            rows += [[label, *_row(one, made[0], hardware)[1:]] for one in made]
    return rows


def _row(one: Prediction, full: Prediction, hardware: Hardware) -> list[str]:
    fits = one.weight_gb < hardware.memory_gb
    return [
        one.family,
        "16-bit" if one.precision == "bfloat16" else one.precision,
        f"{one.weight_gb:.1f}" + ("" if fits else " (does not fit)"),
        f"{one.keep_ratio:g}",
        f"{1e3 * one.seconds:.3g}",
        f"{full.seconds / one.seconds:.2f}",
        f"{1 / one.seconds:.1f}",
        *(_stage([one.stages[s] for s in parts if s in one.stages]) for parts in SHOWN.values()),
    ]


def _stage(parts: list[Bound]) -> str:
    if not parts:
        return "-"
    seconds = sum(part.seconds for part in parts)
    by_bytes = sum(part.seconds * part.by_bytes for part in parts) / seconds
    return f"{1e3 * seconds:.3g} ({Bound(seconds, by_bytes).binds})"
