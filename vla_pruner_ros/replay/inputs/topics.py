"""Topics of a bag in their roles: cameras, instruction, state and the node's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.reader import BagError, Topic
from vla_pruner_ros.replay.inputs.video import can_decode, why_not

_NOT_CAMERAS = ("overlay", "depth", "disparity", "mask")
"""Parts of topic names that exclude an image topic from a policy's cameras."""

COMMANDS = (
    "action",
    "twist",
    "target_pose",
    "joint_trajectory",
    "joint_command",
    "gripper_command",
    "gripper_trajectory",
)
"""Commands of a node to controllers; in a dry run they are below preview/."""
_COMMAND_TYPES = (
    types.END_EFFECTOR_ACTION,
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
    "trajectory_msgs/msg/JointTrajectory",
    "control_msgs/msg/JointJog",
)
"""Types that are commands on any topic; others are where the name is one of COMMANDS."""


@dataclass(frozen=True)
class TopicSelection:
    """Topics chosen by the user; empty means: find it by type."""

    images: tuple[str, ...] = ()
    instruction: str = ""
    state: str = ""
    node: str = ""


@dataclass(frozen=True)
class Topics:
    """The topics to replay from; None where the bag has none.

    images: one per camera, in the policy's order.
    node: full name of the recorded node, for example /vla_pruner.
    states: prefix of the joints and topic, for every topic whose joint states are merged.
    pose: of the end effector.
    """

    images: tuple[str, ...]
    instruction: str | None
    state: str | None
    chunks: str | None
    status: str | None
    parameters: str | None
    node: str
    states: tuple[tuple[str, str], ...] = ()
    pose: str | None = None


def find_node(topics: Mapping[str, Topic], chosen: str = "") -> str:
    """Return the name of the node that published ActionChunk, else PruningStatus or
    EndEffectorAction; "" if none did.

    Raises:
        BagError: several did and none was chosen, or the chosen one is not there.
    """
    found: list[str] = []
    for msgtype in (types.ACTION_CHUNK, types.PRUNING_STATUS, types.END_EFFECTOR_ACTION):
        found = found or [
            parent
            for parent, _, _ in (
                t.name.rpartition("/") for t in topics.values() if t.msgtype == msgtype
            )
            if not parent.endswith("/preview")
        ]
    if chosen and chosen not in found:
        raise BagError(f"no node {chosen} was recorded; found: {_listed(found)}")
    if not chosen and len(found) > 1:
        raise BagError(f"several nodes were recorded: {_listed(found)}; choose one with --node")
    return chosen or (found[0] if found else "")


def choose_topics(
    topics: Mapping[str, Topic],
    num_cameras: int,
    selection: TopicSelection,
    recorded_images: Sequence[str] = (),
    recorded_states: Sequence[str] = (),
) -> Topics:
    """Choose by the user's selection, the recorded parameters, then the type and the name.

    Args:
        topics: of the bag.
        num_cameras: images the policy takes, 0 where that is not known.
        selection: the user's choice.
        recorded_images: parameter image_topics of the recorded node, if known.
        recorded_states: its parameter joint_state_topics.

    Raises:
        BagError: a topic is missing or the choice is not clear; the error lists the topics of the
            bag.
    """
    node = find_node(topics, selection.node)
    return Topics(
        images=_images(topics, num_cameras, selection.images, recorded_images),
        instruction=_one(topics, types.STRING, selection.instruction, "instruction"),
        state=_one(topics, types.JOINT_STATE, selection.state, "joint_states"),
        chunks=_of_node(topics, node, "action_chunk"),
        status=_of_node(topics, node, "pruning"),
        parameters="/parameter_events" if "/parameter_events" in topics else None,
        node=node,
        states=_states(topics, selection.state, recorded_states, node or ""),
        pose=_one(topics, types.POSE, "", "end_effector_pose"),
    )


def _states(
    topics: Mapping[str, Topic], chosen: str, recorded: Sequence[str], node: str
) -> tuple[tuple[str, str], ...]:
    """Return prefix and topic of the joint states: the user's, the recorded node's, or all.

    The recorded node listened in its own namespace. Only if nothing was recorded there (its topics
    were remapped), every topic of that name counts.
    """
    namespace, there = (
        node.rpartition("/")[0],
        [topic.name for topic in topics.values() if topic.msgtype == types.JOINT_STATE],
    )
    if chosen:
        return (("", chosen),)
    found = []
    for entry in recorded:
        prefix, _, name = entry.rpartition("=")
        resolved = name if name.startswith("/") else f"{namespace}/{name}"
        matches = [t for t in there if t.endswith("/" + name.lstrip("/"))]
        found += [(prefix, t) for t in ([resolved] if resolved in there else matches)]
    return tuple(found) or tuple(("", name) for name in there)


