"""Parameters of the node: old names are refused with the new ones, options reach the family."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from node_helpers import ControlledPolicy, bench
from rclpy.parameter import Parameter

from vla_pruner_ros.bringup.cli import parse_arguments
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.nodes.vla_pruner.loading import load_from_settings
from vla_pruner_ros.nodes.vla_pruner.parameters import make_settings, parameter_specs
from vla_pruner_ros.pruning.config import RENAMED_FIELDS


@pytest.mark.parametrize(("old", "new"), RENAMED_FIELDS.items())
def test_an_old_name_is_refused_with_the_new_one(old, new):
    with bench(ControlledPolicy()) as b:
        result = b.node.set_parameters_atomically([Parameter(old, value="vla_pruner")])
        assert not result.successful
        assert f"{old} is now called {new}" in result.reason
        assert not b.node.has_parameter(old)


@pytest.mark.parametrize("way", ["command line", "file"])
def test_an_old_name_stops_the_node_from_starting(way, tmp_path):
    """rclpy ignores parameters that are not declared: the node ran with the default instead."""
    file = tmp_path / "old.yaml"
    file.write_text("/**:\n  ros__parameters:\n    pruner: fastv\n")
    given = ["-p", "pruner:=fastv"] if way == "command line" else ["--params-file", str(file)]
    code = "import sys; from vla_pruner_ros.nodes.vla_pruner.node import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--ros-args", *given]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "pruner is now called method: set method instead" in run.stderr


def test_an_old_name_is_no_argument_of_the_bring_up():
    with pytest.raises(ValueError, match="warm_up is now called history_fill"):
        parse_arguments(["warm_up:=full"])


def test_every_option_of_a_family_can_be_set(tmp_path):
    write_untrained_checkpoint(tmp_path, "pi0")
    options = {"num_flow_steps": 3, "noise_seed": 7, "image_padding": "center"}
    policy = load_from_settings(make_settings({"checkpoint": str(tmp_path), **options}))
    assert policy.decoder.expert.steps == options["num_flow_steps"]
    assert policy.flow.noise_seed == options["noise_seed"]
    assert policy.parts.fit_image.padding == options["image_padding"]


def test_an_option_of_another_family_is_refused_by_name(tmp_path):
    write_untrained_checkpoint(tmp_path, "openvla")
    settings = make_settings({"checkpoint": str(tmp_path), "num_flow_steps": 3})
    with pytest.raises(CheckpointError, match="openvla has no option num_flow_steps"):
        load_from_settings(settings)


def test_auto_and_values_of_an_option_are_told_by_type():
    assert make_settings({"center_crop": "auto"}).options["center_crop"] is None
    assert make_settings({"center_crop": False}).options["center_crop"] is False
    with pytest.raises(ValueError, match="center_crop must be a bool or auto, got 'no'"):
        make_settings({"center_crop": "no"})


def test_nothing_is_declared_twice():
    assert len(parameter_specs()) > 40
