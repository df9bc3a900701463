"""The node's state as diagnostic_msgs/DiagnosticArray, with a sentence that names the remedy."""

from __future__ import annotations

import math
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vla_pruner_ros.control.health import Health
from vla_pruner_ros.models.execution.device_memory import device_memory_mb
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.readiness import Reason
from vla_pruner_ros.nodes.vla_pruner.runner import PolicyRunner

_LOST = "Images were lost on the way here: see Check the cameras in docs/how-to/run_on_a_robot.md."
_WARNING_COUNTS = {
    "deadline_misses": "inferences took longer than target_latency: lower keep_ratio",
    "frames_unusable": "images, states or poses were unusable: see the log for the first reason",
    "frames_lost": _LOST,
    "callbacks_failed": "callbacks failed: see the log",
    "instructions_refused": "instructions were refused: see the log",
}


PROGRESS_PATIENCE = 2.0
"""Seconds without an inference, above its usual time, after which the node is not well."""
MOMENTARY = ("late",)
"""Causes that hold until the next inference; the others are judged at each report."""


class Reported(Host, Protocol):
    """A node whose state can be reported."""

    lifecycle: str
    runner: PolicyRunner


class Reporter:
    """Publishes `/diagnostics` and logs when the level changes."""

    def __init__(self, node: Reported) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._last_level = b""
        self.clear()

    def clear(self) -> None:
        """Start the counts again at 0."""
        self._counts_reported: dict[str, int] = {}

    def report(self) -> None:
        """Publish the present state."""
        node = self._node
        node.runner.motion.measure_arm()
        state = self.state()
        if node.runner.inputs:
            node.runner.inputs.look()
        stamp = node.get_clock().now().to_msg()
        self._publisher.publish(diagnostics_message(state, node.get_name(), stamp))
        level, sentence = judge(state)
        if level != self._last_level:
            node.log.info(f"Diagnostics: {sentence}")
        self._last_level = level

    def state(self) -> dict[str, Any]:
        """Return what diagnostics show; `new` holds the counts since the last call."""
        node, runner = self._node, self._node.runner
        health, inputs, policy = node.health, runner.inputs, runner.policy
        counts = health.counts()
        new = {k: v - self._counts_reported.get(k, 0) for k, v in counts.items()}
        self._counts_reported = counts
        pruning = node.parameters.settings.pruning
        reasons = runner.readiness.reasons() if runner.readiness else []
        return {
            "lifecycle": node.lifecycle,
            "held": runner.held,
            "waiting": health.waiting or not health.problem,
            "reasons": [reason.sentence for reason in reasons],
            "problem": self._present_problem(reasons),
            "instruction": runner.instruction,
            "model": policy.family if policy else "",
            "checkpoint": node.parameters.settings.checkpoint if policy else "",
            "device": str(getattr(policy, "device", "")),
            "dtype": str(getattr(policy, "dtype", "")),
            "trained": policy.trained if policy else None,
            "robot": runner.profile.name if runner.profile else "",
            "dry_run": node.parameters.settings.dry_run,
            "method": pruning.method,
            "keep_ratio": pruning.keep_ratio,
            "budget_mode": pruning.budget_mode,
            "frame_age": [-1.0 if a is None else a for a in inputs.camera_ages()] if inputs else [],
            "frames_replaced": inputs.frames.replaced if inputs else 0,
            "camera_spread": inputs.frames.spread() if inputs else 0.0,
            "cameras_missing": inputs.cameras_missing() if inputs else [],
            "latency_p50": health.latency.percentile(50),
            "latency_p95": health.latency.percentile(95),
            "overhead_p50": health.overhead.percentile(50),
            "overhead_p95": health.overhead.percentile(95),
            **runner.outputs.tokens,
            "arm_latency_measured": runner.motion.arm_latency_measured,
            "arm_latency": node.parameters.settings.arm_latency,
            "queue_length": runner.motion.queue_length,
            "queue_age": runner.motion.queue_age(),
            "device_memory_mb": device_memory_mb(),
            **(policy.diagnostics() if hasattr(policy, "diagnostics") else {}),
            "counts": counts,
            "new": {k: v for k, v in new.items() if v},
        }

    def _present_problem(self, reasons: list[Reason]) -> str:
        """Return what keeps the node from moving now, never a reason that is past."""
        health, runner = self._node.health, self._node.runner
        active = self._node.lifecycle == "active"
        if active and reasons and (health.waiting or not health.problem):
            return " ".join(reason.sentence for reason in reasons)
        if active and health.waiting and health.cause not in MOMENTARY:
            return "Waiting for the next inference: all inputs are here again"
        if health.problem or not active:
            return health.problem
        return self._no_progress(health, runner)

    def _no_progress(self, health: Health, runner: PolicyRunner) -> str:
        """Return a sentence if no inference completes though nothing forbids it."""
        usual = health.latency.percentile(95)
        limit = PROGRESS_PATIENCE + (0.0 if math.isnan(usual) else 3.0 * usual)
        if math.isnan(usual) and runner.busy_for():
            limit = self._node.parameters.settings.inference_timeout
        if health.since_progress() <= limit:
            return ""
        discarded = health.counts().get("results_discarded", 0)
        return (
            f"No inference has completed for over {limit:.1f} s, though all inputs are here: "
            f"{discarded} results were discarded because the instruction changed, the clock "
            "jumped or ~/reset was called meanwhile"
            if discarded
            else f"No inference has completed for over {limit:.1f} s, though all inputs are here"
        )


