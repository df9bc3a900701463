"""Diagnostics say how it stands and what to do, in the level a robot's user expects."""

from __future__ import annotations

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from node_helpers import ControlledPolicy, bench
from rcl_interfaces.msg import Log

from vla_pruner_ros.models import loading
from vla_pruner_ros.nodes.vla_pruner.diagnostics import diagnostics_message, judge
from vla_pruner_ros.nodes.vla_pruner.loading import load_from_settings

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
RUNNING = {
    "lifecycle": "active",
    "held": False,
    "waiting": False,
    "problem": "",
    "trained": True,
    "cameras_missing": [],
    "counts": {"inferences": 7},
    "new": {},
}


@pytest.mark.parametrize(
    ("change", "level", "reason"),
    [
        ({}, OK, "Running"),
        ({"lifecycle": "inactive"}, OK, "Not active (inactive): no motion"),
        ({"lifecycle": "unconfigured"}, OK, "no motion"),
        (
            {"lifecycle": "unconfigured", "problem": "config.json is missing"},
            ERROR,
            "config.json is missing",
        ),
        ({"waiting": True, "problem": "Waiting for an instruction"}, WARN, "instruction"),
        ({"problem": "the policy is unwell"}, ERROR, "the policy is unwell"),
        ({"held": True, "problem": "out of memory."}, ERROR, "call ~/reset"),
        ({"held": True, "problem": "out of memory."}, ERROR, "out of memory"),
        ({"new": {"deadline_misses": 1}}, WARN, "lower keep_ratio"),
        ({"new": {"frames_unusable": 2}}, WARN, "see the log"),
        ({"new": {"instructions_refused": 1}}, WARN, "instructions were refused"),
        ({"new": {"clamped_rotation": 1}}, WARN, "shortened"),
        ({"trained": False}, WARN, "untrained"),
        ({"cameras_missing": ["wrist"]}, WARN, "without wrist"),
        ({"new": {"frames_lost": 1}}, WARN, "Check the cameras"),
        (
            {"waiting": True, "problem": "No image.", "new": {"frames_lost": 1}},
            WARN,
            "No image. Images were lost",
        ),
        ({"new": {"frames": 30, "actions": 10}}, OK, "Running"),
        ({"counts": {"clamped_rotation": 5, "deadline_misses": 9}}, OK, "Running"),
    ],
)
def test_level_and_sentence(change, level, reason):
    found, sentence = judge({**RUNNING, **change})
    assert found == level
    assert reason in sentence


def test_every_figure_users_look_for_is_there():
    with bench(ControlledPolicy()) as b:
        b.activate()
        b.show_until(lambda: b.count("actions") >= 2, "actions")
        message = diagnostics_message(
            b.node.state(), "vla_pruner", b.node.get_clock().now().to_msg()
        )
    values = {v.key: v.value for v in message.status[0].values}
    assert {
        "frame_age", "camera_spread", "latency_p50", "latency_p95", "overhead_p95", "keep_ratio",
        "budget_mode", "method", "tokens_requested", "tokens_kept", "history_length",
        "queue_length", "queue_age", "device_memory_mb", "frames",
        "frames_replaced", "inferences", "actions", "deadline_misses",
    } <= values.keys()  # fmt: skip
    assert float(values["latency_p95"]) >= 0.0
    assert values["tokens_kept"] == "4"


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_checkpoint_device_and_dtype_are_named(dtype, tmp_path, monkeypatch, capfd):
    """A Jetson ran on its CPU for months: the device was named nowhere."""
    monkeypatch.setattr(loading, "GPU_FILES", (str(tmp_path),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with bench(load_from_settings, checkpoint="untrained", dtype=dtype) as b:
        log = b.listen(Log, "/rosout", 200)
        b.until(lambda: b.client.count_publishers("/rosout"), "the log's publisher")
        assert {b.node.state()[name] for name in ("checkpoint", "device", "dtype")} == {""}
        assert b.change_state(1, patience=60.0)
        state = b.node.state()
        expected = "float32" if dtype == "auto" else dtype
        assert (state["checkpoint"], state["device"]) == ("untrained", "cpu")
        assert state["dtype"] == expected
        lines = lambda: [line.msg for line in log]
        b.until(lambda: any("device auto took the CPU, although" in x for x in lines()), "a WARN")
        b.until(
            lambda: any(f"openvla on cpu in torch.{expected}" in x for x in lines()),
            "the device in the log",
        )
        assert b.change_state(2)
        assert b.node.state()["device"] == ""


def test_failed_configure_shows_in_the_diagnostics():
    """It used to read 'Not active: no motion', level OK, with the reason only in the log."""
    with bench(ControlledPolicy(num_cameras=2)) as b:
        assert not b.change_state(1)
        level, sentence = judge(b.node.state())
        assert level == ERROR
        assert "2 camera" in sentence
