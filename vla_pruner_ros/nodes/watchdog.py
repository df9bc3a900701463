"""What has fallen silent while the arm may be moving."""

from __future__ import annotations

import time

from vla_pruner_ros.nodes.end_effector import EndEffector
from vla_pruner_ros.nodes.inference import NotReady
from vla_pruner_ros.nodes.inputs import Inputs
from vla_pruner_ros.nodes.parameters import Settings


def silence(
    inputs: Inputs,
    end_effector: EndEffector,
    settings: Settings,
    needs_state: bool,
    waiting_since: float,
) -> str:
    """Return a sentence about the input that stopped, empty where all that is needed arrives.

    An inference checks its own inputs; this is for the time between two, while a chunk plays.
    waiting_since: since when (time.monotonic(), s) cameras that never delivered are waited for.
    """
    return (
        _silent_cameras(inputs, settings, time.monotonic() - waiting_since)
        or (_silent_state(inputs, settings) if needs_state else "")
        or (_silent_pose(end_effector, settings) if settings.workspace else "")
    )


def _silent_cameras(inputs: Inputs, settings: Settings, waited: float) -> str:
    limit, topics = settings.max_image_age, settings.image_topics
    ages = [waited if age is None else age for age in inputs.camera_ages()]
    silent = [camera for camera, age in enumerate(ages) if age > limit]
    if not silent:
        return ""
    names = ", ".join(topics[camera] for camera in silent)
    sentence = f"No image on {names} for over {limit:.2f} s: motion stops"
    if any(inputs.has_publisher(camera) for camera in silent):
        sentence += (
            ", though there is a publisher. Pictures of 0.5 MB and more can be lost on the way: "
            "see Large pictures in docs/node.md"
        )
    return sentence


def _silent_state(inputs: Inputs, settings: Settings) -> str:
    if time.monotonic() - inputs.joint_state_arrival <= settings.max_state_age:
        return ""
    return (
        "The model needs the robot's state, but no joint state arrived for over "
        f"{settings.max_state_age:.2f} s: motion stops"
    )


def _silent_pose(end_effector: EndEffector, settings: Settings) -> str:
    try:
        end_effector.pose(settings)
    except NotReady as reason:
        return str(reason)
    return ""
