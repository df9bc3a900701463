"""Message types of this package as earlier releases had them.

A bag usually holds its definitions. The sqlite3 bags of Humble hold none: what was recorded there
with an earlier release can only be read with that release's fields.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags.definitions import ACTION_CHUNK, PRUNING_STATUS, own_types


class _Step(NamedTuple):
    """One release back: fields that were not there yet."""

    msgtype: str
    missing: frozenset[str]


_PROFILE = frozenset({"robot", "width", "action_names", "action_units", "state", "state_names"})
_STAMPS = frozenset({"image_stamps", "state_stamp"})
_STEPS = (
    _Step(ACTION_CHUNK, _PROFILE),
    _Step(ACTION_CHUNK, _PROFILE | _STAMPS),
    _Step(PRUNING_STATUS, frozenset({"preset"})),
)


@cache
def earlier_stores(msgtype: str) -> tuple[Typestore, ...]:
    """Return stores that know earlier forms of a type of this package, the newest first."""
    return tuple(_without(msgtype, step.missing) for step in _STEPS if step.msgtype == msgtype)


def _without(msgtype: str, missing: frozenset[str]) -> Typestore:
    constants, fields = own_types()[msgtype]
    kept = [field for field in fields if field[0] not in missing]
    store = get_typestore(Stores.LATEST)
    store.register({msgtype: (constants, kept)})
    return store
