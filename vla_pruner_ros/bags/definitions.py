"""Message definitions to read and write bags with: those in the bag, ROS 2's own, and ours."""

from __future__ import annotations

from collections.abc import Iterable

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags.bounds import MAX_DEFINITION, extents
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
    for name in _unreadable(store):
        del store.fielddefs[name]
    standard = standard_store(named_distribution(distribution))
    for name in standard.fielddefs.keys() - store.fielddefs.keys():
        store.fielddefs[name] = standard.fielddefs[name]
        store.types[name] = standard.types[name]
    return store


def _unreadable(store: Typestore) -> set[str]:
    """Return the types that contain themselves or have no bound: reading one would never end."""
    found = extents(store.fielddefs)
    return {name for name in store.fielddefs if name not in found or not found[name].is_bounded}


def standard_name(msgtype: str) -> str:
    """Return a type's name as ROS 2 writes it: sensor_msgs/Image becomes sensor_msgs/msg/Image."""
    package, slash, name = msgtype.partition("/")
    return msgtype if "/" in name or not slash else f"{package}/msg/{name}"


def is_embedded(connection: Connection) -> bool:
    """Return whether the bag holds the definition of a topic's messages."""
    return bool(connection.msgdef.data.strip())


def _embedded_types(connection: Connection) -> dict:
    kind, text = connection.msgdef
    # If it is empty, the recorder did not know it: it is no type without fields.
    if not text.strip() or len(text) > MAX_DEFINITION:
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


def named_distribution(name: str | None) -> Stores:
    """Return the distribution of a name such as "humble", the latest if it is not known."""
    requested = f"ros2_{name}"
    return next((store for store in Stores if store.value == requested), Stores.LATEST)
