"""Settings that nobody would read are named; misspelt safety settings forbid to configure."""

from __future__ import annotations

import subprocess
import sys

import pytest
import rclpy
from node_helpers import ControlledPolicy, bench
from rclpy.context import Context

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.nodes.overrides import explain_unparsable, parameter_files, sections_of


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("max_translations", 0.01, "max_translation"),
        ("max_translaton", 0.01, "max_translation"),
        ("limits.max_translation", 0.01, "max_translation"),
        ("vla_pruner.max_rotation", 0.1, "max_rotation"),
        ("Workspace", [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "workspace"),
        ("work_space", [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "workspace"),
        ("max-gripper-step", 0.1, "max_gripper_step"),
        ("max_image_ages", 0.1, "max_image_age"),
        ("on_camera_lost", "hold", "on_camera_loss"),
        ("controlrate", 5.0, "control_rate"),
        ("params.safety.arm_latency", 0.4, "arm_latency"),
    ],
)
def test_misspelt_safety_settings_keep_configure_from_succeeding(name, value, meant, capfd):
    with bench(ControlledPolicy(), **{name: value}) as b:
        assert not b.change_state(1)
        assert b.state() == "unconfigured"
        problem = b.node.state()["problem"]
        assert f"The parameter {name} was set" in problem
        assert f"did you mean {meant}?" in problem
    assert name in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("keep_ratios", 0.5, "did you mean keep_ratio?"),
        ("model_path", "x", "none of that name"),
        ("camera.frame_rate", 30, "none of that name"),
        ("blendsteps", 2, "did you mean blend_steps?"),
    ],
)
def test_other_unknown_settings_are_named_and_harmless(name, value, hint, capfd):
    with bench(ControlledPolicy(), **{name: value}) as b:
        assert b.change_state(1)
    log = capfd.readouterr().err
    assert f"The parameter {name} was set" in log
    assert hint in log


def test_what_every_node_may_be_given_is_not_named(capfd):
    overrides = {
        "use_sim_time": False,
        "qos_overrides./image_raw.subscription.reliability": "reliable",
        "qos_overrides./imgae_raw.subscription.reliability": "reliable",
    }
    with bench(ControlledPolicy(), **overrides) as b:
        b.activate()
    log = capfd.readouterr().err
    assert log.count("fits no subscription of this node") == 1
    assert "/imgae_raw" in log
    assert "was set" not in log


# --- Files ----------------------------------------------------------------------------------------


def write(path, section: str, content: str = "max_translation: 0.01"):
    lines = "".join(f"    {line}\n" for line in content.splitlines())
    path.write_text(f"{section}:\n  ros__parameters:\n{lines}")
    return path


@pytest.mark.parametrize("section", ["/vla_pruner", "vla_pruner", "/**", "/*", "/**/vla_pruner"])
def test_sections_that_fit_are_accepted(tmp_path, section):
    path = write(tmp_path / "p.yaml", f'"{section}"')
    with bench(ControlledPolicy(), parameter_files=[path]) as b:
        assert b.change_state(1)


@pytest.mark.parametrize(
    "section", ["/vla_prunner", "policy", "/arm/vla_pruner", "vla_pruner_node"]
)
def test_a_file_for_another_node_is_named(tmp_path, section):
    path = write(tmp_path / "p.yaml", section)
    with bench(ControlledPolicy(), parameter_files=[path]) as b:
        assert not b.change_state(1)
        problem = b.node.state()["problem"]
        assert f"has settings for /{section.strip('/')} and none for /vla_pruner" in problem
        assert "not even max_translation; rename the section" in problem


def test_a_file_of_many_nodes_is_no_trouble(tmp_path):
    path = tmp_path / "p.yaml"
    write(path, "camera", "max_translation: 1.0")
    more = write(tmp_path / "q.yaml", "/vla_pruner").read_text()
    path.write_text(path.read_text() + more)
    with bench(ControlledPolicy(), parameter_files=[path]) as b:
        assert b.change_state(1)


