"""Prompt text to token ids, with the tokenizer file of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vla_pruner_ros.models.checkpoint_files import read_text
from vla_pruner_ros.models.checkpoints import read_optional_json
from vla_pruner_ros.models.policy import CheckpointError, InputError
from vla_pruner_ros.models.sources.hub import (
    SCHEME,
    Repository,
    looks_like_name,
    tokenizer_folder,
)

Tokenizer = Callable[[str], "list[int]"]
"""A prompt -> its token ids. The beginning-of-sequence id may be left out."""


@dataclass(frozen=True)
class FoundTokenizer:
    """A tokenizer and its files' settings for long texts.

    Attributes:
        encode: text -> ids. cut: side that is cut off, left or right; empty: not set.
        directory: where its files are, None for a callable.
        bos: id of the token that begins a sequence, None if the files name none.
    """

    encode: Tokenizer
    cut: str = ""
    directory: Path | None = None
    bos: int | None = None

    def id_of(self, token: str) -> int:
        """Return the id of one token of the vocabulary.

        Raises:
            CheckpointError: there is no such token, or no file to look it up in.
        """
        found = None if self.directory is None else _read(self.directory).token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer in {self.directory} has no token {token}")
        return found


def find_tokenizer(
    given: Tokenizer | str | Path | None, directory: Path, hub_name: str, fetch: bool = True
) -> FoundTokenizer:
    """Find the tokenizer of a checkpoint that may not hold one.

    Args:
        given: what the user chose: a function, a folder, hf:owner/name, or None.
        directory: of the checkpoint.
        hub_name: repository that the checkpoint names, or a folder.
        fetch: look for hub_name in the Hugging Face cache and on the hub.

    Raises:
        CheckpointError: no tokenizer, with the places that were looked at.
    """
    if callable(given):
        return FoundTokenizer(given)
    folder = _folder(given, directory, hub_name, fetch)
    settings = read_optional_json(folder / "tokenizer_config.json")
    tokenizer = _read(folder)
    return FoundTokenizer(
        _encoder(tokenizer),
        str(settings.get("truncation_side") or ""),
        folder,
        _bos(tokenizer, settings.get("bos_token")),
    )


def _folder(given: str | Path | None, directory: Path, hub_name: str, fetch: bool) -> Path:
    if given and str(given).startswith(SCHEME):
        return tokenizer_folder(Repository.parse(str(given)))
    if given:
        return Path(given).expanduser()
    for folder in (directory, Path(hub_name).expanduser()):
        if (folder / "tokenizer.json").exists():
            return folder
    missing = (
        f"{directory} has no tokenizer.json; copy the tokenizer files of {hub_name} into it, "
        "or set tokenizer to a folder that holds them"
    )
    if not fetch or not looks_like_name(hub_name):
        raise CheckpointError(missing)
    try:
        return tokenizer_folder(Repository(hub_name))
    except CheckpointError as error:
        raise CheckpointError(f"{missing}. From the hub: {error}") from None


def _bos(tokenizer, token: object) -> int | None:
    token = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def load_tokenizer(directory: Path) -> Tokenizer:
    """Read the tokenizer.json of a checkpoint, without any code from it.

    Raises:
        CheckpointError: missing or damaged.
    """
    tokenizer = _read(directory)
    return _encoder(tokenizer)


def _read(directory: Path):
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
    return tokenizer


def _encoder(tokenizer) -> Tokenizer:
    def encode(text: str) -> list[int]:
        try:
            return tokenizer.encode(text).ids
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise InputError(f"the tokenizer failed on the instruction: {error}") from None

    return encode
