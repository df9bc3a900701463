"""Speed of whole steps of trained policies, pruned and not.

    python -m vla_pruner_lab.microbenchmarks.policies openvla_oft_small out/twelve_layers

Every setting takes one step in turn, so that a busy machine affects all alike, and each is compared
with the unpruned step of the same turn. Processor time hardly depends on other work of the machine;
wall time does. All steps see one image of random blocks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import product
from statistics import median

import numpy as np
import torch
from tqdm import tqdm

from vla_pruner_lab.common import machine
from vla_pruner_lab.common.markdown import markdown_table, metadata_lines, publish
from vla_pruner_lab.common.program import COUNT, SHARE, checkpoint, lab_program
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import METHOD_NAMES, PruningConfig

PROGRAM = lab_program("microbenchmarks.policies", __doc__, "openvla_small --turns 20")
METHODS = ("vla_pruner", "divprune", "text_attention")
RATIOS = (0.25, 0.125)
WARM_UP = 5
"""Turns that are not counted: a history fills, caches are warm."""
HEADERS = (
    "policy", "decoder layers", "method", "keep", "wall (ms)", "wall, × unpruned",
    "processor (ms)", "processor, × unpruned",
)  # fmt: skip

Times = dict[tuple[str, float], list[tuple[float, float]]]
"""Wall and processor seconds of each turn, by method and keep_ratio."""


def scene(policy: PrunedPolicy) -> Observation:
    """Return an observation of random blocks, the same for policies of one kind."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (policy.num_cameras, 16, 16, 3), dtype=np.uint8)
    images = [image.repeat(14, axis=0).repeat(14, axis=1) for image in blocks]
    state = np.zeros(policy.state_dim) if policy.state_dim else None
    return Observation(images, "open the drawer", state)


def measure(
    policy: PrunedPolicy, settings: Sequence[tuple[str, float]], turns: int, seen: Observation
) -> Times:
    """Run every setting once a turn.

    Args:
        policy: its pruning is changed.
        settings: method and keep_ratio; the first one is unpruned.
        turns: that count.
        seen: what every step sees.
    """
    times: Times = {setting: [] for setting in settings}
    configs = [PruningConfig(method=method, keep_ratio=ratio) for method, ratio in settings]
    for turn in tqdm(range(WARM_UP + turns), desc=policy.family):
        for setting, config in zip(settings, configs, strict=True):
            policy.pruning = config
            began, used = time.perf_counter(), time.process_time()
            policy.act(seen)
            spent = time.perf_counter() - began, time.process_time() - used
            if turn >= WARM_UP:
                times[setting].append(spent)
    return times


def rows(name: str, layers: int, times: Times) -> list[list[str]]:
    """Return the cells of a policy's settings; the first setting is the unpruned one."""
    unpruned = next(iter(times.values()))
    found = []
    for (method, ratio), spent in times.items():
        cells = [name, str(layers), method, f"{ratio:g}"]
        for kind in range(2):
            ours, full = ([turn[kind] for turn in turns] for turns in (spent, unpruned))
            gains = [whole / own for whole, own in zip(full, ours, strict=True)]
            cells += [f"{1e3 * median(ours):.1f}", f"{median(gains):.2f}"]
        found.append(cells)
    return found


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("checkpoints", nargs="+", type=checkpoint, help="folders, or bundled names")
    add("--methods", nargs="+", choices=METHOD_NAMES[1:], default=METHODS)
    add("--keep-ratios", nargs="+", type=SHARE, default=RATIOS)
    add("--turns", type=COUNT, default=40)
    add("--threads", type=COUNT, default=1)
    parser.add_output("--markdown", help="write the page to this file, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    metadata = machine.metadata("vla_pruner_lab.microbenchmarks.policies", torch.device("cpu"))
    settings = [("full", 1.0), *product(options.methods, options.keep_ratios)]
    cells = []
    for path in options.checkpoints:
        policy = load_policy(path, device="cpu")
        times = measure(policy, settings, options.turns, scene(policy))
        cells += rows(path.name, policy.spec.num_layers, times)
    text = [
        "# Speed of the bundled policies' whole steps", "", *metadata_lines(metadata),
        f"- turns: {options.turns}; medians, and medians of the ratios of each turn", "",
        *markdown_table(HEADERS, cells), "",
    ]  # fmt: skip
    publish("\n".join(text), options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
