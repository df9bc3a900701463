"""launch/replay.launch.py under the real launch system, where that is installed."""

from __future__ import annotations

import importlib.util

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed: no launch file can be run")

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from replay_bags import BagMaker, record_episode

from launch import LaunchContext
from vla_pruner_ros.resources import share_directory


@pytest.fixture
def replay_launch():
    path = share_directory() / "launch" / "replay.launch.py"
    spec = importlib.util.spec_from_file_location("replay_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recorded_outputs_are_moved_and_the_clock_is_not(replay_launch):
    command = replay_launch.play_command("/bag", "0.5", "true", "/left/vla_pruner")
    assert command[:4] == ["ros2", "bag", "play", "/bag"]
    assert "--loop" in command
    assert "/left/vla_pruner/action:=/recorded/left/vla_pruner/action" in command
    assert "/parameter_events:=/recorded/parameter_events" in command
    assert not any(rule.startswith("/clock:=") for rule in command)


def test_bringup_is_included_with_the_time_and_the_parameters_of_the_bag(replay_launch, tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        record_episode(bag, 4)
    description = replay_launch.generate_launch_description()
    context = LaunchContext()
    context.launch_configurations["bag"] = str(tmp_path / "bag")
    declared = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    for entity in declared:
        entity.visit(context)
    (included,) = [e for e in description.entities if isinstance(e, IncludeLaunchDescription)]
    for action in included.execute(context)[:3]:
        action.visit(context)
    assert context.launch_configurations["use_sim_time"] == "true"
    assert context.launch_configurations["as_recorded"] == str(tmp_path / "bag")
    assert context.launch_configurations["params_file"].endswith("config/replay.yaml")
    assert len(replay_launch.play_once_active(context)) == 1
