"""Every family recorded live and replayed offline through the tool: the same actions."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the recorder needs rclpy")

from live_recording import INSTRUCTIONS, record_live

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.replay import cli
from vla_pruner_ros.replay.session import Choice, Session


def in_turn(inputs) -> list[str]:
    """Return each instruction as it changes."""
    found: list[str] = []
    for one in inputs:
        if found[-1:] != [one.instruction]:
            found.append(one.instruction)
    return found


@pytest.mark.parametrize(("family", "transport"), [("openvla_oft", "raw"), ("pi0", "compressed")])
def test_chunks_of_several_cameras_replay_to_the_same_actions(tmp_path, capsys, family, transport):
    checkpoint = str(write_untrained_checkpoint(tmp_path / "checkpoint", family))
    record_live(tmp_path / "bag", checkpoint, transport)
    command = [str(tmp_path / "bag"), "--checkpoint", checkpoint, "--device", "cpu"]
    status = cli.main([*command, "--threads", "1", "--out", str(tmp_path / "out")])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    parity = summary["parity"]
    assert status in (0, 1), capsys.readouterr()  # 1 where the recorder came after the first image
    assert parity["comparable"] >= 10, summary
    assert parity["equal"] == parity["kept_equal"] == parity["comparable"]
    with BagReader(tmp_path / "bag") as reader:
        for every in (0, 1):  # by the chunks, and by topic and parameter events alone
            session = Session(reader, 2, Choice(every=every))
            assert in_turn(session.inputs()) == list(INSTRUCTIONS)
