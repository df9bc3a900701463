"""Order of the recorded node's cameras, if no parameter gives it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.replay.inputs.exact import GRACE
from vla_pruner_ros.replay.inputs.recorded import Recorded
from vla_pruner_ros.replay.inputs.stamped import read_stamped

SAMPLE = 20
"""Inferences looked at; their images are decoded once more."""


def order_by_stamps(
    reader: BagReader, images: Sequence[str], inferences: Sequence[Recorded]
) -> tuple[tuple[str, ...], bool]:
    """Find the order of image topics in which an ActionChunk names the stamps of its images.

    Returns:
        The topics, and whether the stamps decide: they do not if all cameras fire at one instant.
        Then the topics keep their order.
    """
    images = tuple(images)
    sample = [one for one in inferences if len(one.image_stamps) == len(images)][:SAMPLE]
    if len(images) == 1 or not sample:
        return images, len(images) == 1
    stamps = _stamps(reader, images, sample[-1].received + GRACE)

    def found(order: tuple[str, ...]) -> int:
        return sum(
            one.image_stamps[place] in stamps[topic]
            for one in sample
            for place, topic in enumerate(order)
        )

    ranked = sorted(itertools.permutations(images), key=found, reverse=True)
    return ranked[0], found(ranked[0]) > found(ranked[1])


def _stamps(reader: BagReader, images: Sequence[str], end: int) -> dict[str, set[int]]:
    """Return the stamps (ns) of all images received by the end (ns), by topic."""
    stamps: dict[str, set[int]] = {topic: set() for topic in images}
    for record, _, stamp, _ in read_stamped(reader, set(images), lambda _: None):
        if record.time > end:
            break
        stamps[record.topic].add(stamp)
    return stamps
