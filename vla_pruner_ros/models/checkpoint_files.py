"""Limits of a checkpoint's files, checked before anything is built from them.

A checkpoint may come from anyone, and anyone who reaches the node can name one. Loading it takes
bounded time and memory, whatever its files hold.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla_pruner_ros.models.policy import CheckpointError

MAX_TEXT = 64 * 2**20
"""Bytes of a JSON file; the largest tokenizers in use have 33 MiB."""
MAX_HEADER = 16 * 2**20
"""Bytes of a safetensors header; a thousand tensors need 100 KiB."""
MAX_PICKLE = 2**20
"""Bytes of the description inside a .pt file; it names tensors, and nothing else."""

LFS_POINTER = b"version https://git-lfs.github.com/spec"

SIZES: dict[str, int] = {
    "num_hidden_layers": 512,
    "num_attention_heads": 1024,
    "num_key_value_heads": 1024,
    "head_dim": 4096,
    "hidden_size": 2**16,
    "intermediate_size": 2**19,
    "vocab_size": 2**21,
    "max_position_embeddings": 2**18,
    "image_size": 4096,
    "patch_size": 1024,
    "pad_to_multiple_of": 2**16,
}
"""Largest value of each size in a config.json that costs time or memory before weights are read."""

ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Implementations that transformers has itself; it would load any other from a hub, with code."""

_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def read_text(path: Path, limit: int = MAX_TEXT) -> str:
    """Return the text of a regular file of at most `limit` bytes.

    Raises:
        CheckpointError: it is missing, no regular file, too large or not UTF-8.
    """
    with _open_regular(path) as file:
        _refuse_pointer(path, file)
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise CheckpointError(
                f"{path} has {size} bytes; a file of its kind has {limit} at most: copy or "
                "download it again"
            )
        try:
            return file.read(limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path} is no text in UTF-8: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, or holds no JSON object.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def check_weights(path: Path) -> None:
    """Check that a safetensors file is regular and that its header is no larger than it may be.

    Raises:
        CheckpointError: it is not.
    """
    with _open_regular(path) as file:
        _refuse_pointer(path, file)
        size, start = os.fstat(file.fileno()).st_size, file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, max(0, size - 8)):
        raise CheckpointError(
            f"{path} is damaged or incomplete (its header claims {length} bytes of {size}); copy "
            "or download it again"
        )


def check_component(path: Path) -> None:
    """Check that a .pt file holds as much as it weighs: nothing compressed, a short description.

    Raises:
        CheckpointError: it is no regular file, not what torch.save writes, or would grow.
    """
    with _open_regular(path) as file:
        _refuse_pointer(path, file)
        try:
            entries = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            raise CheckpointError(
                f"{path} is damaged or holds more than plain tensors, and is not loaded: it is "
                "not what torch.save of torch 1.6 or later writes"
            ) from None
        size = os.fstat(file.fileno()).st_size
    grows = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if grows or sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(f"{path} is compressed and would grow; torch.save compresses nothing")
    if any(e.file_size > MAX_PICKLE for e in entries if e.filename.endswith(".pkl")):
        raise CheckpointError(
            f"{path} is damaged or holds more than plain tensors, and is not loaded"
        )


def check_config(config: dict, source: str) -> None:
    """Check the sizes that a config.json claims, and what it asks transformers for.

    Raises:
        CheckpointError: a size is absurd, or an attention implementation is not a known one.
    """
    for key, value in _entries(config):
        if key in SIZES:
            _check_size(key, value, source)
        elif key.endswith(_IMPLEMENTATIONS) and value not in ATTENTION:
            raise CheckpointError(
                f"{source} asks for {key} {str(value)[:100]!r}; known are "
                f"{', '.join(filter(None, ATTENTION))}: remove the entry"
            )


def check_inside(directory: Path, root: str, what: str = "checkpoint") -> None:
    """Check that a folder lies below the directory that all must lie in; "" allows any.

    what: what the folder is to the user, such as "checkpoint".

    Raises:
        CheckpointError: it lies elsewhere.
    """
    if root and not directory.resolve().is_relative_to(Path(root).expanduser().resolve()):
        raise CheckpointError(
            f"{what} {directory} does not lie in {root} (checkpoint_root): copy it there"
        )


def _refuse_pointer(path: Path, file: Any) -> None:
    """Raises CheckpointError for what Git leaves where the large file was not downloaded."""
    start = file.read(len(LFS_POINTER))
    file.seek(0)
    if start == LFS_POINTER:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in {path.parent}"
        )


def _check_size(key: str, value: Any, source: str) -> None:
    values = value if isinstance(value, (list, tuple)) else [value]
    for one in values[:64]:
        if one is None:
            continue
        if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= SIZES[key]:
            raise CheckpointError(
                f"{source} gives {key} as {str(one)[:100]!r}; it must be an integer from 1 to "
                f"{SIZES[key]}"
            )


def _entries(content: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested objects."""
    if not isinstance(content, dict) or depth > 8:
        return
    for key, value in content.items():
        yield key, value
        yield from _entries(value, depth + 1)


def _open_regular(path: Path):
    """Open a file that is one; a pipe without a writer, or a device, could keep us for ever."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing in {path.parent}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error}") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise CheckpointError(f"{path} is not a regular file: a checkpoint holds files alone")
    return os.fdopen(number, "rb")
