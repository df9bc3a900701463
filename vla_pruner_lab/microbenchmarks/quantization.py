"""Benchmark of quantized decoder weights: accuracy and bytes.

    python -m vla_pruner_lab.microbenchmarks.quantization --markdown FILE [--golden DIR]

Every policy gets the same observations, whatever its outputs. They are compared with those of the
plain float32 policy at the same budget. Times are of the trained policy, all settings in
turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tqdm import tqdm

from vla_pruner_lab.common import machine
from vla_pruner_lab.common.markdown import markdown_table, metadata_lines, publish
from vla_pruner_lab.common.program import COUNT, lab_program
from vla_pruner_lab.microbenchmarks import quantization_cases
from vla_pruner_lab.microbenchmarks.quantization_cases import QuantizationCase
from vla_pruner_ros.models.execution.config import QUANTIZATIONS, ExecutionConfig
from vla_pruner_ros.models.execution.quantization import stored_bytes
from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig

PROGRAM = lab_program("microbenchmarks.quantization", __doc__, "--rounds 5")
KEEP_RATIOS = (1.0, 0.25)
TIMED_RATIO = 0.25
WARM_UP = 3
"""Warm-up steps of each setting, which are not timed."""
DTYPES = ("float32", "bfloat16")
SETTINGS = tuple((dtype, kind) for dtype in DTYPES for kind in QUANTIZATIONS)
REFERENCE = SETTINGS[0]
DIMENSIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
EQUAL = 1e-6
SEED = 300
LEGEND = """\
Columns x to gripper: mean absolute difference of the action number from the float32 policy's at
the same budget, in percent of the range that -1..1 stands for in its checkpoint. Same tokens out:
action tokens equal to float32's; - where actions are continuous. Same tokens kept: of the visual
tokens that float32 keeps. Refused: steps whose tokens are no action. Decoder: bytes of the weights
in the decoder layers. The random models are those of the reference recordings: they have no clear
favourite among tokens, of the image or of the action, and small changes turn many of them."""
TIMES_LEGEND = """\
Step: median over the rounds of the ratio to the unquantized step of the same dtype in the same run;
above 1 is slower. On a CPU torchao unpacks int8 weights anew for every product: what is saved there
is memory. Nothing here was measured on a GPU."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of one policy for one case. actions: [steps, chunk, 7], NaN if refused."""

    actions: np.ndarray
    kept: list[np.ndarray]
    decoder_bytes: int
    are_tokens: bool

    @property
    def refused(self) -> np.ndarray:
        """bool [steps]."""
        return np.isnan(self.actions).any(axis=(1, 2))


def run_case(case: QuantizationCase, dtype: str, kind: str, keep_ratio: float) -> Outputs:
    """Run a policy over a case; its history is cleared before each episode."""
    policy = _loaded(case, dtype, kind, keep_ratio)
    actions, kept = [], []
    for episode in case.episodes:
        policy.reset()
        for shown in episode:
            try:
                chunk = policy.act(shown)
            except PolicyError:
                actions.append(np.full((policy.chunk_size, len(DIMENSIONS)), np.nan))
                kept.append(np.array([], dtype=int))
                continue
            actions.append(chunk.actions)
            patches = policy.grid[0] * policy.grid[1]
            numbered = (patches * n + one for n, one in enumerate(chunk.pruning.kept_indices))
            kept.append(np.concatenate(list(numbered)))
    return Outputs(np.stack(actions), kept, decoder_bytes(policy), policy.decodes_token_by_token)


def decoder_bytes(policy: PrunedPolicy) -> int:
    """Return the bytes of the weights in the decoder layers."""
    return sum(stored_bytes(layers) for layers in policy.decoder_layers)


def action_range(case: QuantizationCase) -> np.ndarray:
    """Return what -1..1 stands for, [7]."""
    bounds = case.load("float32", ExecutionConfig()).bounds
    return bounds.to_units(np.ones(bounds.size)) - bounds.to_units(-np.ones(bounds.size))


