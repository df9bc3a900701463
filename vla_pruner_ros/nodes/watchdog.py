"""What has fallen silent while the arm may be moving."""

from __future__ import annotations

from vla_pruner_ros.nodes.end_effector import EndEffector
from vla_pruner_ros.nodes.inference import NotReady, silent_state
from vla_pruner_ros.nodes.inputs import Inputs
from vla_pruner_ros.nodes.parameters import Settings


def silence(
    inputs: Inputs,
    end_effector: EndEffector,
    settings: Settings,
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


def _silent_cameras(inputs: Inputs, settings: Settings) -> str:
    limit, topics = settings.max_image_age, settings.image_topics
    silent = [camera for camera, age in enumerate(inputs.frames.silence()) if age > limit]
    goes_on = settings.on_camera_loss == "continue" and len(silent) < len(topics)
    if not silent or goes_on:
        return ""
    names = ", ".join(topics[camera] for camera in silent)
    return f"No image on {names} for over {limit:.2f} s: motion stops"


def _silent_pose(end_effector: EndEffector, settings: Settings) -> str:
    try:
        end_effector.pose(settings)
    except NotReady as reason:
        return str(reason)
    return ""
