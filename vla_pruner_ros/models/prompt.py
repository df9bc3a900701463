"""Instruction -> token ids, as OpenVLA was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_pruner_ros.models.policy import CheckpointError, PolicyError

BOS = 1
EMPTY_TOKEN = 29871
"""LLaMA's lone word-start mark; training always put it before the first action token."""

Tokenizer = Callable[[str], "list[int]"]
"""A prompt -> its token ids. The beginning-of-sequence id may be left out."""


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer.json of a checkpoint, read without any code from it.

    Raises:
        CheckpointError: missing or damaged.
    """
    from tokenizers import Tokenizer as FileTokenizer

    path = directory / "tokenizer.json"
    if not path.exists():
        raise CheckpointError(
            f"{directory} has no tokenizer.json; copy the tokenizer files of the checkpoint's "
            "base model into it"
        )
    try:
        tokenizer = FileTokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # An instruction that spells </s> means these letters, not the end of the sequence.
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text).ids


def prompt_text(instruction: str) -> str:
    """The sentence around the task.

    Raises:
        PolicyError: an empty instruction.
    """
    if not instruction.strip():
        raise PolicyError("the instruction is empty; tell the robot what to do")
    return f"In: What action should the robot take to {instruction.lower()}?\nOut:"


def complete(ids: list[int]) -> list[int]:
    """Ids with the beginning-of-sequence id in front and EMPTY_TOKEN at the end, once each."""
    start = [] if ids[:1] == [BOS] else [BOS]
    end = [] if ids[-1:] == [EMPTY_TOKEN] else [EMPTY_TOKEN]
    return [*start, *ids, *end]
