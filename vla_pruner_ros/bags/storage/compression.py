"""Decompression of bags: zstd and lz4, whichever zstd package there is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DECOMPRESSION_ERRORS = (zstd.ZstdError, EOFError, RuntimeError, ValueError)
"""What damaged data raises: lz4 reports a RuntimeError."""


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
    """
    target = directory / path.stem
    with path.open("rb") as packed, target.open("wb") as unpacked:
        try:
            with zstd.open(packed, "rb") as source:
                shutil.copyfileobj(source, unpacked)
        except (zstd.ZstdError, EOFError) as error:
            return target, f"{path.name} is damaged: {error}"
    return target, ""
