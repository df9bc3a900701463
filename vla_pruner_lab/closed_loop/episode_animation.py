"""One episode at two budgets next to each other, with the kept tokens: README's image.

Both sides start from the same state. The start is the median one: of --starts starts, the one whose
pruned episode needs the median number of actions; an episode that fails counts as the longest. The
settings are the defaults, but for keep_ratio. The side that is done first waits for the other. A
JSON file next to it holds the numbers of all starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tqdm import tqdm

from vla_pruner_lab.closed_loop.film_frames import side_by_side
from vla_pruner_lab.common.machine import cpu_name
from vla_pruner_lab.common.program import COUNT, SHARE, checkpoint, lab_program, task
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import SIMULATION_POLICY, package_version
from vla_pruner_ros.sim.tasks import instruction_for

PROGRAM = lab_program(
    "closed_loop.episode_animation", __doc__, "--task drawer-close --out out/episode.webp"
)
MILLISECONDS_A_FRAME = 120
LAST_FRAME_MILLISECONDS = 2000
RULE = "of {count} starts, the one whose pruned episode needs the median number of actions"


def median_start(actions: Sequence[int]) -> int:
    """Return the index of the median of an odd number of values; the first one of equals."""
    return list(actions).index(sorted(actions)[len(actions) // 2])


def odd(text: str) -> int:
    """Read an odd number: the median of an even number of starts is no start."""
    number = COUNT(text)
    if number % 2 == 0:
        raise argparse.ArgumentTypeError(f"--starts must be odd, got {text}")
    return number


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--checkpoint", type=checkpoint, default=SIMULATION_POLICY, help="folder or bundled name")
    add("--task", type=task, default="drawer-close", help="of the simulated robot")
    add("--keep-ratio", type=SHARE, default=0.25, help="visual tokens kept on the right")
    add("--starts", type=odd, default=21, help="an odd number of starts to choose from")
    add("--every", type=COUNT, default=2, help="actions from frame to frame")
    parser.add_output("--out", default=Path("docs/reference/episode.webp"), help="the film")
    return parser.parse_args(argv)


def _save(path: Path, images: list) -> None:
    first, *rest = images
    durations = [MILLISECONDS_A_FRAME] * len(rest) + [LAST_FRAME_MILLISECONDS]
    first.save(
        path, save_all=True, append_images=rest, duration=durations, loop=0, quality=70, method=4
    )


def _metadata(argv: list[str], given: argparse.Namespace) -> dict:
    return {
        "schema": "vla_pruner_lab.episode_animation/1",
        "command": f"{PROGRAM.name} {shlex.join(argv)}".strip(),
        "date": date.today().isoformat(),
        "version": package_version(),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "checkpoint": Path(given.checkpoint).name,
        "task": given.task,
        "instruction": instruction_for(given.task),
        "rule": RULE.format(count=given.starts),
    }


def _results(settings: list[PruningConfig], pairs: list, seed: int) -> dict:
    """Return the two sides of the film, and actions and success from every start."""
    return {
        "sides": [
            {
                "keep_ratio": pruning.keep_ratio,
                "tokens_kept": side.tokens[0],
                "tokens_total": side.tokens[1],
                "success": side.success,
                "actions": side.actions,
            }
            for pruning, side in zip(settings, pairs[seed], strict=True)
        ],
        "starts": [
            {
                "seed": number,
                "actions": [one.actions for one in pair],
                "success": [one.success for one in pair],
            }
            for number, pair in enumerate(pairs)
        ],
    }


@PROGRAM.main
def main(argv: list[str]) -> int:
    given = _arguments(argv)
    from vla_pruner_lab.closed_loop.episode_film import MAX_ACTIONS, film_episode

    policy = load_policy(given.checkpoint)
    settings = [PruningConfig(keep_ratio=1.0), PruningConfig(keep_ratio=given.keep_ratio)]
    pairs = [
        [film_episode(policy, pruning, given.task, seed, given.every) for pruning in settings]
        for seed in tqdm(range(given.starts), unit="start")
    ]
    pruned = [right.actions if right.success else MAX_ACTIONS for _, right in pairs]
    seed = median_start(pruned)
    full, small = pairs[seed]
    title = f"“{instruction_for(given.task)}”"
    images = side_by_side([full.frames, small.frames], [full.success, small.success], title)
    _save(given.out, images)
    metadata = {
        **_metadata(argv, given),
        "seed": seed,
        "preset": settings[0].preset,
        "frames": len(images),
        **_results(settings, pairs, seed),
    }
    given.out.with_suffix(".json").write_text(json.dumps(metadata, indent=1) + "\n", "utf-8")
    print(f"Film: {given.out} ({len(images)} frames, {given.out.stat().st_size / 1e6:.2f} MB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
