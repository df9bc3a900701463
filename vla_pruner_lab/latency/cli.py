"""Latency of pruned policies, measured here or predicted for other hardware.

    python -m vla_pruner_lab.latency --preset cpu --json out.json --markdown out.md
    python -m vla_pruner_lab.latency --preset gpu --dry-run
    python -m vla_pruner_lab.latency --predict orin rtx4090

Needs neither ROS nor a network nor a checkpoint: weights are random and made on the device.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from vla_pruner_lab.common import machine, markdown
from vla_pruner_lab.common.machine import Rates
from vla_pruner_lab.common.program import lab_program
from vla_pruner_lab.latency import predictions
from vla_pruner_lab.latency import report as benchmark_report
from vla_pruner_lab.latency.configs import MODES, PRESETS, Grid
from vla_pruner_lab.latency.model_shapes import SHAPES, SIZES
from vla_pruner_lab.latency.models import build
from vla_pruner_lab.latency.records import LatencyRecord, make_records
from vla_pruner_lab.latency.roofline import PRECISIONS
from vla_pruner_lab.latency.run import measure
from vla_pruner_ros.models.execution.config import DRAFTS, QUANTIZATIONS
from vla_pruner_ros.models.loading import DTYPES
from vla_pruner_ros.pruning.config import METHOD_NAMES

PROGRAM = lab_program("latency", __doc__, "--preset cpu", "--predict orin rtx4090")
MODULE = "vla_pruner_lab.latency"
FAMILIES = predictions.FAMILIES


@dataclass
class Results:
    """Results measured so far."""

    metadata: dict[str, str]
    rates: dict[str, Rates]
    records: list[LatencyRecord]

    def write(self, options: argparse.Namespace) -> str:
        """Write the requested files; return the page."""
        chart = options.chart.name if options.chart else ""
        page = benchmark_report.page(self.metadata, self.rates, self.records, chart)
        if options.chart:
            markdown.write(options.chart, benchmark_report.speed_chart(self.records))
        if options.markdown:
            markdown.write(options.markdown, page)
        if options.json:
            benchmark_report.write_json(options.json, self.metadata, self.rates, self.records)
        return page


@PROGRAM.main
def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.predict:
        command = f"python -m {MODULE} {shlex.join(arguments)}"
        page = predictions.page(options.predict, command, options.chart and options.chart.name)
        if options.chart:
            markdown.write(options.chart, predictions.latency_chart(options.predict))
        if options.markdown:
            markdown.write(options.markdown, page)
        print(page)
        return 0
    if options.report:
        print(Results(*benchmark_report.read_json(options.report)).write(options))
        return 0
    grid = make_grid(options)
    if options.dry_run:
        print(dry_run(grid, options))
        return 0
    torch.set_num_threads(options.threads)
    results = run(grid, options)
    return 0 if all(not record.error for record in results.records) else 1


def run(grid: Grid, options: argparse.Namespace) -> Results:
    """Measure one family after another; files are written after each, the page is printed at the
    end.
    """
    device = torch.device(options.device)
    metadata = machine.metadata(MODULE, device)
    metadata["steps"] = f"at most {options.rounds} rounds of {options.repeats}, after warming up"
    results, memory = Results(metadata, {}, []), machine.PeakMemory(device)
    ends = time.monotonic() + options.time_limit
    for number, family in enumerate(grid.families):
        share = (ends - time.monotonic()) / (len(grid.families) - number)
        run_family(grid, family, options, results, memory, time.monotonic() + share)
        page = results.write(options)
    print(page)
    return results


def run_family(
    grid: Grid,
    family: str,
    options: argparse.Namespace,
    results: Results,
    memory: machine.PeakMemory,
    ends: float,
) -> None:
    """Measure a family and add to the results; its weights are freed on return."""
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    shape = SHAPES[family, options.size]
    rates = machine.measure_rates(device, dtype)
    model = build(shape, device, dtype)
    memory.weights_are_there()
    configs = grid.configs(family)
    samples = measure(model, configs, options.rounds, options.repeats, memory, ends)
    del model
    machine.release_memory(device)
    again = machine.measure_rates(device, dtype)  # a machine that was busy at first is not now
    results.rates[family] = Rates(max(rates.flops, again.flops), max(rates.bytes, again.bytes))
    results.records += make_records(
        shape, samples, results.rates[family], options.device, options.dtype
    )


def dry_run(grid: Grid, options: argparse.Namespace) -> str:
    """List the configurations with the time and memory that the hardware's roofline allows."""
    hardware = predictions.HARDWARE[options.hardware]
    precision = PRECISIONS[options.dtype if grid.quantization == "none" else grid.quantization]
    rows, seconds = [], 0.0
    for family in grid.families:
        shape = SHAPES[family, options.size]
        for config in grid.configs(family):
            one = predictions.predict(shape, precision, config.keep_ratio, hardware.rates)
            seconds += (config.warmup + options.rounds * options.repeats) * one.seconds
            rows.append([
                family, config.method, f"{config.keep_ratio:g}", config.how,
                f"{1e3 * one.seconds:.3g}", f"{one.weight_gb:.1f}",
            ])  # fmt: skip
    header = ("family", "method", "keep", "mode", "at least ms", "weights GB")
    steps = options.rounds * options.repeats
    summary = (
        f"{len(rows)} configurations of {steps} steps, at least {seconds:.0f} s on "
        f"{hardware.label} by roofline (prediction); the last round begins before "
        f"{options.time_limit:g} s."
    )
    return "\n".join([*markdown.markdown_table(header, rows), "", summary])


