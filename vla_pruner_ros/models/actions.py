"""Action tokens and normalised actions to robot units, and robot state to the model's range."""

from __future__ import annotations

import numpy as np

from vla_pruner_ros.models.policy import CheckpointError, PolicyError

ACTION_DIM = 7
BINS = 256


class ActionTokens:
    """The last 256 ids of the language vocabulary, read as bins over [-1, 1].

    256 equal edges make 255 bins, so the two lowest ids share the last centre (as trained).
    """

    def __init__(self, vocabulary: int) -> None:
        """vocabulary: ids of the language model without the padding rows (32000 for LLaMA 2)."""
        self.ids = range(vocabulary - BINS, vocabulary)
        edges = np.linspace(-1.0, 1.0, BINS)
        self.centres = (edges[:-1] + edges[1:]) / 2.0

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Token ids of any shape -> float64 in (-1, 1) of the same shape.

        Raises:
            PolicyError: an id that is no action token. It is never sent on as motion.
        """
        ids = np.asarray(ids)
        outside = (ids < self.ids.start) | (ids >= self.ids.stop)
        if outside.any():
            raise PolicyError(
                f"the model generated {ids[outside].tolist()}, which are not action tokens "
                f"({self.ids.start}..{self.ids.stop - 1}); no action is sent. "
                "Check that instruction and images are of the kind the checkpoint was trained on"
            )
        return self.centres[np.clip(self.ids.stop - ids - 1, 0, BINS - 2)]


class Bounds:
    """Affine map between [-1, 1] and the 1st..99th percentile of a data set.

    mask: dimensions that are mapped; the others pass through.
    """

    def __init__(
        self,
        statistics: dict,
        name: str,
        epsilon: float = 0.0,
        ends: tuple[str, str] = ("q01", "q99"),
    ) -> None:
        """Read the ends of the range.

        Args:
            statistics: the two ends, and optionally mask.
            name: what is mapped, for messages.
            epsilon: widens the range (OpenVLA-OFT).
            ends: names of the two statistics; OpenVLA-OFT's ALOHA checkpoints use min and max.

        Raises:
            CheckpointError: they are missing, uneven or no numbers.
        """
        try:
            self.low, self.high = (
                np.asarray(statistics[end], dtype=np.float64).reshape(-1) for end in ends
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"statistics of {name} lack usable {' and '.join(ends)}: {error}"
            ) from None
        mask = statistics.get("mask")
        self.mask = np.ones(len(self.low), bool) if mask is None else np.asarray(mask, bool)
        if not self.low.shape == self.high.shape == self.mask.shape:
            names = ", ".join(ends)
            raise CheckpointError(f"statistics of {name}: {names} and mask differ in length")
        self.epsilon = epsilon

    @property
    def size(self) -> int:
        """Numbers of one action."""
        return len(self.low)

    def to_units(self, normalized: np.ndarray) -> np.ndarray:
        """[..., size] in [-1, 1] -> float64 [..., size] in the data set's units."""
        span = self.high - self.low + self.epsilon
        return np.where(self.mask, 0.5 * (normalized + 1.0) * span + self.low, normalized)

    def from_units(self, values: np.ndarray) -> np.ndarray:
        """[..., size] in the data set's units -> float64 [..., size], clipped to [-1, 1]."""
        span = self.high - self.low + self.epsilon
        scaled = 2.0 * (values - self.low) / span - 1.0
        return np.clip(np.where(self.mask, scaled, values), -1.0, 1.0)
