"""The doctor: each light from what was measured, its remedy, and no traceback of its own."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from vla_pruner_ros.doctor import cli, machine, parameters, policy, ros_graph, ros_setup
from vla_pruner_ros.doctor.finding import GREEN, RED, YELLOW, examine, green, red, summary
from vla_pruner_ros.models.untrained import write_untrained_checkpoint


def levels(findings) -> dict[str, str]:
    return {finding.text: finding.level for finding in findings}


def test_the_machine_is_examined_without_ros():
    found = list(machine.machine_findings())
    texts = " ".join(finding.text for finding in found)
    for words in ("Python 3.", "torch", "of host memory available", "/dev/shm", "clock", "load"):
        assert words in texts
    assert all(finding.remedy for finding in found if finding.level != GREEN)


def test_a_gpu_that_torch_does_not_use_is_red(monkeypatch, tmp_path):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "GPU_FILES", (str(tmp_path),))
    [finding] = machine._torch()
    assert finding.level == RED
    assert "CUDA" in finding.remedy
    monkeypatch.setattr(machine, "GPU_FILES", ())
    [finding] = machine._torch()
    assert (finding.level, "no GPU" in finding.text) == (YELLOW, True)


@pytest.mark.parametrize(("free", "level"), [(64 * 2**20 - 1, YELLOW), (64 * 2**20, GREEN)])
def test_little_shared_memory_is_yellow(monkeypatch, free, level):
    usage = SimpleNamespace(free=free, total=2**30)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    assert [finding.level for finding in machine._shared_memory()] == [level]


def test_a_checkpoint_is_measured_from_its_headers():
    weights = policy.read_weights("openvla_oft_small")
    assert weights.family == "openvla_oft"
    assert weights.robot == "metaworld"
    assert 1e6 < weights.parameters < 2e7
    assert weights.bytes_in("bfloat16") == 2 * weights.parameters


@pytest.mark.parametrize(("free", "level"), [(10**12, GREEN), (0, RED)])
def test_memory_for_the_checkpoint(monkeypatch, free, level):
    monkeypatch.setattr(policy, "_available", lambda device: free)
    [finding] = policy.checkpoint_findings("openvla_small", "cpu", "auto")
    assert finding.level == level
    assert "million parameters" in finding.text
    assert "in float32 on cpu" in finding.text


def test_memory_that_barely_holds_the_weights_is_yellow(monkeypatch, tmp_path):
    write_untrained_checkpoint(tmp_path)
    size = policy.read_weights(str(tmp_path)).bytes_in("bfloat16")
    monkeypatch.setattr(policy, "_available", lambda device: 1.1 * size)
    [finding] = policy.checkpoint_findings(str(tmp_path), "cpu", "bfloat16")
    assert finding.level == YELLOW


def test_a_checkpoint_that_is_none_is_red_with_the_loader_s_sentence(tmp_path):
    [finding] = policy.checkpoint_findings(str(tmp_path / "nowhere"), "cpu", "auto")
    assert finding.level == RED
    assert "nowhere" in finding.text


@pytest.mark.parametrize(
    ("robot", "checkpoint", "dry_run", "level", "words"),
    [
        ("metaworld", "", False, GREEN, "metaworld"),
        ("", "openvla_oft_small", False, GREEN, "named by the checkpoint"),
        ("", "", False, YELLOW, "neither checkpoint nor robot profile is named"),
        ("", "/nowhere", False, RED, "will not configure"),
        ("", "/nowhere", True, YELLOW, "preview"),
        ("nobody", "", False, RED, "neither a file nor a bundled profile"),
    ],
)
def test_the_robot_profile(robot, checkpoint, dry_run, level, words):
    [finding] = policy.robot_findings(robot, checkpoint, dry_run)
    assert finding.level == level
    assert words in finding.text


def test_limits_of_a_parameter_file(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(
        "/**/vla_pruner:\n  ros__parameters:\n    max_translation: 0.01\n"
        "    workspace: [0, 0, 0, 1, 1, 1]\n"
    )
    found = levels(parameters.limit_findings(parameters.read_parameters(path)))
    assert found == {
        "max_translation is 0.01 m per action": GREEN,
        "max_rotation is 0.25 rad per action": YELLOW,
        "workspace is [0, 0, 0, 1, 1, 1] (m)": GREEN,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not valid YAML"),
        ("3", "holds no parameters"),
        ("camera: {ros__parameters: {x: 1}}", "none for vla_pruner"),
        ("vla_pruner: {x: 1}", "has no ros__parameters"),
    ],
)
def test_a_file_that_is_no_parameter_file_is_named(tmp_path, text, words):
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        parameters.read_parameters(path)


def test_the_default_limits_are_the_node_s():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: the node's settings need it")
    from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings

    for name, value in parameters.DEFAULTS.items():
        assert getattr(NodeSettings, name) == value


@pytest.mark.parametrize(
    ("environment", "level", "words"),
    [
        ({}, GREEN, "domain 0, discovery range SUBNET"),
        ({"ROS_DOMAIN_ID": "x"}, RED, "ROS_DOMAIN_ID is 'x'"),
        ({"ROS_DOMAIN_ID": "200"}, YELLOW, "ROS_DOMAIN_ID is 200"),
        ({"ROS_LOCALHOST_ONLY": "1"}, YELLOW, "other computers are not seen"),
    ],
)
def test_the_environment_of_ros(environment, level, words):
    found = list(ros_setup._domain(environment))
    assert (level, True) in [(f.level, words in f.text) for f in found]


def test_a_profile_for_large_images_is_enough_for_fast_dds():
    [without] = ros_setup._middleware({})
    [with_profile] = ros_setup._middleware({ros_setup.LARGE_IMAGES[0]: "x.xml"})
    [other] = ros_setup._middleware({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert [without.level, with_profile.level, other.level] == [YELLOW, GREEN, GREEN]


def test_without_ros_the_doctor_says_what_still_works(monkeypatch):
    monkeypatch.setattr(ros_setup, "find_spec", lambda name: None)
    found = list(ros_setup.setup_findings({}))
    assert found[0].level == YELLOW
    assert "vla_pruner_replay works without it" in found[0].remedy
    assert not ros_setup.has_ros()


@pytest.mark.parametrize(
    ("ages", "period", "level", "words"),
    [
        ([0.05] * 5, 0.1, GREEN, "10.0 Hz, 8x6 rgb8, 50 ms old"),
        ([0.05] * 3, 1.0, YELLOW, "1.0 Hz"),
        ([3600.0] * 5, 0.1, RED, "3600000 ms old"),
        ([-2.0] * 5, 0.1, RED, "-2000 ms old"),
        ([], 0.1, RED, "no image arrived"),
    ],
)
def test_a_camera_by_rate_and_age(ages, period, level, words):
    heard = ros_graph.HeardTopic("/image_raw", "sensor_msgs/msg/Image")
    for number, age in enumerate(ages):
        now = 1e9 + number * period
        whole, part = divmod(now - age, 1.0)
        stamp = SimpleNamespace(sec=int(whole), nanosec=int(part * 1e9))
        header = SimpleNamespace(stamp=stamp)
        message = SimpleNamespace(header=header, encoding="rgb8", width=8, height=6)
        heard.add(message, now)
    finding = ros_graph.camera_finding(heard)
    assert finding.level == level
    assert words in finding.text


def test_a_check_that_fails_itself_is_a_finding():
    def _broken():
        raise RuntimeError("oh\nno")
        yield

    [finding] = examine("area", [_broken])
    assert finding.text == "broken could not be checked: RuntimeError: oh no"
    assert finding.level == YELLOW


def test_the_program_prints_lights_and_json(capsys):
    assert cli.main(["--no-ros", "--checkpoint", "openvla_small", "--robot", "metaworld"]) in (0, 1)
    printed = capsys.readouterr().out
    assert "checkpoint  openvla_small: openvla" in printed
    assert printed.strip().splitlines()[-1].count(",") == 2
    assert cli.main(["--no-ros", "--json", "--robot", "nobody"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == cli.SCHEMA
    assert {"area", "level", "text", "remedy"} == set(content["findings"][0])
    assert RED in {finding["level"] for finding in content["findings"]}


def test_lines_and_summary():
    found = [green("a", "fine"), red("b", "broken", "fix it")]
    assert found[1].line(False).startswith("red     b           broken\n")
    assert found[1].line(False).endswith("-> fix it")
    assert "\033[31m" in found[1].line(True)
    assert summary(found) == "1 red, 0 yellow, 1 green"


@pytest.mark.realtime
def test_cameras_and_node_of_a_running_graph():
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    pytest.importorskip("vla_pruner_ros.msg", reason="the messages are not built")
    from sensor_msgs.msg import Image

    with ros_graph.GraphListener("doctor_test_camera") as camera:
        publisher = camera.node.create_publisher(Image, "/doctor_test/image_raw", 10)

        def publish():
            message = Image(width=4, height=2, encoding="rgb8", step=12, data=bytes(24))
            message.header.stamp = rclpy.clock.Clock().now().to_msg()
            publisher.publish(message)

        camera.node.create_timer(0.05, publish)
        topics = ["/doctor_test/image_raw", "/doctor_test/missing"]
        found = list(ros_graph.graph_findings(topics, seconds=1.5))
    cameras = {f.text.partition(":")[0]: f.level for f in found if f.area == ros_graph.CAMERA}
    assert cameras["/doctor_test/image_raw"] == GREEN, found
    assert cameras["nobody publishes /doctor_test/missing"] == RED
    assert any(f.area == ros_graph.NODE for f in found)
