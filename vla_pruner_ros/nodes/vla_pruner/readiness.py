"""What has fallen silent while the arm may be moving."""

from __future__ import annotations

import time

from vla_pruner_ros.nodes.vla_pruner.end_effector import EndEffector
from vla_pruner_ros.nodes.vla_pruner.inputs import NodeInputs
from vla_pruner_ros.nodes.vla_pruner.not_ready import NotReady
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings


def silence(
    inputs: NodeInputs,
    end_effector: EndEffector,
    settings: NodeSettings,
    needs_state: bool,
) -> str:
    """Return a sentence about the input that stopped, empty where all that is needed arrives.

    An inference checks its own inputs; this is for the time between two, while a chunk plays.
    """
    return (
        _silent_cameras(inputs, settings)
        or (silent_state(inputs.joint_state_arrival, settings) if needs_state else "")
        or (_silent_pose(end_effector, settings) if settings.workspace else "")
    )


def _silent_cameras(inputs: NodeInputs, settings: NodeSettings) -> str:
    limit, topics = settings.max_image_age, settings.image_topics
    silent = [camera for camera, age in enumerate(inputs.frames.silence()) if age > limit]
    goes_on = settings.on_camera_loss == "continue" and len(silent) < len(topics)
    if not silent or goes_on:
        return ""
    names = ", ".join(topics[camera] for camera in silent)
    return f"No image on {names} for over {limit:.2f} s: motion stops"


def _silent_pose(end_effector: EndEffector, settings: NodeSettings) -> str:
    try:
        end_effector.pose(settings)
    except NotReady as reason:
        return str(reason)
    return ""


def silent_state(arrival: float, settings: NodeSettings) -> str:
    """Return a sentence where the newest joint state is too old, else an empty one.

    arrival: of that joint state, time.monotonic() (s); -inf before the first.
    """
    if time.monotonic() - arrival <= settings.max_state_age:
        return ""
    return (
        "The model needs the robot's state, but no joint state arrived for over "
        f"{settings.max_state_age:.2f} s: motion stops"
    )
