"""Bounds of one message; everything that arrives is checked against them before it is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WireLimits:
    """Bounds of one message.

    message_bytes: of one message. values: msgpack values in it, containers and keys included.
    depth: of nested maps and arrays. dimensions: of one array. image_side: pixels.
    text: characters of one string.
    """

    message_bytes: int = 32 * 2**20
    values: int = 4000
    depth: int = 8
    dimensions: int = 4
    image_side: int = 2048
    text: int = 1000
