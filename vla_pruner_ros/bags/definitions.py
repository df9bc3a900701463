"""Message definitions to read and write bags with: those in the bag, ROS 2's own, and ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from vla_pruner_ros.resources import PACKAGE, share_directory

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGES = (IMAGE, COMPRESSED_IMAGE)
FOXGLOVE_IMAGES = ("foxglove_msgs/msg/RawImage", "foxglove_msgs/msg/CompressedImage")
VIDEO = {
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "video of ffmpeg_image_transport",
    "foxglove_msgs/msg/CompressedVideo": "video of Foxglove",
    "theora_image_transport/msg/Packet": "theora video",
}
"""Types that hold images as a video stream, and their plain names."""
DECODABLE_VIDEO = tuple(VIDEO)[:2]
STRING = "std_msgs/msg/String"
JOINT_STATE = "sensor_msgs/msg/JointState"
POSE = "geometry_msgs/msg/PoseStamped"
PARAMETER_EVENT = "rcl_interfaces/msg/ParameterEvent"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
CLOCK = "rosgraph_msgs/msg/Clock"
ACTION_CHUNK = f"{PACKAGE}/msg/ActionChunk"
PRUNING_STATUS = f"{PACKAGE}/msg/PruningStatus"
END_EFFECTOR_ACTION = f"{PACKAGE}/msg/EndEffectorAction"

_SEPARATOR = "=" * 80 + "\n"


def standard_store(distribution: Stores = Stores.LATEST) -> Typestore:
    """Return the message types of a ROS 2 distribution and of this package."""
    store = get_typestore(distribution)
    store.register(own_types())
    return store


def store_for(connections: Iterable[Connection], distribution: str | None) -> Typestore:
    """Return the message types of one bag.

    The definitions embedded in the bag come first, so that a bag stays readable when a message
    changes; what the bag lacks (sqlite3 bags of Humble carry none) is taken from the distribution
    that wrote it, or the latest.

    Args:
        connections: of the bag, see rosbags.interfaces.Connection.
        distribution: `ros_distro` of the bag's metadata, or None.
    """
    store = get_typestore(Stores.EMPTY)
    for connection in connections:
        try:
            store.register(_embedded_types(connection))
        except (TypesysError, SyntaxError, KeyError):
            continue  # this type stays unknown, or is the distribution's
    for name in _endless(store):
        del store.fielddefs[name]
    standard = standard_store(_distribution(distribution))
    for name in standard.fielddefs.keys() - store.fielddefs.keys():
        store.fielddefs[name] = standard.fielddefs[name]
        store.types[name] = standard.types[name]
    return store


def _endless(store: Typestore) -> set[str]:
    """Return the types that contain themselves: reading one would never end."""
    parts = {name: _parts(fields) for name, (_, fields) in store.fielddefs.items()}
    while True:  # take away types of which all parts are known to end, until none is left
        ending = {name for name, inner in parts.items() if not inner & parts.keys()}
        if not ending:
            return set(parts)
        parts = {name: inner for name, inner in parts.items() if name not in ending}


def _parts(fields: Iterable[Any]) -> set[str]:
    """Return the names of the types that a type's fields name."""

    def names(description: Any) -> Iterator[str]:
        if isinstance(description, str):
            yield description
        elif isinstance(description, tuple):
            for part in description:
                yield from names(part)

    return {name for _, description in fields for name in names(description)}


def standard_name(msgtype: str) -> str:
    """Return a type's name as ROS 2 writes it: sensor_msgs/Image becomes sensor_msgs/msg/Image."""
    package, slash, name = msgtype.partition("/")
    return msgtype if "/" in name or not slash else f"{package}/msg/{name}"


def is_embedded(connection: Connection) -> bool:
    """Return whether the bag holds the definition of a topic's messages."""
    return bool(connection.msgdef.data.strip())


def _embedded_types(connection: Connection) -> dict:
    kind, text = connection.msgdef
    if not text.strip():  # the recorder did not know it; it is no type without fields
        return {}
    if kind == MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, standard_name(connection.msgtype))
    if kind == MessageDefinitionFormat.IDL:
        return _idl_types(text)
    return {}


def _idl_types(text: str) -> dict:
    """Parse concatenated IDL files, each headed by a separator and `IDL: name`."""
    if not text.startswith(_SEPARATOR + "IDL: "):
        return get_types_from_idl(text)
    types: dict = {}
    for part in text.split(_SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.split("\n", 1)[1]))
    return types


def own_types() -> dict:
    """Return the message types of this package, by name."""
    types: dict = {}
    for path in sorted((share_directory() / "msg").glob("*.msg")):
        types.update(get_types_from_msg(path.read_text("utf-8"), f"{PACKAGE}/msg/{path.stem}"))
    return types


def _distribution(name: str | None) -> Stores:
    requested = f"ros2_{name}"
    return next((store for store in Stores if store.value == requested), Stores.LATEST)
