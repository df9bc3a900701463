"""Time of token selection, stage by stage, against token count and budget.

    python -m vla_pruner_lab.microbenchmarks.selection --device cpu --markdown page.md

Runs on the CPU and, if there is one, on the GPU (there each stage is replayed from a CUDA graph,
as a policy runs it). Prints a table and the growth when the token count M or the budget k doubles.
The fastest repeat is compared because it depends least on other work of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from statistics import median

import numpy as np
import torch
from torch import Tensor

from vla_pruner_lab.common.machine import cpu_name
from vla_pruner_lab.common.markdown import metadata_lines
from vla_pruner_lab.common.program import lab_program
from vla_pruner_ros.pruning import diversity_triton
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.diversity import cosine_distances, greedy_max_min, max_min_diversity
from vla_pruner_ros.pruning.presets import resolve
from vla_pruner_ros.pruning.relevance import TemporalRelevance
from vla_pruner_ros.pruning.token_selection import (
    TINY,
    combine,
    select_by_relevance,
    select_with_coverage,
    top_k,
)

PROGRAM = lab_program("microbenchmarks.selection", __doc__, "--device cpu --repeats 50")
SIZES = ((256, 32), (256, 64), (256, 128), (512, 64), (512, 128), (512, 256))
STAGES = {
    "relevance": "update and estimate of the window, w = 3",
    "sets": "top-k of both relevances and their union",
    "distances": "cosine distances of the at most 2k candidates",
    "greedy": "greedy max-min choice of k among them",
    "selection": "combine-then-filter as a whole, without the window",
    "default": "the default preset as a whole: a quarter of k by diversity over all M tokens",
    "diversity": "max-min diversity over all M tokens (DivPrune)",
}


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one stage: the fastest of the repeats, and their median."""

    device: str
    tokens: int
    keep: int
    stage: str
    fastest_ms: float
    median_ms: float