def _images(
    topics: Mapping[str, Topic],
    num_cameras: int,
    named: Sequence[str],
    recorded: Sequence[str],
) -> tuple[str, ...]:
    if named:
        chosen = tuple(_existing(topics, name) for name in named)
    else:
        chosen = _recorded_images(topics, recorded) or _cameras(topics)
    if not chosen:
        raise BagError(_no_cameras(topics))
    if num_cameras and len(chosen) != num_cameras:
        raise BagError(
            f"the policy takes {num_cameras} camera(s) and the bag offers {_listed(chosen)}; "
            "choose with --image-topic, once per camera in the policy's order"
        )
    return chosen


def _existing(topics: Mapping[str, Topic], name: str) -> str:
    if name not in topics:
        raise BagError(f"topic {name} is not in the bag; it has: {_listed(topics)}")
    msgtype = topics[name].msgtype
    if msgtype in types.VIDEO and not can_decode(msgtype):
        raise BagError(why_not(name, msgtype))
    if not _is_image(topics[name]):
        raise BagError(f"topic {name} is {msgtype}, not an image")
    return name


def _no_cameras(topics: Mapping[str, Topic]) -> str:
    """Return a sentence about a bag without readable images, with the types it has."""
    video = [t for t in topics.values() if t.msgtype in types.VIDEO]
    named = [f"{topic.name} ({topic.msgtype})" for topic in topics.values()]
    reasons = [why_not(topic.name, topic.msgtype) for topic in video]
    return "; ".join([*reasons, f"the bag has no image topic; it has: {_listed(named)}"])


def _recorded_images(topics: Mapping[str, Topic], recorded: Sequence[str]) -> tuple[str, ...]:
    """Find the parameter's names, as such or as their compressed variant, in any namespace."""
    chosen = []
    for name in recorded:
        endings = tuple(f"/{name.lstrip('/')}{suffix}" for suffix in ("", "/compressed"))
        matches = [t for t in topics.values() if _is_image(t) and t.name.endswith(endings)]
        if not matches:
            return ()
        # A recorder that began before the node had answered holds a few images of both kinds.
        best = min(matches, key=lambda t: (len(t.name.removesuffix("/compressed")), -t.count))
        chosen.append(best.name)
    return tuple(chosen)


def _cameras(topics: Mapping[str, Topic]) -> tuple[str, ...]:
    """Return the colour cameras by name, raw rather than compressed if both were recorded."""
    names = {
        t.name
        for t in topics.values()
        if _is_image(t) and not any(part in t.name.lower() for part in _NOT_CAMERAS)
    }
    return tuple(sorted(n for n in names if n.removesuffix("/compressed") not in names - {n}))


def _is_image(topic: Topic) -> bool:
    return topic.msgtype in (*types.IMAGES, *types.FOXGLOVE_IMAGES) or can_decode(topic.msgtype)


def _one(topics: Mapping[str, Topic], msgtype: str, chosen: str, usual: str) -> str | None:
    if chosen:
        if chosen not in topics or topics[chosen].msgtype != msgtype:
            raise BagError(f"the bag has no {msgtype} on {chosen}; it has: {_listed(topics)}")
        return chosen
    found = [topic.name for topic in topics.values() if topic.msgtype == msgtype]
    named = [name for name in found if name.endswith(usual)]
    # Any String may be a topic: a robot description is none, nor is a log.
    candidates = named if named or msgtype == types.STRING else found
    return candidates[0] if len(candidates) == 1 else None


def recorded_commands(topics: Mapping[str, Topic]) -> list[str]:
    """Return the topics of commands to an arm or a gripper."""
    return sorted(
        name
        for name, topic in topics.items()
        if topic.msgtype in _COMMAND_TYPES
        or (name.rpartition("/")[2] in COMMANDS and topic.msgtype != types.STRING)
    )


def remarks_on_choice(topics: Mapping[str, Topic], chosen: Topics) -> list[str]:
    """Return remarks on topics left unused because the choice is not clear."""
    found = []
    for name, topic, msgtype in (
        ("instruction", chosen.instruction, types.STRING),
        ("state", chosen.state, types.JOINT_STATE),
    ):
        candidates = [t.name for t in topics.values() if t.msgtype == msgtype]
        if topic is None and (len(candidates) > 1 or (candidates and msgtype == types.STRING)):
            found.append(
                f"no topic is taken as the {name}; it could be: {_listed(candidates)}; choose one "
                f"with --{name}-topic"
            )
    return found


def _of_node(topics: Mapping[str, Topic], node: str, name: str) -> str | None:
    full = f"{node}/{name}"
    return full if node and full in topics else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
