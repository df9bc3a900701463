"""Instruction -> token ids as a policy's own processor makes them: completed and cut."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np

from vla_pruner_ros.models.policy import InputError
from vla_pruner_ros.models.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
BINS = 256


@dataclass
class PromptTokenizer:
    """A tokenizer with the length and the first token of training.

    Attributes:
        encode: text -> ids.
        max_length: ids of a prompt at most; a longer one is cut, with a warning.
        cut: side that is cut off, right or left; empty: longer prompts are refused.
        bos: id in front of every prompt, or None.
    """

    encode: Tokenizer
    max_length: int
    cut: str = "right"
    bos: int | None = None
    _warned: set[str] = field(default_factory=set)

    def __call__(self, text: str) -> list[int]:
        ids = list(self.encode(text))
        if self.bos is not None and ids[:1] != [self.bos]:
            ids = [self.bos, *ids]
        if len(ids) <= self.max_length:
            return ids
        if not self.cut:
            raise InputError(
                f"the instruction is too long: {len(ids)} tokens, the model takes {self.max_length}"
            )
        self._warn(text, len(ids))
        if self.cut == "right":
            return ids[: self.max_length]
        first = [] if self.bos is None else [self.bos]
        return first + ids[len(ids) - self.max_length + len(first) :]

    def _warn(self, text: str, length: int) -> None:
        if text not in self._warned:
            self._warned = {text}
            logger.warning(
                "The prompt has %d tokens and is cut on the %s to the model's %d, as in training; "
                "use a shorter instruction",
                length,
                self.cut,
                self.max_length,
            )


def check_instruction(instruction: str) -> str:
    """Return the instruction stripped. Raises InputError if nothing is left."""
    if not instruction.strip():
        raise InputError("the instruction is empty; give the robot a task")
    return instruction


def with_newline(instruction: str) -> str:
    """Return the instruction as pi0 and SmolVLA were trained with: a newline at the end."""
    return instruction if instruction.endswith("\n") else instruction + "\n"


def cleaned(instruction: str) -> str:
    """Return the instruction without outer blanks; underscores and newlines become blanks."""
    return instruction.strip().replace("_", " ").replace("\n", " ")


def with_state(instruction: str, state: np.ndarray) -> str:
    """Return pi0.5's prompt.

    Args:
        instruction: the task, a sentence.
        state: normalised, float32 [state_dim].
    """
    numbers = " ".join(map(str, state_bins(state)))
    return f"Task: {cleaned(instruction)}, State: {numbers};\nAction: "


def state_bins(state: np.ndarray) -> np.ndarray:
    """Number the 256 bins of -1..1 that a normalised state falls in.

    Args:
        state: float [n].

    Returns:
        Int64 [n]; below -1 the number is -1.
    """
    return np.digitize(state, np.linspace(-1.0, 1.0, BINS + 1)[:-1]) - 1
