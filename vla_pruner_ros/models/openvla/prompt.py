"""Instruction -> token ids, as OpenVLA was trained."""

from __future__ import annotations

from vla_pruner_ros.models.policy import InputError

BOS = 1
EMPTY_TOKEN = 29871
"""LLaMA's mark of a word start by itself; training always put it before the first action token."""


def prompt_text(instruction: str) -> str:
    """The sentence around the task.

    Raises:
        InputError: an empty instruction.
    """
    if not instruction.strip():
        raise InputError("the instruction is empty; give the robot a task")
    return f"In: What action should the robot take to {instruction.lower()}?\nOut:"


def complete(ids: list[int]) -> list[int]:
    """Ids with the beginning-of-sequence id in front and EMPTY_TOKEN at the end, once each."""
    start = [] if ids[:1] == [BOS] else [BOS]
    end = [] if ids[-1:] == [EMPTY_TOKEN] else [EMPTY_TOKEN]
    return [*start, *ids, *end]