def test_nested_namespaces_are_sections_too(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("arm:\n  vla_pruner:\n    ros__parameters:\n      keep_ratio: 5e-1\n")
    assert sections_of(path) == {"/arm/vla_pruner": {"keep_ratio": 0.5}}


UNPARSABLE = {
    "mixed numbers": ("vla_pruner:\n  ros__parameters:\n    workspace: [-0.3, 0, 0.0, 1, 1.0, 2]\n",
                      "workspace mixes integers and decimals, which ROS refuses: write 0 as 0.0"),
    "mixed kinds": ("vla_pruner:\n  ros__parameters:\n    image_topics: [a, 1]\n",
                    "image_topics mixes int, str"),
    "tabs": ("vla_pruner:\n\tros__parameters:\n\t\tkeep_ratio: 0.5\n", "line 2 begins with a tab"),
    "no ros__parameters": ("vla_pruner:\n  keep_ratio: 0.5\n", "it has no ros__parameters"),
    "broken": ("vla_pruner:\n  ros__parameters: {keep_ratio: [0.5\n", "expected"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), UNPARSABLE.values(), ids=UNPARSABLE)
def test_what_rcl_cannot_parse_is_one_sentence(tmp_path, content, reason):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    arguments = ["--ros-args", "--params-file", str(path)]
    with pytest.raises(Exception, match=r".") as refused:  # rclpy names its error elsewhere
        rclpy.init(context=Context(), args=arguments)
    sentence = explain_unparsable(refused.value, parameter_files(arguments))
    assert sentence.startswith(f"The parameter file {path} cannot be used: ")
    assert reason in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("argument", ["keep_ratio:=[0.5", "keep_ratio", ":=3"])
def test_arguments_that_rcl_cannot_parse_are_one_sentence(argument):
    with pytest.raises(Exception, match=r".") as refused:
        rclpy.init(context=Context(), args=["--ros-args", "-p", argument])
    sentence = explain_unparsable(refused.value, [])
    assert sentence.startswith("The arguments cannot be used: ")
    assert argument in sentence
    assert "\n" not in sentence


def test_the_process_ends_with_the_sentence_and_no_traceback(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(UNPARSABLE["tabs"][0])
    program = "import sys; from vla_pruner_ros.nodes.recorder import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--ros-args", "--params-file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    own = [line for line in done.stderr.splitlines() if "[rcl]" not in line]
    assert len(own) == 1
    assert "line 2 begins with a tab" in own[0]


@pytest.mark.parametrize("content", ["keep_ratio\n", "- 1\n", "vla_pruner: 3\n"])
def test_a_file_of_which_nothing_is_used_forbids_to_configure(tmp_path, content):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with bench(ControlledPolicy(), parameter_files=[path]) as b:
        assert not b.change_state(1)
        assert f"Nothing of the parameter file {path} is used" in b.node.state()["problem"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "No such file" in explain_unparsable(ValueError("x"), [tmp_path / "none.yaml"])
    assert parameter_files(["--ros-args", "--params-file", "a", "--params-file", "b"]) == [
        *map(type(tmp_path), "ab")
    ]


# --- Live parameters and the loaded model ---------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("prune_layer", 99), ("action_layer", 99)])
def test_a_layer_that_the_model_lacks_is_refused_when_set(name, value):
    def load(settings):
        return load_policy("untrained", pruning=settings.pruning)

    with bench(load) as b:
        assert b.set_parameter(name, value).successful  # nothing is loaded yet
        assert b.set_parameter(name, 1).successful
        assert b.change_state(1)
        refused = b.set_parameter(name, value)
        assert not refused.successful
        assert f"{name} must be below the model's" in refused.reason
        assert b.node.parameters.settings.pruning.__getattribute__(name) == 1
        assert b.change_state(2)
        assert b.set_parameter(name, value).successful
        assert not b.change_state(1)
        assert f"{name} must be below the model's" in b.node.state()["problem"]
