"""Places of kept tokens: python -m vla_pruner_lab.closed_loop.kept_patches --checkpoint DIR.

The expert carries out each task. Every method then sees exactly these images, in order; its
outputs do not move the robot. The simulator reports which patches show the hand, the task's object,
the arm or nothing of these. Each experiment and task is a line of --out; another run adds missing
ones. If --page docs/reference is given, kept_patches.md is written there from all of --out, with
this policy's image.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from vla_pruner_lab.closed_loop.experiments import make_experiments
from vla_pruner_lab.closed_loop.kept_patches_page import PAGE
from vla_pruner_lab.common.program import COUNT, SHARE, checkpoint, lab_program, task
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.pruning.config import HISTORY_FILLS, METHOD_NAMES, PRESETS

PROGRAM = lab_program(
    "closed_loop.kept_patches", __doc__, "--checkpoint openvla_small --tasks drawer-close"
)
MAX_ACTIONS = 100
SHEET_TASKS = ("drawer-close", "window-open", "faucet-open")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--checkpoint", type=checkpoint, required=True, help="folder, or a bundled name")
    add("--policy-name", help="in the page; by default the checkpoint's folder")
    add("--tasks", nargs="+", type=task, help="by default those it was trained on")
    add("--methods", nargs="+", choices=METHOD_NAMES[1:], default=METHOD_NAMES[1:])
    add("--keep-ratios", nargs="+", type=SHARE, default=(0.25, 0.125))
    add("--preset", nargs="+", choices=PRESETS, default=[], help="of the method's settings")
    add("--prune-layer", nargs="+", type=int, default=[], help="K")
    add("--history-fill", nargs="+", choices=HISTORY_FILLS, default=["semantic"])
    add("--episodes", type=COUNT, default=2, help="of the expert, for each task")
    add("--execute", type=COUNT, help="actions of a chunk before the next inference; else all")
    add("--max-actions", type=COUNT, default=MAX_ACTIONS, help="of an episode")
    add("--sheet-tasks", nargs="+", type=task, default=SHEET_TASKS, help="in the image")
    add("--out", type=Path, default=Path("out/kept_patches.jsonl"),
        help="file to which missing lines are added")  # fmt: skip
    parser.add_output(
        "--page", holds=(PAGE,), help="folder to write kept_patches.md and an image to"
    )
    return parser.parse_args(argv)


@PROGRAM.main
def main(argv: list[str]) -> int:
    given = _arguments(argv)
    varied = {name: getattr(given, name) for name in ("preset", "prune_layer", "history_fill")}
    experiments = make_experiments(given.methods, given.keep_ratios, varied)
    from vla_pruner_lab.closed_loop import patch_measures  # here: it needs the simulator

    policy = load_policy(given.checkpoint)
    torch.set_num_threads(1)  # small matrices: a second thread only waits
    lines = patch_measures.run(given, policy, experiments)
    if given.page:
        patch_measures.publish(given, policy, experiments, lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
