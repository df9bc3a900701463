"""Decompression of bags: zstd and lz4, with any installed zstd package."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path
from typing import BinaryIO

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DECOMPRESSION_ERRORS = (zstd.ZstdError, EOFError, RuntimeError, ValueError)
"""Errors that damaged data raises: lz4 reports a RuntimeError."""

MAX_GROWTH, MAX_SMALL = 200, 1 << 30
"""A file may unpack to so many times its size, or to so many bytes if that is more: images with
noise grow twofold, simulated ones about 50 times."""
SPARE_DISK = 1 << 30
"""Bytes that unpacking leaves free on the disk."""
_PIECE = 1 << 20


def decompress(data: bytes, compression: str, max_size: int) -> bytes:
    """Unpack one chunk or message.

    Args:
        compression: "", "zstd" or "lz4".
        max_size: bytes; more is refused before it is made.

    Raises:
        ValueError: unknown compression, or the result would be larger.
        DECOMPRESSION_ERRORS: damaged data.
    """
    if compression == "":
        return data
    if compression == "zstd":
        unpacker = zstd.ZstdDecompressor()
        unpacked = unpacker.decompress(data, max_size)
        finished = unpacker.eof
    elif compression == "lz4":
        lz4_unpacker = lz4.frame.LZ4FrameDecompressor()
        unpacked = lz4_unpacker.decompress(data, max_size)
        finished = lz4_unpacker.eof
    else:
        raise ValueError(f"compression {compression!r} is not supported, only zstd and lz4")
    if not finished:
        raise ValueError(f"{compression} data is cut off or larger than {max_size} bytes")
    return unpacked


def unpack_file(path: Path, directory: Path) -> tuple[Path, str]:
    """Unpack a .zst or .zstd file into a directory.

    Returns:
        The unpacked file, and what was wrong with the data ("" if nothing); what could be unpacked
        before the damage is kept.

    Raises:
        ValueError: not a regular file, or one that unpacks to more than the limit.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    target, limit = directory / path.stem, max(MAX_SMALL, MAX_GROWTH * path.stat().st_size)
    with path.open("rb") as packed, target.open("wb") as unpacked:
        try:
            with zstd.open(packed, "rb") as source:
                _copy(source, unpacked, limit)
        except (zstd.ZstdError, EOFError) as error:
            return target, f"{path.name} is damaged: {error}"
    return target, ""


def _copy(source: BinaryIO, target: BinaryIO, limit: int) -> None:
    """Copy what unpacks; ValueError if it is more than `limit` bytes or fills the disk."""
    size = 0
    while piece := source.read(_PIECE):
        size += len(piece)
        if size > limit:
            raise ValueError(
                f"it unpacks to more than {limit} bytes, which no recording does: unpack it with "
                "zstd -d if you trust it"
            )
        if size % (64 * _PIECE) < _PIECE and shutil.disk_usage(target.name).free < SPARE_DISK:
            raise ValueError("the disk is too full to unpack it: set TMPDIR to a larger one")
        target.write(piece)
