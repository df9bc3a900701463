"""The recorded inferences of a bag, with images, kept tokens and actions, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.overlay import draw_kept
from vla_pruner_ros.replay.inputs.recorded import Kept
from vla_pruner_ros.replay.session import Choice, Session

DISPLACEMENT = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""Names of seven action numbers if no robot profile explains them."""


@dataclass(frozen=True)
class ExportedInference:
    """One inference.

    stamp: of its first image (ns). images: uint8 [H, W, 3] by camera topic. kept: None if the bag
    has no PruningStatus. actions: float32 [steps, numbers], empty [0, 0] in bags without a node.
    seconds: of the inference. method, keep_ratio: in force, "" and NaN if not known.
    """

    index: int
    stamp: int
    instruction: str
    images: dict[str, np.ndarray]
    kept: Kept | None
    actions: np.ndarray
    seconds: float = float("nan")
    state: tuple[float, ...] = ()
    method: str = ""
    keep_ratio: float = float("nan")

    def overlays(self) -> dict[str, np.ndarray]:
        """Return the images with pruned patches dimmed; as they are if nothing is known."""
        kept = self.kept
        if kept is None or len(kept.indices) != len(self.images) or min(kept.grid) < 1:
            return self.images
        pairs = zip(self.images.items(), kept.indices, strict=True)
        return {name: draw_kept(image, indices, kept.grid) for (name, image), indices in pairs}

    def tokens(self) -> tuple[int, int] | None:
        """Return kept and all visual tokens."""
        if self.kept is None:
            return None
        rows, columns = self.kept.grid
        return self.kept.count, rows * columns * len(self.kept.indices)

    def caption(self) -> str:
        """Return instruction, method, tokens and latency in one line."""
        parts = [self.instruction] if self.instruction else []
        if self.method:
            parts.append(self.method)
        if tokens := self.tokens():
            parts.append(f"{tokens[0]}/{tokens[1]} tokens")
        if np.isfinite(self.seconds):
            parts.append(f"{1e3 * self.seconds:.0f} ms")
        return "  ".join(parts)


class ExportSource:
    """An open bag and its inferences; every pass reads it anew."""

    def __init__(self, reader: BagReader, choice: Choice) -> None:
        """Find the topics.

        Raises:
            BagError: topics are missing or not clear.
        """
        self.reader = reader
        self.session = Session(reader, len(choice.selection.images), choice)
        self.topics = self.session.topics
        self.skipped: list[str] = []

    @property
    def expected(self) -> int:
        """Number of inferences that are expected."""
        return self.session.expected

    @property
    def robot(self) -> str:
        """Name of the robot profile, empty if none."""
        return self.session.robot

    def action_names(self) -> list[str]:
        """Return a name for each action number."""
        message = self._first_chunk()
        names = list(getattr(message, "action_names", ())) if message else []
        width = int(getattr(message, "width", 0)) if message else 0
        if len(names) == width and names:
            return names
        if width == len(DISPLACEMENT):
            return list(DISPLACEMENT)
        return [f"action_{number}" for number in range(width)]

    def state_names(self, width: int) -> list[str]:
        """Return a name for each state number."""
        message = self._first_chunk()
        names = list(getattr(message, "state_names", ())) if message else []
        return names if len(names) == width else [f"state_{number}" for number in range(width)]

    def _first_chunk(self) -> Any:
        if not self.topics.chunks:
            return None
        record = next(iter(self.reader.messages({self.topics.chunks})), None)
        return None if record is None else self.reader.decode(record)

    def inferences(self) -> Iterator[ExportedInference]:
        """Yield the inferences whose images are there; the others are counted in `skipped`."""
        self.skipped = []
        for one in self.session.inputs():
            try:
                if one.problem:
                    raise BagError(one.problem)
                images = {
                    topic: to_rgb(message)
                    for topic, message in zip(self.topics.images, one.images, strict=True)
                    if message is not None
                }
            except (BagError, ValueError) as error:
                self.skipped.append(f"inference {one.index}: {error}")
                continue
            yield _exported(one, images)


def _exported(one: Any, images: dict[str, np.ndarray]) -> ExportedInference:
    recorded = one.recorded
    if recorded is None:
        return ExportedInference(
            one.index, one.stamp, one.instruction, images, None, np.zeros((0, 0), np.float32)
        )
    pruning = recorded.pruning
    return ExportedInference(
        one.index,
        one.stamp,
        one.instruction,
        images,
        recorded.kept,
        recorded.actions,
        recorded.seconds,
        recorded.state,
        pruning.method if pruning else "",
        pruning.keep_ratio if pruning else float("nan"),
    )
