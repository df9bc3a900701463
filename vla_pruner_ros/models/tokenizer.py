"""Prompt text to token ids, with the tokenizer file of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_pruner_ros.models.checkpoint_files import read_text
from vla_pruner_ros.models.policy import CheckpointError, InputError

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
    text = read_text(path)
    try:
        tokenizer = FileTokenizer.from_str(text)
    except BaseException as error:  # plain Exception, or a panic of Rust that is none
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # An instruction that spells </s> means these letters, not the end of the sequence.
    tokenizer.encode_special_tokens = True

    def encode(text: str) -> list[int]:
        try:
            return tokenizer.encode(text).ids
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise InputError(f"the tokenizer failed on the instruction: {error}") from None

    return encode