def judge(state: dict[str, Any]) -> tuple[bytes, str]:
    """Return (level, sentence) of a state as Reporter.state() gives it."""
    if state["held"]:
        return DiagnosticStatus.ERROR, (
            f"Motion is held after repeated failures: {state['problem']} Fix the cause, then call "
            "~/reset or deactivate and activate the node."
        )
    if state["lifecycle"] == "unconfigured" and state["problem"]:
        return DiagnosticStatus.ERROR, f"Not configured: {state['problem']}"
    if state["lifecycle"] == "inactive" and state["problem"] and not state["waiting"]:
        return DiagnosticStatus.ERROR, f"Not active: {state['problem']}"
    if state["lifecycle"] != "active":
        return DiagnosticStatus.OK, f"Not active ({state['lifecycle']}): no motion"
    if state["problem"]:
        level = DiagnosticStatus.WARN if state["waiting"] else DiagnosticStatus.ERROR
        lost = f" {_LOST}" if state["new"].get("frames_lost") else ""
        return level, state["problem"] + lost
    recent = [text for name, text in _WARNING_COUNTS.items() if state["new"].get(name)]
    if state["cameras_missing"]:
        recent.append(f"without {', '.join(state['cameras_missing'])}: check the camera")
    if any(name.startswith("clamped_") for name in state["new"]):
        recent.append("actions met their limits and were shortened")
    measured = state.get("arm_latency_measured")
    if measured is not None and measured > state["arm_latency"]:
        recent.append(f"the arm answers after {measured:.2f} s: set arm_latency to that")
    if state["trained"] is False:
        recent.append("the weights are untrained: actions mean nothing")
    if state.get("dry_run"):
        recent.append("dry run: commands go to ~/preview/ alone and nothing moves")
    if recent:
        return DiagnosticStatus.WARN, "Running, but " + "; ".join(recent)
    return DiagnosticStatus.OK, "Running"


def diagnostics_message(state: dict[str, Any], name: str, stamp: Any) -> DiagnosticArray:
    """Build the array with one status; every value of the state becomes a key."""
    level, sentence = judge(state)
    flat = {**state, **state["counts"]}
    for key in ("counts", "new"):
        flat.pop(key)
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: policy",
        message=sentence,
        hardware_id=name,
        values=[KeyValue(key=key, value=_text(value)) for key, value in sorted(flat.items())],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
