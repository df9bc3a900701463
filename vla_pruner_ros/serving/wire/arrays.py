"""Arrays, numpy scalars and images inside a message, in the form of openpi and of vla-eval.

openpi marks an array with the key b"__ndarray__", vla-eval with "__ndarray__"; both are read.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
from PIL import Image

from vla_pruner_ros.serving.wire.limits import WireLimits
from vla_pruner_ros.serving.wire.structure import WireError

_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_FORMATS = {"png": "PNG", "jpeg": "JPEG"}


def decode(value: Any, limits: WireLimits) -> Any:
    """Turn every marked map inside an unpacked value into a numpy array or scalar.

    Raises:
        WireError: a marked map that does not hold what it claims.
    """
    if isinstance(value, list):
        return [decode(item, limits) for item in value]
    if not isinstance(value, dict):
        return value
    marker = _marker(value)
    if marker:
        return _DECODERS[marker](_text_keys(value), limits)
    return {key: decode(item, limits) for key, item in value.items()}


def encode_openpi(value: Any) -> Any:
    """Hook for msgpack's `default`: arrays and numpy scalars in openpi's form."""
    if isinstance(value, np.ndarray):
        fields = _array_fields(value)
        return {b"__ndarray__": True, **{key.encode(): item for key, item in fields.items()}}
    return _encode_scalar(value)


def encode_vla_eval(value: Any) -> Any:
    """Hook for msgpack's `default`: arrays in vla-eval's form, numpy scalars as plain ones."""
    if isinstance(value, np.ndarray):
        return {"__ndarray__": True, **_array_fields(value)}
    return _encode_scalar(value)


def encode_image(image: np.ndarray, form: str, quality: int = 95) -> Any:
    """uint8 [H, W, 3] RGB -> what travels: the array itself (raw) or a marked JPEG."""
    if form == "raw":
        return image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    marked = {"__image__": True, "format": "jpeg", "shape": list(image.shape)}
    return {**marked, "data": buffer.getvalue()}


def _array_fields(array: np.ndarray) -> dict[str, Any]:
    return {"data": array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape)}


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot travel")


def _marker(value: dict) -> str:
    for name in _DECODERS:
        if name in value or name.encode() in value:
            return name
    return ""


def _text_keys(value: dict) -> dict[str, Any]:
    return {
        key.decode("ascii", "replace") if isinstance(key, bytes) else key: item
        for key, item in value.items()
    }


def _decode_array(fields: dict[str, Any], limits: WireLimits) -> np.ndarray:
    data, dtype, shape = _data(fields), _dtype(fields), _shape(fields, limits)
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise WireError(
            f"an array of shape {list(shape)} and type {dtype.str} needs {needed} bytes, "
            f"{len(data)} came"
        )
    return np.frombuffer(data, dtype=dtype).reshape(shape).copy()


def _decode_scalar(fields: dict[str, Any], limits: WireLimits) -> Any:
    value, dtype = fields.get("data"), _dtype(fields)
    if not isinstance(value, (bool, int, float)):
        raise WireError("a numpy scalar holds no number")
    try:
        return dtype.type(value)
    except (OverflowError, ValueError):
        raise WireError(f"the number {value!r} does not fit {dtype.str}") from None


def _decode_image(fields: dict[str, Any], limits: WireLimits) -> np.ndarray:
    form = fields.get("format")
    if form == "raw":
        return _decode_array(fields, limits)
    if not isinstance(form, str) or form not in _FORMATS:
        raise WireError("an image's format must be png, jpeg or raw")
    data = _data(fields)
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[form]]) as image:
            _check_image(image, limits)
            return np.asarray(image)
    except WireError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for broken files
        reason = str(error).split(" <")[0] or type(error).__name__
        raise WireError(f"a {form} image cannot be decoded: {reason}") from None


def _check_image(image: Image.Image, limits: WireLimits) -> None:
    """Judge by the header, before the pixels are decoded."""
    width, height = image.size
    if max(width, height) > limits.image_side:
        raise WireError(
            f"an image has {height} x {width} pixels, at most {limits.image_side} a side go"
        )
    if image.mode != "RGB":
        raise WireError(f"an image's mode is {image.mode}, only RGB goes")


def _data(fields: dict[str, Any]) -> bytes:
    data = fields.get("data")
    if not isinstance(data, bytes):
        raise WireError("an array or image holds no binary data")
    return data


def _dtype(fields: dict[str, Any]) -> np.dtype:
    name = fields.get("dtype")
    if isinstance(name, bytes):
        name = name.decode("ascii", "replace")
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        shown = str(name)[:20]
        raise WireError(f"arrays of type {shown!r} do not go: use bool, int, uint or float")
    return np.dtype(name)


def _shape(fields: dict[str, Any], limits: WireLimits) -> tuple[int, ...]:
    shape = fields.get("shape")
    is_list = isinstance(shape, list) and len(shape) <= limits.dimensions
    if not is_list or not all(type(side) is int and side >= 0 for side in shape):
        raise WireError(
            f"an array's shape must be a list of at most {limits.dimensions} sizes of 0 or more"
        )
    return tuple(shape)


_DECODERS = {
    "__ndarray__": _decode_array,
    "__npgeneric__": _decode_scalar,
    "__image__": _decode_image,
}