def make_stages(tokens: int, keep: int, dim: int, device: str) -> dict[str, Callable[[], object]]:
    """Return the stages on random inputs: float32 features on a CPU, bfloat16 on a GPU."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    features = torch.randn(tokens, dim, generator=generator).to(device, dtype)
    semantic, action = torch.rand(2, tokens, generator=generator).to(device)
    candidates = features[: min(2 * keep, tokens)].contiguous()
    distances = cosine_distances(candidates)
    coverage = resolve(PruningConfig()).coverage
    relevance = TemporalRelevance()

    def update_relevance() -> Tensor:
        relevance.push(action)
        return relevance.smooth()

    return {
        "relevance": update_relevance,
        "sets": lambda: combine(tokens, top_k(semantic, keep), top_k(action, keep)),
        "distances": lambda: cosine_distances(candidates),
        "greedy": lambda: greedy_max_min(distances, keep),
        "selection": lambda: select_by_relevance(features, semantic, action, keep),
        "default": lambda: select_with_coverage(features, semantic, action, keep, coverage),
        "diversity": lambda: max_min_diversity(features, keep),
    }


def time_on_cpu(run: Callable[[], object], repeats: int) -> list[float]:
    """Measure the milliseconds of each run, after a tenth as many to warm up."""
    for _ in range(max(3, repeats // 10)):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def time_on_gpu(run: Callable[[], object], repeats: int) -> list[float]:
    """Measure the milliseconds that the device takes for each replay of the captured run."""
    side_stream = torch.cuda.Stream()
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def benchmark(device: str, dim: int, repeats: int) -> list[Timing]:
    """Time every stage at every size."""
    measure = time_on_cpu if device == "cpu" else time_on_gpu
    timings = []
    for tokens, keep in SIZES:
        for stage, run in make_stages(tokens, keep, dim, device).items():
            times = measure(run, repeats)
            timings.append(Timing(device, tokens, keep, stage, min(times), median(times)))
    return timings


def machine_metadata(dim: int, repeats: int, load: float) -> dict[str, str]:
    """Return the metadata that makes measurements comparable."""
    metadata = {
        "date": date.today().isoformat(),
        "command": "python -m vla_pruner_lab.microbenchmarks.selection " + shlex.join(sys.argv[1:]),
        "CPU": f"{cpu_name()}, {torch.get_num_threads()} threads used",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}",
        "features": f"{dim} wide, float32 on the CPU, bfloat16 on a GPU",
        "repeats": f"{repeats}; shown: the fastest, in brackets the median",
        "load average before the run": f"{load:.1f}",
    }
    if torch.cuda.is_available():
        form = "fused Triton kernel" if diversity_triton.AVAILABLE else "plain torch"
        metadata["GPU"] = f"{torch.cuda.get_device_name()}, greedy choice as {form}"
    return metadata


def format_markdown(metadata: dict[str, str], timings: list[Timing]) -> str:
    """Return a page: metadata, one table per device, growth."""
    lines = ["# Time of token selection", ""]
    lines += metadata_lines(metadata)
    lines += ["", "Stages:", ""]
    lines += [f"- {name}: {meaning}" for name, meaning in STAGES.items()]
    for device in dict.fromkeys(timing.device for timing in timings):
        of_device = [timing for timing in timings if timing.device == device]
        lines += ["", f"## {device}: milliseconds", "", *_size_table(of_device)]
        lines += ["", f"## {device}: growth", "", *_growth_table(of_device)]
    return "\n".join(lines) + "\n"


def _size_table(timings: list[Timing]) -> list[str]:
    cells = {
        (t.tokens, t.keep, t.stage): f"{t.fastest_ms:.3f} ({t.median_ms:.3f})" for t in timings
    }
    rows = [[str(m), str(k), *(cells[m, k, stage] for stage in STAGES)] for m, k in SIZES]
    return _table(["M", "k", *STAGES], rows)


def _growth_table(timings: list[Timing]) -> list[str]:
    times = {((t.tokens, t.keep), t.stage): t.fastest_ms for t in timings}

    def ratios(small: tuple[int, int], large: tuple[int, int]) -> list[str]:
        return [f"{times[large, s] / max(times[small, s], TINY):.2f}" for s in STAGES]

    doublings = [(a, b) for a in SIZES for b in SIZES if _is_one_doubling(a, b)]
    rows = [[f"M {a[0]} to {b[0]}, k {a[1]} to {b[1]}", *ratios(a, b)] for a, b in doublings]
    return _table(["times as long", *STAGES], rows)


def _is_one_doubling(small: tuple[int, int], large: tuple[int, int]) -> bool:
    factors = (large[0] / small[0], large[1] / small[1])
    return factors in ((2.0, 1.0), (1.0, 2.0))


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line of the benchmark."""
    parser = PROGRAM.parser()
    parser.add_argument("--device", choices=("all", "cpu", "cuda"), default="all")
    parser.add_argument("--dim", type=int, default=4096, help="feature width (default: 4096)")
    parser.add_argument("--repeats", type=int, default=200, help="of each stage")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_output("--json", help="write metadata and timings to this file")
    parser.add_output("--markdown", help="also write the page to this file")
    options = parser.parse_args(arguments)
    if min(options.dim, options.threads) < 1 or options.repeats < 10:
        parser.error("--dim and --threads must be at least 1, --repeats at least 10")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device: use --device cpu")
    return options


@PROGRAM.main
def main(arguments: list[str]) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    devices = ["cpu"] * (options.device != "cuda")
    devices += ["cuda"] * (options.device != "cpu" and torch.cuda.is_available())
    load = os.getloadavg()[0]
    timings = [t for d in devices for t in benchmark(d, options.dim, options.repeats)]
    metadata = machine_metadata(options.dim, options.repeats, load)
    page = format_markdown(metadata, timings)
    print(page)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(page)
    if options.json:
        content = {"metadata": metadata, "timings": [asdict(timing) for timing in timings]}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
