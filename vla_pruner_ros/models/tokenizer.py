"""Prompt text to token ids, with the tokenizer file of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_pruner_ros.models.policy import CheckpointError

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