def accuracy_rows(case: QuantizationCase) -> Iterator[list[str]]:
    """Yield one row of the table for each budget and setting."""
    span = action_range(case)
    for ratio in KEEP_RATIOS:
        reference = run_case(case, *REFERENCE, ratio)
        for dtype, kind in tqdm(SETTINGS, desc=f"{case.name} {ratio:g}"):
            found = run_case(case, dtype, kind, ratio)
            yield [case.name, f"{ratio:g}", dtype, kind, *_compared(found, reference, span)]


def _compared(found: Outputs, reference: Outputs, span: np.ndarray) -> list[str]:
    refused = found.refused | reference.refused
    difference = np.abs(found.actions - reference.actions)[~refused]
    errors = 100 * difference.mean(axis=(0, 1)) / span
    pairs = zip(found.kept, reference.kept, strict=True)
    shared = [len(np.intersect1d(one, two)) / max(len(two), 1) for one, two in pairs]
    return [
        *(f"{error:.2f}" for error in errors),
        f"{100 * (difference < EQUAL).mean():.0f} %" if found.are_tokens else "-",
        f"{100 * np.mean(np.array(shared)[~refused]):.0f} %",
        str(int(refused.sum())),
        f"{found.decoder_bytes / 1e6:.3f}",
    ]


def step_rows(case: QuantizationCase, rounds: int) -> list[list[str]]:
    """Return bytes and times of one policy, pruned, on the first image; every setting once
    a round.
    """
    scene = case.episodes[0][0]
    policies = {setting: _loaded(case, *setting, TIMED_RATIO) for setting in SETTINGS}
    times = {setting: [] for setting in SETTINGS}
    for number in tqdm(range(WARM_UP + rounds), desc="steps"):
        for setting, policy in policies.items():
            start = time.perf_counter()
            policy.act(scene)
            if number >= WARM_UP:
                times[setting].append(time.perf_counter() - start)
    return [_step_row(policies, times, *setting) for setting in SETTINGS]


def _loaded(case: QuantizationCase, dtype: str, kind: str, keep_ratio: float) -> PrunedPolicy:
    policy = case.load(dtype, ExecutionConfig(quantization=kind))
    policy.pruning = PruningConfig(keep_ratio=keep_ratio, history_fill="semantic")
    return policy


def _step_row(policies: dict, times: dict, dtype: str, kind: str) -> list[str]:
    plain = times[dtype, "none"]
    ratios = [one / other for one, other in zip(times[dtype, kind], plain, strict=True)]
    stored, before = (decoder_bytes(policies[dtype, one]) for one in (kind, "none"))
    return [dtype, kind, f"{stored / 1e6:.3f}", f"{stored / before:.2f}", f"{median(ratios):.2f}"]


def page(metadata: dict[str, str], accuracy: list[list[str]], steps: list[list[str]]) -> str:
    """Return docs/reference/benchmarks/quantization.md."""
    header = (
        "policy", "keep", "dtype", "weights", *(f"{name} %" for name in DIMENSIONS),
        "same tokens out", "same tokens kept", "refused", "decoder, MB",
    )  # fmt: skip
    times = ("dtype", "weights", "decoder, MB", "of its dtype's", "step ×")
    lines = ["# Quantized decoder weights", ""]
    lines += metadata_lines(metadata)
    lines += ["", "## Accuracy", "", *markdown_table(header, accuracy), "", LEGEND]
    lines += ["", "## Bytes and time: the trained policy, keep 0.25", ""]
    lines += [*markdown_table(times, steps), "", TIMES_LEGEND]
    return "\n".join(lines) + "\n"


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--golden", type=Path, help="recordings of the official models")
    parser.add_argument("--rounds", type=COUNT, default=21, help="of timed steps")
    parser.add_output("--markdown", help="write the page to this file, too")
    options = parser.parse_args(arguments)
    metadata = machine.metadata("vla_pruner_lab.microbenchmarks.quantization", torch.device("cpu"))
    cases = [quantization_cases.bundled(SEED)]
    print("Timing the steps, then comparing the outputs", file=sys.stderr, flush=True)
    steps = step_rows(cases[0], options.rounds)
    if options.golden:
        of_golden = (quantization_cases.golden_openvla, quantization_cases.golden_oft)
        cases += [make(options.golden) for make in of_golden]
    text = page(metadata, [row for case in cases for row in accuracy_rows(case)], steps)
    publish(text, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
