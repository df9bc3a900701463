"""The node's state as diagnostic_msgs/DiagnosticArray, with a sentence that says what to do."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

_WARNING_COUNTS = {
    "deadline_misses": "inferences took longer than target_latency: lower keep_ratio",
    "frames_unusable": "images could not be used: see the log for the first reason",
    "frames_lost": "images were lost on the way here: see Large pictures in docs/node.md",
    "instructions_refused": "instructions were refused: see the log",
}


def judge(state: dict[str, Any]) -> tuple[bytes, str]:
    """Return (level, sentence) of a state as VlaPrunerNode.state() gives it."""
    if state["held"]:
        return DiagnosticStatus.ERROR, (
            f"Motion is held after repeated failures: {state['problem']} Mend the cause, then call "
            "~/reset or deactivate and activate the node."
        )
    if state["lifecycle"] == "unconfigured" and state["problem"]:
        return DiagnosticStatus.ERROR, f"Not configured: {state['problem']}"
    if state["lifecycle"] != "active":
        return DiagnosticStatus.OK, f"Not active ({state['lifecycle']}): no motion"
    if state["problem"]:
        level = DiagnosticStatus.WARN if state["waiting"] else DiagnosticStatus.ERROR
        return level, state["problem"]
    recent = [text for name, text in _WARNING_COUNTS.items() if state["new"].get(name)]
    if any(name.startswith("clamped_") for name in state["new"]):
        recent.append("actions met their limits and were shortened")
    if state["trained"] is False:
        recent.append("the weights are untrained: actions mean nothing")
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
