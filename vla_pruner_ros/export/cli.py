"""vla_pruner_export: a recorded bag for other tools."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.export.inferences import ExportSource
from vla_pruner_ros.replay.inputs.topics import TopicSelection
from vla_pruner_ros.replay.session import Choice
from vla_pruner_ros.settings.program import Program, ProgramParser

FORMATS = ("rerun", "mp4", "lerobot")
SUFFIXES = {"rerun": ".rrd", "mp4": ".mp4", "lerobot": "_lerobot"}
PROGRAM = Program(
    "vla_pruner_export",
    "Write a recorded bag for other tools: a Rerun recording (images, overlays, tokens, actions),\n"
    "a video, or a LeRobot v3 data set of what the robot did.",
    ("bag --to rerun", "bag --to mp4 --out video.mp4", "bag --to lerobot --out my_data_set"),
    "rerun needs rerun-sdk, mp4 needs av, lerobot needs pyarrow and av: pip install them.",
    (BagError, ValueError, OSError, ImportError),
)


def make_parser() -> ProgramParser:
    """Return the parser of the command line."""
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("bag", type=Path, help="rosbag2 directory, or one .mcap or .db3 file")
    add("--to", choices=FORMATS, required=True)
    add("--out", type=Path, help="file, or folder of a data set; by default next to the bag")
    add("--overwrite", action="store_true", help="replace the result of an earlier run")
    add("--image-topic", nargs="+", default=[], metavar="TOPIC", help="cameras; by default all")
    add("--node", default="", help="which recorded node, if there are several")
    add("--limit", type=int, default=0, metavar="N", help="inferences at most")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Export; return the exit status."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    out = given.out or _default_out(given.bag, given.to)
    if out.exists() and not given.overwrite:
        parser.error(f"{out} exists already: add --overwrite to replace it, or give another --out")
    if out.is_dir():
        if given.to != "lerobot" or not (out / "meta" / "info.json").is_file():
            raise ValueError(f"{out} is a folder of something else: give another --out")
        shutil.rmtree(out)
    with BagReader(given.bag) as reader:
        choice = Choice(
            TopicSelection(images=tuple(given.image_topic), node=given.node), limit=given.limit
        )
        source = ExportSource(reader, choice)
        written = _EXPORTS[given.to](source, out, given)
        for text in [*source.skipped[:3], *reader.damage]:
            print(f"left out: {text}", file=sys.stderr)
    print(f"{written}\nResult: {out}")
    return 1 if source.skipped or reader.damage else 0


def _default_out(bag: Path, to: str) -> Path:
    bag = bag.resolve()
    return bag.with_name(bag.name.removesuffix(bag.suffix) + SUFFIXES[to])


def _watched(items: Iterable[Any], given: argparse.Namespace, count: int | None) -> Iterator[Any]:
    return iter(tqdm(items, given.to, count, unit="frame", disable=True if given.quiet else None))


def _to_rerun(source: ExportSource, out: Path, given: argparse.Namespace) -> str:
    from vla_pruner_ros.export.rerun import write_rerun

    inferences = _watched(source.inferences(), given, source.expected)
    return f"{write_rerun(inferences, out, source.action_names())} inferences"


def _to_mp4(source: ExportSource, out: Path, given: argparse.Namespace) -> str:
    from vla_pruner_ros.export.mp4 import write_mp4

    return f"{write_mp4(_watched(source.inferences(), given, source.expected), out)} frames"


def _to_lerobot(source: ExportSource, out: Path, given: argparse.Namespace) -> str:
    from vla_pruner_ros.export.executed import ExecutedMotion
    from vla_pruner_ros.export.lerobot import write_lerobot

    motion = ExecutedMotion(source)
    frames = _watched(motion.frames(), given, None)
    episodes, count = write_lerobot(frames, out, motion.form, source.robot)
    if not count:
        raise ValueError("the bag holds no motion: a data set would be empty")
    return f"{episodes} episodes, {count} frames at {motion.form.frames_per_second} Hz"


_EXPORTS = {"rerun": _to_rerun, "mp4": _to_mp4, "lerobot": _to_lerobot}


if __name__ == "__main__":
    raise SystemExit(main())
