"""The replay tool run on tmp_path/bag with a small policy, and bags to run it on."""

from __future__ import annotations

import json

import pytest
from replay_bags import PERIOD, BagMaker, MemoryPolicy, record_episode, sample_image

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay import cli
from vla_pruner_ros.replay.replayer import RECORDED, Replayer, ReplaySetting, Run
from vla_pruner_ros.replay.results.parity import check_parity, gap_remarks
from vla_pruner_ros.replay.session import Choice, Session


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs the tool on tmp_path/bag with a small policy."""
    policies: list[MemoryPolicy] = []

    def load(checkpoint, **options):
        policies.append(MemoryPolicy())
        return policies[-1]

    monkeypatch.setattr(cli, "load_policy", load)

    def call(*arguments: str, bag: str = "bag"):
        out = str(tmp_path / "out")
        command = [str(tmp_path / bag), "--checkpoint", "none", "--out", out, "--overwrite"]
        status = cli.main([*command, *arguments])
        printed = capsys.readouterr()
        summary_file = tmp_path / "out" / "summary.json"
        summary = json.loads(summary_file.read_text()) if summary_file.is_file() else None
        return status, printed, summary

    return call


def recorded(tmp_path, frames=24):
    with BagMaker(tmp_path / "bag") as bag:
        return record_episode(bag, frames)


def plain(tmp_path, frames=6, **changes):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(frames):
            bag.image(sample_image(number), number * PERIOD, **changes)


def replay(path, policy=None, setting=None, joints=(), **choice):
    """Return (session remarks, run, parity or None) of one pass."""
    policy = policy or MemoryPolicy()
    with BagReader(path) as reader:
        session = Session(reader, policy.num_cameras, Choice(**choice))
        run = Run(setting or ReplaySetting(RECORDED, None))
        for _ in Replayer(policy, joints or session.joints).run(session.inputs(), run):
            pass
        parity = check_parity(run, session.inferences) if session.exact else None
        return [*session.skipped, *session.remarks, *gap_remarks(run)], run, parity


def inputs_of(path, **choice) -> list:
    with BagReader(path) as reader:
        return list(Session(reader, 1, Choice(**choice)).inputs())


FULL = ReplaySetting("full", PruningConfig(keep_ratio=1.0))
