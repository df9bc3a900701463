"""Addresses that name a server instead of a checkpoint's directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

IMAGE_FORMATS = ("raw", "jpeg")


def is_remote(checkpoint: str | Path) -> bool:
    """Return whether a checkpoint names a server: ws://host:port or wss://host:port."""
    return str(checkpoint).startswith(("ws://", "wss://"))


@dataclass(frozen=True)
class RemoteOptions:
    """Options of a connection to a server.

    image_format: raw sends the pixels as they are; jpeg saves bandwidth and changes them a little.
    timeout: seconds until an answer, and until a connection, is given up.
    api_key: sent in the header Authorization.
    robot: profile whose keys are sent to a server that does not name its own; any openpi server
        but this package's.
    """

    image_format: str = "raw"
    timeout: float = 1.0
    api_key: str | None = field(default=None, repr=False)
    robot: str = ""

    def __post_init__(self) -> None:
        if self.image_format not in IMAGE_FORMATS:
            raise ValueError(
                f"image_format must be one of {', '.join(IMAGE_FORMATS)}, got {self.image_format!r}"
            )
        if not self.timeout > 0.0:
            raise ValueError(f"timeout must be above 0 s, got {self.timeout}")
