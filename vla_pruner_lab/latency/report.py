"""Report of records: a Markdown page and a JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.common.markdown import fact_lines, markdown_table, write
from vla_pruner_lab.latency.records import LatencyRecord

STAGES = ("preprocess", "vision", "prefill", "selection", "decode")
HEADER = (
    "selector", "keep", "mode", "median", "p95", "fastest", *STAGES,
    "× full", "of the fastest", "FLOPs allow", "share", "bytes too", "share",
    "× maps", "of roofline", "MB",
)  # fmt: skip
LEGEND = """\
Milliseconds; selection lies within prefill. × full: times as fast as the unpruned model in the same
mode; of the fastest: the same of each cell's fastest step, which depends least on other work of the
machine; FLOPs allow: what the model's FLOPs permit, choosing the tokens for free; bytes too: what
the roofline permits, where a layer waits for its FLOPs or for reading its weights; share: the part
of either that arrived, selection and preprocessing included. × maps: times as fast as transformers
unpruned with eager attention and the maps of every layer. Of roofline: the least time by the rates
above over the median. MB: weights, buffers and temporaries at most. Random weights; all cells took
turns, ratios are medians over the rounds."""


def page(facts: dict[str, str], rates: dict[str, Rates], records: list[LatencyRecord]) -> str:
    """Return the page: facts, then one table a family."""
    lines = ["# Latency", "", *fact_lines(facts)]
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
        f"Failed: {r.selector} {r.keep_ratio:g} {r.mode}: {r.error}" for r in records if r.error
    ]
    rows = [_row(record) for record in records if record.median_ms is not None]
    return [title, "", measured, "", *markdown_table(HEADER, rows), *failed]


def _row(record: LatencyRecord) -> list[str]:
    stages = [f"{record.stages_ms.get(name, 0.0):.4g}" for name in STAGES]
    memory = _number(record.peak_memory_mb, "{:.0f}")
    if record.graph_pool_mb:
        memory += f" + {record.graph_pool_mb:.0f}"
    return [
        record.selector,
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


def write_json(
    path: Path, facts: dict[str, str], rates: dict[str, Rates], records: list[LatencyRecord]
) -> None:
    """Write facts, rates by family (FLOP/s and bytes/s) and records."""
    content = {
        "facts": facts,
        "rates": {family: asdict(rate) for family, rate in rates.items()},
        "records": [asdict(record) for record in records],
    }
    write(path, json.dumps(content, indent=1) + "\n")
