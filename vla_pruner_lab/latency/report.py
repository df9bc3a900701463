"""Report of records: a Markdown page and a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vla_pruner_lab.common.charts import PALETTE, Axis, Curve, Panel, chart_svg
from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.common.markdown import markdown_table, metadata_lines, write
from vla_pruner_lab.latency.records import LatencyRecord

SCHEMA = "vla_pruner_lab.latency/1"
STAGES = ("preprocess", "vision", "prefill", "selection", "decode")
HEADER = (
    "method", "keep", "mode", "median", "p95", "fastest", *STAGES,
    "× full", "of the fastest", "FLOPs allow", "share", "bytes too", "share",
    "× maps", "of roofline", "MB",
)  # fmt: skip
LEGEND = """\
| column | meaning |
| --- | --- |
| median, p95, fastest, stages | milliseconds; selection lies within prefill |
| × full | speed relative to the unpruned model in the same mode |
| of the fastest | the same of each configuration's fastest step, least disturbed by other work |
| FLOPs allow | what the model's FLOPs permit; choosing the tokens costs nothing |
| bytes too | what the roofline permits: a layer waits for its FLOPs or for its weights |
| share | measured part of the column before it, selection and preprocessing included |
| × maps | speed relative to unpruned transformers, eager attention, maps of every layer |
| of roofline | least time by the rates above, divided by the median |
| MB | weights, buffers and temporaries at most |

Weights are random. All configurations took turns; ratios are medians over the rounds."""

CHART_NOTE = """\
Solid: relative to the unpruned model in the same mode. Dashed: relative to unpruned transformers
with maps of every layer. Hollow: a gain within the spread of the unpruned steps, that is their 95th
percentile above their median."""


def page(
    metadata: dict[str, str],
    rates: dict[str, Rates],
    records: list[LatencyRecord],
    chart: str = "",
) -> str:
    """Return the page: metadata, then one table a family; chart: file name of speed_chart."""
    lines = ["# Latency", "", *metadata_lines(metadata)]
    if chart:
        lines += ["", f"![Speed against visual tokens kept]({chart})", "", CHART_NOTE]
    for family in dict.fromkeys(record.family for record in records):
        of_family = [record for record in records if record.family == family]
        lines += ["", *_family(of_family, rates[family])]
    return "\n".join([*lines, "", LEGEND]) + "\n"


def _family(records: list[LatencyRecord], rates: Rates) -> list[str]:
    first = records[0]
    title = f"## {first.family}, {first.size}, {first.dtype} on {first.device}"
    if first.quantization != "none":
        title += f", decoder weights {first.quantization}"
    measured = (
        f"Measured in this run: {rates.flops / 1e12:.3g} TFLOP/s in matrix products, "
        f"{rates.bytes / 1e9:.3g} GB/s. Unpruned: {records[0].gflop:.1f} GFLOP."
    )
    failed = [
        f"Failed: {r.method} {r.keep_ratio:g} {r.mode}: {r.error}" for r in records if r.error
    ]
    rows = [_row(record) for record in records if record.median_ms is not None]
    return [title, "", measured, "", *markdown_table(HEADER, rows), *failed]


def _row(record: LatencyRecord) -> list[str]:
    stages = [f"{record.stages_ms.get(name, 0.0):.4g}" for name in STAGES]
    memory = _number(record.peak_memory_mb, "{:.0f}")
    if record.graph_pool_mb:
        memory += f" + {record.graph_pool_mb:.0f}"
    return [
        record.method,
        f"{record.keep_ratio:g}",
        record.how,
        _number(record.median_ms, "{:.4g}"),
        _number(record.p95_ms, "{:.4g}"),
        _number(record.fastest_ms, "{:.4g}"),
        *stages,
        _number(record.speedup_vs_full),
        _number(record.speedup_of_fastest),
        f"{record.flop_speedup:.2f}",
        _number(record.fraction_of_flop_speedup, "{:.0%}"),
        f"{record.bound_speedup:.2f}",
        _number(record.fraction_of_bound_speedup, "{:.0%}"),
        _number(record.speedup_vs_transformers_eager),
        _number(record.fraction_of_roofline, "{:.0%}"),
        memory,
    ]


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "-" if value is None else form.format(value)


def speed_chart(records: Sequence[LatencyRecord]) -> str:
    """Return speed against the share of tokens kept as an SVG document, a colour a family.

    A point is hollow if the step gained no more than the unpruned step's times spread (their 95th
    percentile above their median).
    """
    curves = []
    for place, family in enumerate(dict.fromkeys(record.family for record in records)):
        own = [r for r in records if r.family == family and r.mode == "eager" and r.median_ms]
        colour = PALETTE[place % len(PALETTE)]
        curves.append(_speed_curve(own, "speedup_vs_full", family, colour))
        if all(r.speedup_vs_transformers_eager for r in own):
            name = f"{family}, to × maps"
            curves.append(_speed_curve(own, "speedup_vs_transformers_eager", name, colour))
    ratios = sorted({ratio for curve in curves for ratio in curve.x})
    x = Axis("share of visual tokens kept", marks=[(r, f"{2**r:g}") for r in ratios])
    top = max(value for curve in curves for value in curve.y)
    marks = [(place / 5, f"{place / 5:g}") for place in range(5, math.floor(5 * top) + 1)]
    y = Axis("× speed", (0.9, 1.03 * top), marks)
    return chart_svg([Panel("", curves, x, y, [(1.0, "")])])


def _speed_curve(records: list[LatencyRecord], ratio: str, name: str, colour: str) -> Curve:
    own = sorted((r for r in records if r.draft == "off"), key=lambda r: r.keep_ratio)
    full = next((r for r in own if r.method == "full"), None)
    spread = full.p95_ms / full.median_ms - 1.0 if full else 0.0
    gains = [getattr(r, ratio) for r in own]
    return Curve(
        name,
        [math.log2(r.keep_ratio) for r in own],
        gains,
        colour,
        dashed=ratio != "speedup_vs_full",
        noise=[abs(gain - 1.0) <= spread for gain in gains],
    )


def write_json(
    path: Path, metadata: dict[str, str], rates: dict[str, Rates], records: list[LatencyRecord]
) -> None:
    """Write metadata, rates by family (FLOP/s and bytes/s) and records."""
    content = {
        "schema": SCHEMA,
        "metadata": metadata,
        "rates": {family: asdict(rate) for family, rate in rates.items()},
        "records": [asdict(record) for record in records],
    }
    write(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> tuple[dict[str, str], dict[str, Rates], list[LatencyRecord]]:
    """Read what write_json wrote."""
    content = json.loads(path.read_text("utf-8"))
    rates = {family: Rates(**rate) for family, rate in content["rates"].items()}
    return content["metadata"], rates, [LatencyRecord(**one) for one in content["records"]]
