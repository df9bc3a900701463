"""A walk over msgpack's headers before anything is unpacked: depth, number of values, sizes.

msgpack itself would allocate what a header claims: a few kilobytes of nested array headers cost
half a gigabyte. Here a claim is compared with the bytes that are there.
"""

from __future__ import annotations

from typing import Any

import msgpack

from vla_pruner_ros.serving.wire.limits import WireLimits


class WireError(ValueError):
    """A message that is refused; the sentence names the trouble."""


_BYTES, _ITEMS, _PAIRS = range(3)
# First byte -> (kind of what follows, width of its big-endian count in bytes).
_COUNTED = {
    **{0xC4 + n: (_BYTES, 2**n) for n in range(3)},  # bin 8, 16, 32
    **{0xD9 + n: (_BYTES, 2**n) for n in range(3)},  # str 8, 16, 32
    **{0xDC + n: (_ITEMS, 2 ** (n + 1)) for n in range(2)},  # array 16, 32
    **{0xDE + n: (_PAIRS, 2 ** (n + 1)) for n in range(2)},  # map 16, 32
}
_FIXED = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), 0),  # nil, false, true
    **dict(zip(range(0xCA, 0xD4), (4, 8, 1, 2, 4, 8, 1, 2, 4, 8), strict=True)),  # numbers
}


def unpack(data: bytes, limits: WireLimits) -> Any:
    """Unpack one msgpack value; str for strings and bytes for binary.

    Raises:
        WireError: not one whole msgpack value, or beyond the limits.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise WireError("a text message came where a binary msgpack message is expected")
    check_structure(data, limits)
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True)
    except UnicodeDecodeError:
        raise WireError("a string of the message is not UTF-8") from None
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"the message is no valid msgpack: {error}") from None


def check_structure(data: bytes, limits: WireLimits) -> None:
    """Walk over the headers; see unpack.

    Raises:
        WireError: beyond the limits, or damaged.
    """
    if len(data) > limits.message_bytes:
        raise WireError(f"the message has {len(data)} bytes, at most {limits.message_bytes} go")
    position, values, open_containers = 0, 0, [1]
    while open_containers:
        if not open_containers[-1]:
            open_containers.pop()
            continue
        open_containers[-1] -= 1
        values += 1
        if values > limits.values:
            raise WireError(
                f"the message holds more than {limits.values} values: send images and states as "
                "arrays, not as lists of numbers"
            )
        position, children = _step(data, position)
        if children:
            if len(open_containers) > limits.depth:
                raise WireError(f"the message is nested deeper than {limits.depth} levels")
            open_containers.append(children)
    if position != len(data):
        raise WireError(f"{len(data) - position} bytes follow the message's end")


def _step(data: bytes, position: int) -> tuple[int, int]:
    """Return where the next header starts, and how many values the one at position contains."""
    first = _take(data, position, 1)
    position += 1
    if first <= 0x7F or first >= 0xE0:
        return position, 0
    if first in _FIXED:
        return _skip(data, position, _FIXED[first])
    if first <= 0x9F:
        children = 2 * (first & 0x0F) if first <= 0x8F else first & 0x0F
        return _contain(data, position, children)
    if first <= 0xBF:
        return _skip(data, position, first & 0x1F)
    if first not in _COUNTED:
        raise WireError(f"the message holds a msgpack extension or unused code (0x{first:02x})")
    kind, width = _COUNTED[first]
    count = _take(data, position, width)
    position += width
    if kind == _BYTES:
        return _skip(data, position, count)
    return _contain(data, position, 2 * count if kind == _PAIRS else count)


def _take(data: bytes, position: int, width: int) -> int:
    if position + width > len(data):
        raise WireError(f"the message is cut off at byte {len(data)}")
    return int.from_bytes(data[position : position + width], "big")


def _skip(data: bytes, position: int, count: int) -> tuple[int, int]:
    if position + count > len(data):
        raise WireError(
            f"the message is cut off: {count} bytes are announced at byte {position}, "
            f"{len(data) - position} are there"
        )
    return position + count, 0


def _contain(data: bytes, position: int, children: int) -> tuple[int, int]:
    if children > len(data) - position:  # each child has one byte at least
        raise WireError(f"{children} values are announced, more than the message has bytes")
    return position, children
