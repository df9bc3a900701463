"""Parameters of a node over time, as rcl_interfaces/ParameterEvent messages in a bag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags.definitions import PARAMETER_EVENT
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.bags.stamps import nanoseconds, time_message
from vla_pruner_ros.pruning.config import current_names

Changes = list[tuple[int, dict[str, Any]]]
"""Stamp (ns) and values by name, in the order of the bag."""

_FIELDS = (  # by rcl_interfaces/ParameterType
    None,
    "bool_value",
    "integer_value",
    "double_value",
    "string_value",
    "byte_array_value",
    "bool_array_value",
    "integer_array_value",
    "double_array_value",
    "string_array_value",
)
_ARRAYS = {"bool_array_value": bool, "integer_array_value": np.int64, "double_array_value": float}


def read_parameters(reader: BagReader, node: str) -> Changes:
    """Return the parameter changes of a node, under today's names.

    A parameter without a value is left out: the node declares old names so to refuse them.
    """
    changes = []
    for record in reader.messages({"/parameter_events"}):
        try:
            event = reader.decode(record)
        except BagError:
            continue
        if event.node == node:
            set_to = [*event.new_parameters, *event.changed_parameters]
            values = plain_values([p.name for p in set_to], [p.value for p in set_to])
            known = {name: value for name, value in values.items() if value is not None}
            changes.append((nanoseconds(event.stamp), current_names(known)))
    return changes


def first_parameters(changes: Changes) -> dict[str, Any]:
    """Return the earliest value of every parameter: a starting node declares them one by one."""
    values: dict[str, Any] = {}
    for _, change in sorted(changes, key=lambda change: -change[0]):
        values.update(change)
    return values


def plain_values(names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
    """Return ParameterValue messages as plain values by name; None if one is not set."""
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}


def make_event(
    store: Typestore, stamp: int, node: str, names: Iterable[str], values: Iterable[Any]
) -> bytes:
    """Serialise an event that gives parameters these values.

    rclpy's own serialisation leaves bytes behind the message that strict readers refuse.

    Args:
        stamp: in ns. values: rcl_interfaces/ParameterValue messages of rclpy or the store.
    """
    make = store.types
    changed = [
        make["rcl_interfaces/msg/Parameter"](name=name, value=_message(store, value))
        for name, value in zip(names, values, strict=True)
    ]
    event = make[PARAMETER_EVENT](
        stamp=time_message(store, stamp),
        node=node,
        new_parameters=[],
        changed_parameters=changed,
        deleted_parameters=[],
    )
    return bytes(store.serialize_cdr(event, PARAMETER_EVENT))


def _plain(value: Any) -> Any:
    kind = int(value.type)
    field = _FIELDS[kind] if 0 <= kind < len(_FIELDS) else None
    if field is None:
        return None
    found = getattr(value, field)
    return found.tolist() if isinstance(found, np.ndarray) else found


def _message(store: Typestore, value: Any) -> Any:
    plain = {field: getattr(value, field) for field in _FIELDS if field}
    for field, dtype in _ARRAYS.items():
        plain[field] = np.asarray(plain[field], dtype=dtype)
    octets = [one if isinstance(one, bytes) else bytes([one]) for one in plain["byte_array_value"]]
    plain["byte_array_value"] = np.frombuffer(b"".join(octets), np.uint8)
    plain["string_array_value"] = list(plain["string_array_value"])
    return store.types["rcl_interfaces/msg/ParameterValue"](type=int(value.type), **plain)