def make_grid(options: argparse.Namespace) -> Grid:
    """Return the combinations that the command line asks to measure."""
    return Grid(
        tuple(options.families),
        tuple(options.keep_ratios),
        tuple(options.methods),
        tuple(options.modes),
        tuple(options.drafts),
        options.quantization,
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse options, with the preset's values as defaults; exit with a message on invalid ones."""
    parser = _parser()
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    for field in fields(preset):
        if getattr(options, field.name) is None:
            setattr(options, field.name, getattr(preset, field.name))
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if min(options.rounds, options.repeats, options.threads) < 1 or options.time_limit <= 0:
        parser.error("--rounds, --repeats and --threads must be at least 1, --time-limit above 0")
    if not all(0.0 < ratio <= 1.0 for ratio in options.keep_ratios):
        parser.error("--keep-ratios must be above 0 and at most 1")
    if options.report and options.json:
        parser.error("--report reads what --json wrote: give one of them")
    runs = not (options.predict or options.dry_run or options.report)
    if runs and options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device: use --device cpu, --dry-run or --predict")
    if runs and options.device == "cpu" and "graph" in options.modes:
        parser.error("mode graph needs a CUDA device: use --modes eager transformers_eager")


def _parser() -> argparse.ArgumentParser:
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--preset", choices=tuple(PRESETS), default="cpu", help="default: cpu")
    add("--predict", nargs="+", choices=tuple(predictions.HARDWARE), help="predict, do not run")
    add(
        "--dry-run",
        action="store_true",
        help="list the configurations with the least they will take",
    )
    add("--hardware", choices=tuple(predictions.HARDWARE), default="h200", help="for --dry-run")
    add("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    add("--size", choices=SIZES)
    add("--keep-ratios", nargs="+", type=float)
    add("--methods", nargs="+", choices=METHOD_NAMES)
    add("--modes", nargs="+", choices=MODES)
    add("--drafts", nargs="+", choices=DRAFTS, help="for families that decode token by token")
    add("--quantization", choices=QUANTIZATIONS, default="none", help="of the decoder's weights")
    add("--device", choices=("cpu", "cuda"))
    add("--dtype", choices=tuple(DTYPES))
    add("--threads", type=int, default=2, help="CPU threads (default: 2)")
    add("--rounds", type=int, help="times that every configuration has its turn")
    add("--repeats", type=int, help="steps in a turn")
    add("--time-limit", type=float, help="seconds after which no further round begins")
    parser.add_output("--json", help="write metadata, rates and records to this file")
    parser.add_output("--markdown", help="also write the page to this file")
    parser.add_output("--chart", help="also draw it to this SVG file, next to the page")
    add("--report", type=Path, help="do not run: read this --json of earlier")
    return parser


if __name__ == "__main__":
    sys.exit(main())
