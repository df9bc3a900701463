"""vla_pruner_replay: a recorded bag through a policy, to a table, JSON, CSV and an HTML report."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vla_pruner_ros.bags.parameter_events import first_parameters
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.bags.recording import recorder_remarks
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.families import option_specs
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import VlaPolicy
from vla_pruner_ros.replay.options import PROGRAM, choice_of, loading_specs, make_parser
from vla_pruner_ros.replay.replayer import RECORDED, Replayer, ReplaySetting, Run
from vla_pruner_ros.replay.results.action_space import END_EFFECTOR, action_space
from vla_pruner_ros.replay.results.files import write_csv, write_json
from vla_pruner_ros.replay.results.html_report import chosen_indices, make_report
from vla_pruner_ros.replay.results.images import collect
from vla_pruner_ros.replay.results.parity import check_parity, gap_remarks, recorded_reference
from vla_pruner_ros.replay.results.replayed_bag import ReplayedBag
from vla_pruner_ros.replay.results.result import ReplayResult, Source, sweep
from vla_pruner_ros.replay.results.summary_table import terminal_text
from vla_pruner_ros.replay.session import Session, recorded_parameters
from vla_pruner_ros.replay.sweep import sweep_bases, sweep_settings
from vla_pruner_ros.report import run_info, write_page
from vla_pruner_ros.robots import CheckpointLayout, RobotProfile, load_profile, with_cameras_of
from vla_pruner_ros.serving.client.address import is_remote
from vla_pruner_ros.serving.client.opening import connect_policy
from vla_pruner_ros.settings import AUTO, specs_of
from vla_pruner_ros.settings.arguments import given

DONE, IN_PART = 0, 1

DEFAULT_RATIOS = (1.0, 0.5, 0.25, 0.125)
DEFAULT_METHODS = ("vla_pruner",)


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Run the tool; return its exit status."""
    return replay(make_parser().parse_args(arguments))


def replay(arguments: argparse.Namespace) -> int:
    """Do everything the arguments ask for; return the exit status.

    Raises:
        BagError, PolicyError, WriterError, ValueError, OSError: nothing could be done; the
        message names the reason.
    """
    _announce(arguments, f"Reading {arguments.bag}")
    with BagReader(arguments.bag) as reader, _with_damage(reader):
        known = first_parameters(recorded_parameters(reader, choice_of(arguments)))
        _announce(arguments, f"Loading {arguments.checkpoint}")
        policy = _load(arguments, known)
        outcome = replay_with(policy, reader, arguments)
    print(terminal_text(outcome))
    print(f"Results: {_results(arguments)}")
    return _status(arguments, outcome)


def replay_with(
    policy: VlaPolicy, reader: BagReader, arguments: argparse.Namespace
) -> ReplayResult:
    """Replay an open bag with a loaded policy and write the results; errors as of replay()."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    session = Session(reader, policy.num_cameras, choice_of(arguments))
    outcome = ReplayResult(_source(arguments, policy, session))
    outcome.run_info = run_info(PROGRAM.name)
    _replay_all(arguments, reader, policy, session, outcome)
    outcome.remarks += [*session.remarks, *reader.remarks, *recorder_remarks(reader.custom_data)]
    outcome.damage, outcome.skipped = reader.damage, session.skipped
    _check_something_done(outcome, session)
    _write(arguments, session, outcome)
    return outcome


def _announce(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr, flush=True)


def _results(arguments: argparse.Namespace) -> Path:
    """Return the file to look at first."""
    return arguments.out / ("summary.json" if arguments.no_report else "report.html")


@contextmanager
def _with_damage(reader: BagReader) -> Iterator[None]:
    """Add the bag's damage to an error: it may be the reason for what is missing."""
    try:
        yield
    except BagError as error:
        damage = [why for why in reader.damage if why not in str(error)]
        raise BagError("; ".join([str(error), *damage])) from None


REMOTE_PATIENCE = 60.0
"""Longest wait for a policy server (s): a replay has time."""


def _load(arguments: argparse.Namespace, recorded: dict[str, Any]) -> VlaPolicy:
    """Load the checkpoint by the arguments, else as the recorded node did."""
    if is_remote(arguments.checkpoint):
        return connect_policy(arguments.checkpoint, timeout=REMOTE_PATIENCE)
    cameras = arguments.image_topic or recorded.get("image_topics") or ()
    loading = given(arguments, loading_specs())
    loading = {**_of(recorded, ("dtype", "unnorm_key")), **loading}
    return load_policy(
        arguments.checkpoint,
        threads=loading.pop("num_threads", 0),
        num_cameras=len(cameras),
        execution=_execution(arguments, recorded),
        # Another checkpoint may be of a family without the recorded one's options.
        default_options=_of(recorded, [spec.name for spec in option_specs()]),
        **loading,
        **given(arguments, option_specs()),
    )


def _of(recorded: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: recorded[name] for name in names if name in recorded}


def _execution(arguments: argparse.Namespace, recorded: dict[str, Any]) -> ExecutionConfig:
    chosen = given(arguments, specs_of(ExecutionConfig))
    return ExecutionConfig(**{**_of(recorded, ("draft", "quantization")), **chosen})


