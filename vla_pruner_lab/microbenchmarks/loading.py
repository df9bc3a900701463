"""Host memory and time of loading a checkpoint of full size, on the CPU.

    python -m vla_pruner_lab.microbenchmarks.loading --families pi05 pi0 --markdown FILE

Writes random bfloat16 weights of full width and depth, then loads each in a process of its own.
The peak is the kernel's count of resident memory (VmHWM), Python and its libraries included. Cold
means that the file was not in memory before. 6 GB of disk and 16 GB of memory suffice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from vla_pruner_lab.common import machine
from vla_pruner_lab.common.markdown import markdown_table, metadata_lines, publish
from vla_pruner_lab.common.program import lab_program
from vla_pruner_ros.models.loading import DTYPES
from vla_pruner_ros.models.untrained import TinySize, write_untrained_checkpoint

PROGRAM = lab_program("microbenchmarks.loading", __doc__, "--families smolvla --size tiny")
GEMMA = TinySize(hidden=2048, layers=18, heads=8, mlp=16384, vision_width=1152, vision_depth=27)
SMOLLM = TinySize(hidden=960, layers=16, heads=15, mlp=2560, vision_width=768, vision_depth=12)
FULL_SIZES = {"pi05": GEMMA, "pi0": GEMMA, "smolvla": SMOLLM}
"""Widths and depths of the published checkpoints; the vocabulary is that of the tests."""
MIB = 2**20
LEGEND = """\
Weights: the file's tensors in the dtype that runs. A ratio of 1 is possible because tensors that a
family does not run are not loaded. Python and its libraries alone take about 220 MiB, which is much
next to a small checkpoint. The goal is at most 1.3 for 3 billion parameters. Times depend on other
work of the machine."""
CHILD = """\
import json, sys, time
from vla_pruner_ros.models.loading import load_policy
start = time.monotonic()
policy = load_policy(sys.argv[1], dtype=sys.argv[2], device="cpu")
seconds = time.monotonic() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"seconds": seconds, "peak": int(status["VmHWM"].split()[0]) * 1024}))
"""


@dataclass(frozen=True)
class Load:
    """One load. weights, peak: bytes."""

    family: str
    dtype: str
    cold: bool
    parameters: int
    weights: int
    peak: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Peak of host memory relative to the size of the weights."""
        return self.peak / self.weights


def measure(directory: Path, family: str, dtype: str, cold: bool) -> Load:
    """Load a checkpoint of bfloat16 weights in a process of its own.

    Raises:
        RuntimeError: the process failed; its last line says why.
    """
    stored = sum(file.stat().st_size for file in directory.glob("model*.safetensors"))
    parameters = stored // torch.bfloat16.itemsize
    if cold:
        _forget(directory)
    command = [sys.executable, "-c", CHILD, str(directory), dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise RuntimeError(f"loading {family} ended with {done.returncode}: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    weights = parameters * DTYPES[dtype].itemsize
    return Load(family, dtype, cold, parameters, weights, found["peak"], found["seconds"])


def _forget(directory: Path) -> None:
    """Ask the kernel to drop the files from memory."""
    for file in directory.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def page(loads: list[Load], metadata: dict[str, str]) -> str:
    """Return the page in Markdown."""
    rows = [
        [
            load.family,
            f"{load.parameters / 1e9:.2f}",
            load.dtype,
            "cold" if load.cold else "warm",
            f"{load.weights / MIB:.0f}",
            f"{load.peak / MIB:.0f}",
            f"{load.ratio:.2f}",
            f"{load.seconds:.1f}",
        ]
        for load in loads
    ]
    head = "family", "parameters (10⁹)", "dtype", "file", "weights MiB", "peak MiB", "ratio", "s"
    table = markdown_table(head, rows)
    return "\n".join(["# Loading", "", *metadata_lines(metadata), "", *table, "", LEGEND, ""])


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Run the benchmark. Returns 0."""
    given = _parser().parse_args(arguments)
    metadata = machine.metadata("vla_pruner_lab.microbenchmarks.loading", torch.device("cpu"))
    loads = []
    for family in given.families:
        size = FULL_SIZES[family] if given.size == "full" else TinySize()
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            directory = write_untrained_checkpoint(folder, family, size=size)
            for dtype in given.dtypes:
                for cold in (True, False):
                    loads.append(measure(directory, family, dtype, cold))
                    print(loads[-1], file=sys.stderr, flush=True)
    publish(page(loads, metadata), given.markdown)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = PROGRAM.parser()
    parser.add_argument("--families", nargs="+", choices=list(FULL_SIZES), default=["pi05"])
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["bfloat16"])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--folder", type=Path, help="where to write the weights (default: /tmp)")
    parser.add_output("--markdown", help="also write the page to this file")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
