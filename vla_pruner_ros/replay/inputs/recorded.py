"""Recorded inferences of a node, and their parameters.

Read from ActionChunk, PruningStatus and /parameter_events before any image is touched.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_pruner_ros.bags.parameter_events import Changes, first_parameters
from vla_pruner_ros.bags.reader import BagError, BagMessage, BagReader
from vla_pruner_ros.bags.stamps import nanoseconds
from vla_pruner_ros.pruning.config import FIELD_NAMES, PRESETS, PruningConfig
from vla_pruner_ros.replay.inputs.topics import Topics


@dataclass(frozen=True)
class Kept:
    """Kept patches of one inference: per camera sorted uint16 row-major indices, and the grid."""

    indices: tuple[np.ndarray, ...]
    grid: tuple[int, int]

    @property
    def count(self) -> int:
        """Kept tokens of all cameras."""
        return sum(len(one) for one in self.indices)

    @property
    def is_whole(self) -> bool:
        """Every token of every camera was kept."""
        rows, columns = self.grid
        return self.count == rows * columns * len(self.indices)


@dataclass(frozen=True)
class Recorded:
    """One inference of the recorded node.

    received: when its ActionChunk was received (ns).
    image_stamps: of each camera (ns), 0 for one the node went on without, or of the first only in
        bags without the others.
    state_stamp: of the joint state (ns), 0 if not known.
    actions: float32 [steps, numbers]. period: between them (s), 0 if not known.
    state: that the policy took, empty in bags of earlier releases. robot: profile that explained
    its numbers, "" without one.
    pruning: settings in force, with the budget as a fixed one.
    resets: True: the temporal relevance was cleared just before; None: not recorded.
    history_length: steps of action relevance it was pruned with; None: not recorded.
    """

    received: int
    sequence: int
    image_stamps: tuple[int, ...]
    state_stamp: int
    started: int
    seconds: float
    instruction: str
    actions: np.ndarray
    period: float = 0.0
    state: tuple[float, ...] = ()
    robot: str = ""
    pruning: PruningConfig | None = None
    kept: Kept | None = None
    resets: bool | None = None
    history_length: int | None = None

    @property
    def stamp(self) -> int:
        """Stamp of the first image (ns)."""
        return next((stamp for stamp in self.image_stamps if stamp), 0)

    def went_without(self, camera: int) -> bool:
        """Return whether the inference went on without this camera."""
        return camera < len(self.image_stamps) and not self.image_stamps[camera]

    @property
    def is_unpruned(self) -> bool:
        """All visual tokens were kept, so that the actions depend on the images alone."""
        return self.kept is not None and self.kept.is_whole


@dataclass
class RecordedRun:
    """The recorded inferences in order, and sentences about what could not be read."""

    inferences: list[Recorded] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def read_recorded(
    reader: BagReader, topics: Topics, changes: Changes, limit: int = 0
) -> RecordedRun:
    """Read the recorded inferences; messages that cannot be read are left out.

    limit: inferences at most, 0 for all.
    """
    run = RecordedRun()
    chunks, statuses = _read_outputs(reader, topics, limit, run.skipped)
    tracked = any(status.history_length > 0 for status in statuses.values())
    values = first_parameters(changes)  # parameters before their first event
    upcoming = iter(sorted(changes, key=lambda change: change[0]))
    change = next(upcoming, None)
    for received, chunk in chunks[: limit or None]:
        started = nanoseconds(chunk.inference_start)
        while change is not None and change[0] <= started:
            values.update(change[1])
            change = next(upcoming, None)
        status = statuses.get((chunk.sequence, nanoseconds(chunk.header.stamp)))
        one = _inference(received, chunk)
        if status is not None:
            one = _with_status(one, status, values, tracked)
        run.inferences.append(one)
    return run


def _read_outputs(
    reader: BagReader, topics: Topics, limit: int, skipped: list[str]
) -> tuple[list[tuple[int, Any]], dict[tuple[int, int], Any]]:
    chunks: list[tuple[int, Any]] = []
    statuses: dict[tuple[int, int], Any] = {}
    unreadable = 0
    names = {name for name in (topics.chunks, topics.status) if name}
    for record in reader.messages(names) if names else ():
        message = _decoded(reader, record)
        if message is None:
            unreadable += 1
        elif limit and len(chunks) > limit:
            break  # one more than requested: the last one's status has been seen
        elif record.topic == topics.chunks:
            chunks.append((record.time, message))
        else:
            statuses[(message.sequence, nanoseconds(message.header.stamp))] = message
    if unreadable:
        skipped.append(f"{unreadable} recorded outputs could not be read")
    return chunks, statuses


def _decoded(reader: BagReader, record: BagMessage) -> Any:
    try:
        return reader.decode(record)
    except BagError:
        return None


def _inference(received: int, chunk: Any) -> Recorded:
    stamps = tuple(nanoseconds(stamp) for stamp in getattr(chunk, "image_stamps", ()))
    state_stamp = getattr(chunk, "state_stamp", None)
    steps = int(chunk.steps)
    actions = np.array(chunk.actions, dtype=np.float32)
    width = actions.size // steps if steps else 7
    return Recorded(
        received=received,
        sequence=int(chunk.sequence),
        image_stamps=stamps or (nanoseconds(chunk.header.stamp),),
        state_stamp=nanoseconds(state_stamp) if state_stamp is not None else 0,
        started=nanoseconds(chunk.inference_start),
        seconds=nanoseconds(chunk.inference_time) / 1e9,
        instruction=chunk.instruction,
        actions=actions[: steps * width].reshape(steps, width),
        period=float(chunk.period),
        state=tuple(float(number) for number in getattr(chunk, "state", ())),
        robot=str(getattr(chunk, "robot", "")),
    )


def _with_status(one: Recorded, status: Any, values: Mapping[str, Any], tracked: bool) -> Recorded:
    bounds = np.cumsum([0, *status.kept_per_camera])
    indices = tuple(
        np.array(status.kept_indices[low:high], dtype=np.uint16)
        for low, high in itertools.pairwise(bounds)
    )
    return replace(
        one,
        pruning=pruning_in_force(values, status),
        kept=Kept(indices, (int(status.grid_rows), int(status.grid_columns))),
        resets=bool(status.history_length == 0) if tracked else None,
        history_length=int(status.history_length),
    )


def pruning_config(values: Mapping[str, Any]) -> PruningConfig:
    """Return the settings that parameters describe; unknown names are left out.

    Raises:
        ValueError: a value out of range.
    """
    known = {name: value for name, value in values.items() if name in FIELD_NAMES}
    for name, value in known.items():
        if isinstance(getattr(PruningConfig, name, None), float) and isinstance(value, int):
            known[name] = float(value)
    return PruningConfig(**known)


def pruning_in_force(values: Mapping[str, Any], status: Any) -> PruningConfig:
    """Return the settings of one inference, its budget as the fixed one that it came to.

    The status holds the method, preset and budget in force; window and the like are only in
    the parameters. A budget that followed a deadline or the motion is replayed as it was, not as
    this machine's clock would have it.
    """
    method = status.method if hasattr(status, "method") else status.pruner  # up to 0.1.0
    preset = getattr(status, "preset", "paper")  # there were none up to 0.1.0
    known = {"preset": preset} if preset in PRESETS else {}
    base = pruning_config({**known, **values, "method": method})
    total, requested = int(status.tokens_total), int(status.tokens_requested)
    if total == 0:
        return base
    fixed = base.budget_mode == status.budget_mode == "fixed" and base.token_budget == 0
    if fixed and np.float32(base.keep_ratio) == np.float32(status.keep_ratio):
        return base  # the parameter has more digits than the status
    ratio = min(1.0, max(requested, 1) / total)
    return replace(base, budget_mode="fixed", token_budget=0, keep_ratio=ratio)