def _source(arguments: argparse.Namespace, policy: VlaPolicy, session: Session) -> Source:
    topics = session.topics
    used = [*topics.images, topics.instruction, topics.state, topics.chunks]
    return Source(
        bag=str(arguments.bag),
        checkpoint=str(arguments.checkpoint),
        family=policy.family,
        trained=policy.trained,
        device=str(getattr(policy, "device", arguments.device or AUTO)),
        topics=tuple(topic for topic in used if topic),
        exact=session.exact,
    )


def _settings(arguments: argparse.Namespace, session: Session) -> tuple[bool, list[ReplaySetting]]:
    """Return whether to repeat the recorded settings, and the settings of the sweep."""
    parity = session.exact and not arguments.no_parity
    names = ("keep_ratio", "method", "preset", "token_reuse", "set")
    if parity and not any(getattr(arguments, name) for name in names):
        return True, []
    bases = sweep_bases(session.pruning, arguments.set, arguments.preset)
    ratios = arguments.keep_ratio or DEFAULT_RATIOS
    methods = arguments.method or DEFAULT_METHODS
    return parity, sweep_settings(bases, methods, ratios, arguments.token_reuse)


def _replay_all(
    arguments: argparse.Namespace,
    reader: BagReader,
    policy: VlaPolicy,
    session: Session,
    outcome: ReplayResult,
) -> None:
    """Do all runs; what is done when the user interrupts is kept."""
    parity, settings = _settings(arguments, session)
    joints = session.joints if arguments.state_joints is None else arguments.state_joints
    robot = arguments.robot or session.robot
    profile = _profile(robot, policy)
    replayer = Replayer(policy, joints, profile)
    sweep_runs = []
    with ExitStack() as stack:
        bag = _replayed_bag(arguments, reader, policy, session, stack)
        try:
            if parity:
                outcome.parity_run = Run(ReplaySetting(RECORDED, None))
                _do(arguments, replayer, session, outcome.parity_run, bag)
            for setting in settings:
                sweep_runs.append(Run(setting))
                _do(arguments, replayer, session, sweep_runs[-1], bag)
        except KeyboardInterrupt:
            outcome.interrupted = True
    first = [outcome.parity_run] if outcome.parity_run else []
    widths = [step.actions.shape[1] for run in (*first, *sweep_runs) for step in run.done]
    outcome.space = space = action_space(profile, widths[0]) if widths else END_EFFECTOR
    if outcome.parity_run:
        inferences, tolerance = session.inferences, arguments.tolerance
        outcome.parity = check_parity(outcome.parity_run, inferences, tolerance, space)
        outcome.remarks += gap_remarks(outcome.parity_run)
    outcome.swept = sweep(sweep_runs, recorded_reference(session.inferences), space)


def _profile(robot: str, policy: VlaPolicy) -> RobotProfile | None:
    """Load the profile, with its cameras in the policy's order as on the robot."""
    if not robot:
        return None
    profile = load_profile(robot)
    return with_cameras_of(profile, CheckpointLayout.of(policy, profile.action_dim))


def _replayed_bag(
    arguments: argparse.Namespace,
    reader: BagReader,
    policy: VlaPolicy,
    session: Session,
    stack: ExitStack,
) -> ReplayedBag | None:
    if not arguments.write_bag:
        return None
    shutil.rmtree(arguments.out / "replayed", ignore_errors=True)  # --overwrite was given
    bag = ReplayedBag(arguments.out / "replayed", policy)
    stack.callback(bag.close)
    bag.copy_recorded(reader, session.topics)
    return bag


def _do(
    arguments: argparse.Namespace,
    replayer: Replayer,
    session: Session,
    run: Run,
    bag: ReplayedBag | None,
) -> None:
    steps = replayer.run(session.inputs(), run)
    hidden = True if arguments.quiet else None  # None: hidden where the output is not a terminal
    for replay_input, step, chunk in tqdm(
        steps, run.setting.name, session.expected, unit="frame", disable=hidden
    ):
        if bag is not None and chunk is not None:
            bag.add(run.setting, session.topics.node, replay_input, step, chunk)


def _check_something_done(outcome: ReplayResult, session: Session) -> None:
    if outcome.is_empty:
        reasons = [*outcome.damage, *outcome.problems, *outcome.skipped, *outcome.remarks]
        raise BagError(f"no frame could be replayed: {'; '.join(reasons) or 'the bag has none'}")


def _write(arguments: argparse.Namespace, session: Session, outcome: ReplayResult) -> None:
    directory: Path = arguments.out
    write_json(directory / "summary.json", outcome)
    write_csv(directory / "inferences.csv", outcome)
    if not arguments.no_report:
        images = collect(session.inputs(), chosen_indices(outcome))
        html = make_report(outcome, session.inferences, images)
        write_page(directory / "report.html", html)


def _status(arguments: argparse.Namespace, outcome: ReplayResult) -> int:
    missed = arguments.require_parity and not (outcome.parity and outcome.parity.holds)
    return IN_PART if outcome.is_partial or missed else DONE


if __name__ == "__main__":
    sys.exit(main())
