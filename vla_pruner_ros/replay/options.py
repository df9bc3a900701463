"""Command line of vla_pruner_replay."""

from __future__ import annotations

import argparse
from pathlib import Path

from rosbags.rosbag2 import WriterError

from vla_pruner_ros.bags.reader import BagError
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.families import option_specs
from vla_pruner_ros.models.loading_config import LoadingConfig
from vla_pruner_ros.models.policy import UNTRAINED, PolicyError
from vla_pruner_ros.pruning.config import METHOD_NAMES, PRESETS, TOKEN_REUSES
from vla_pruner_ros.replay.inputs.topics import TopicSelection
from vla_pruner_ros.replay.results.parity import TOLERANCE
from vla_pruner_ros.replay.session import Choice
from vla_pruner_ros.settings import Spec, specs_of
from vla_pruner_ros.settings.arguments import add_flags
from vla_pruner_ros.settings.program import Program, ProgramParser

PROGRAM = Program(
    "vla_pruner_replay",
    "Replay a recorded bag through a policy under other token budgets.",
    (
        "bag --checkpoint openvla_oft_small --out results",
        "bag --checkpoint DIR --out results --keep-ratio 1.0 0.5 0.25 --method vla_pruner fastv",
        "camera.mcap --checkpoint DIR --out results --every 5 --instruction 'close the drawer'",
    ),
    """\
Without --keep-ratio and --method the recorded inferences are repeated under the recorded settings
and compared with the recorded actions. With them, every setting is compared with the unpruned
actions on the same frames.

Exit status: 0 done; 1 done in part (damaged bag, failed or skipped frames, parity not reached with
--require-parity), the report names what is missing; 2 nothing could be done.""",
    (BagError, PolicyError, WriterError, ValueError, OSError),
)
RESULTS = ("summary.json", "inferences.csv", "report.html", "replayed")
"""Files in --out."""


def make_parser() -> ProgramParser:
    """Return the parser; its defaults are the tool's only ones."""
    parser = PROGRAM.parser()
    parser.add_argument("bag", type=Path, help="rosbag2 directory, or one .mcap or .db3 file")
    parser.add_argument(
        "--checkpoint",
        required=True,
        help=f"its directory, the name of one that the package brings, {UNTRAINED}, or ws://host:port",
    )
    parser.add_output("--out", holds=RESULTS, required=True, help="directory for the results")
    _add_sweep(parser)
    _add_selection(parser)
    _add_model(parser)
    _add_output(parser)
    return parser


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings to compare")
    group.add_argument("--keep-ratio", type=float, nargs="+", metavar="R", default=[])
    group.add_argument("--method", nargs="+", choices=METHOD_NAMES, metavar="NAME", default=[])
    group.add_argument(
        "--preset",
        nargs="+",
        choices=PRESETS,
        metavar="NAME",
        default=[],
        help="sets of settings to compare, instead of the recorded ones: " + ", ".join(PRESETS),
    )
    group.add_argument(
        "--token-reuse",
        nargs="+",
        choices=TOKEN_REUSES[1:],
        metavar="KIND",
        default=[],
        help="also the unpruned policy that keeps keys and values (openvla): static, gated",
    )
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="another pruning setting for the comparison, for example prune_layer=2",
    )
    group.add_argument(
        "--no-parity", action="store_true", help="do not repeat the recorded settings"
    )
    group.add_argument("--tolerance", type=float, default=TOLERANCE)
    group.add_argument("--require-parity", action="store_true", help="exit 1 if it is missed")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what of the bag")
    group.add_argument(
        "--every",
        type=_positive,
        default=0,
        metavar="N",
        help="every n-th frame instead of the recorded inferences",
    )
    group.add_argument("--limit", type=_positive, default=0, metavar="N", help="inferences at most")
    group.add_argument("--image-topic", nargs="+", action="extend", default=[], metavar="TOPIC")
    group.add_argument("--instruction-topic", default="", metavar="TOPIC")
    group.add_argument("--state-topic", default="", metavar="TOPIC")
    group.add_argument("--state-joints", nargs="+", default=None, metavar="JOINT")
    group.add_argument(
        "--robot",
        default="",
        metavar="PROFILE",
        help="robot profile, a bundled name or a file, instead of the recorded node's",
    )
    group.add_argument(
        "--instruction",
        default="",
        help="instead of the recorded one; with --instruction-topic, until one arrives there",
    )
    group.add_argument("--node", default="", help="which recorded node, if there are several")
    group.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="parameters of the recorded node as the recording began (ros2 param dump), if the bag "
        "lacks them",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model", "Not given: as recorded, else the default.")
    add_flags(group, loading_specs(), aliases={"num_threads": "--threads"})
    add_flags(group, specs_of(ExecutionConfig))
    add_flags(group, option_specs())


def loading_specs() -> tuple[Spec, ...]:
    """Return the settings of loading but for the checkpoint, which is a required flag."""
    return tuple(spec for spec in specs_of(LoadingConfig) if spec.name != "checkpoint")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--no-report", action="store_true", help="no HTML report")
    group.add_argument(
        "--write-bag", action="store_true", help="also write the replayed outputs as a bag"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def choice_of(arguments: argparse.Namespace) -> Choice:
    """Return the choice of topics and inputs that the arguments make."""
    selection = TopicSelection(
        images=tuple(arguments.image_topic),
        instruction=arguments.instruction_topic,
        state=arguments.state_topic,
        node=arguments.node,
    )
    return Choice(
        selection, arguments.every, arguments.limit, arguments.instruction, arguments.params
    )
