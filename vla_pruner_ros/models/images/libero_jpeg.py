"""The JPEG round trip that LIBERO's training images went through, to the bit.

Those images were encoded at quality 95 with 4:2:0 chroma and decoded by TensorFlow, whose default
is the fast integer inverse DCT; common Python decoders use the accurate one, which differs by a
level or more on most pixels. Entropy coding loses nothing, so encoder and decoder meet here at the
quantised coefficients (ITU-T T.81; arithmetic as in the Independent JPEG Group's library).
"""

from __future__ import annotations

import numpy as np

LUMA_TABLE = """
16 11 10 16 24 40 51 61    12 12 14 19 26 58 60 55    14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62    18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
CHROMA_TABLE = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
QUALITY = 95
HALF = 1 << 15
"""Rounding of the 16-bit fixed-point colour arithmetic."""


def jpeg_round_trip(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] RGB -> uint8 [H, W, 3], as encoded and decoded."""
    height, width = image.shape[:2]
    luma, blue, red = _to_ycc(image.astype(np.int32))
    luma = _code(_pad(luma, -height % 8, -width % 8), LUMA_TABLE)[:height, :width]
    blue, red = (_code_chroma(plane) for plane in (blue, red))
    return _to_rgb(luma, blue[:height, :width], red[:height, :width])


def _to_ycc(rgb: np.ndarray) -> list[np.ndarray]:
    r, g, b = np.moveaxis(rgb, 2, 0)
    centre = (128 << 16) + HALF - 1
    return [
        (19595 * r + 38470 * g + 7471 * b + HALF) >> 16,
        (-11059 * r - 21709 * g + 32768 * b + centre) >> 16,
        (32768 * r - 27439 * g - 5329 * b + centre) >> 16,
    ]


def _to_rgb(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    blue, red = blue - 128, red - 128
    rgb = [
        luma + ((91881 * red + HALF) >> 16),
        luma + ((-22554 * blue - 46802 * red + HALF) >> 16),
        luma + ((116130 * blue + HALF) >> 16),
    ]
    return np.clip(np.stack(rgb, axis=2), 0, 255).astype(np.uint8)


def _code_chroma(plane: np.ndarray) -> np.ndarray:
    """Halve, code, and double again; the result may be larger than the plane."""
    rows, columns = ((size + 1) // 2 for size in plane.shape)
    plane = _pad(plane, plane.shape[0] % 2, -plane.shape[1] % 16)
    halved = _halve(plane)
    coded = _code(_pad(halved, -rows % 8, 0), CHROMA_TABLE)
    return _double(coded[:rows, :columns])


def _halve(plane: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, rounded up and down in turns along a row."""
    sums = plane[0::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 0::2] + plane[1::2, 1::2]
    return (sums + 1 + np.arange(sums.shape[1]) % 2) >> 2


def _double(plane: np.ndarray) -> np.ndarray:
    """Triangle filter: each new sample takes 3/4 of the nearer old one and 1/4 of the next."""
    rows = _interleave(*(3 * plane + near for near in _neighbours(plane)), axis=0)
    before, after = _neighbours(rows.T)
    three = 3 * rows
    return _interleave((three + before.T + 8) >> 4, (three + after.T + 7) >> 4, axis=1)


def _neighbours(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows before and after each row; the outermost stand in for what lies beyond."""
    return np.concatenate([plane[:1], plane[:-1]]), np.concatenate([plane[1:], plane[-1:]])


def _interleave(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    shape = list(first.shape)
    shape[axis] *= 2
    return np.stack([first, second], axis=axis + 1).reshape(shape)


def _pad(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.pad(plane, ((0, rows), (0, columns)), mode="edge")


def _code(plane: np.ndarray, table: str) -> np.ndarray:
    """Forward DCT, quantisation and inverse DCT of a plane [8 a, 8 b] of samples."""
    steps = _quantisation(table)
    rows, columns = (size // 8 for size in plane.shape)
    blocks = plane.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3) - 128
    coefficients = _forward_dct(blocks)
    magnitude = (np.abs(coefficients) + 4 * steps) // (8 * steps)
    samples = _inverse_dct(np.sign(coefficients) * magnitude, steps)
    return samples.transpose(0, 2, 1, 3).reshape(plane.shape)


def _quantisation(table: str) -> np.ndarray:
    base = np.array(table.split(), dtype=np.int64).reshape(8, 8)
    return np.clip((base * (200 - 2 * QUALITY) + 50) // 100, 1, 255)


def _forward_dct(blocks: np.ndarray) -> np.ndarray:
    """int [..., 8, 8] -> coefficients times 8, accurate integer method: rows, then columns."""
    rows = _descale(blocks @ FORWARD.T, 11)
    return _descale(FORWARD @ rows, 15)


def _descale(values: np.ndarray, bits: int) -> np.ndarray:
    return (values + (1 << (bits - 1))) >> bits


def _forward_matrix() -> np.ndarray:
    """The 1-D DCT with 13 fractional bits, its constants rounded as the accurate method has them.

    Row u: the even ones are symmetric in the sample, the odd ones antisymmetric.
    """
    half_rows = [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ]
    left = np.array(half_rows, dtype=np.int64)
    signs = np.where(np.arange(8) % 2, -1, 1)[:, None]
    return np.concatenate([left, signs * left[:, ::-1]], axis=1)


FORWARD = _forward_matrix()
AAN_SCALES = [
    1.0,
    1.387039845,
    1.306562965,
    1.175875602,
    1.0,
    0.785694958,
    0.541196100,
    0.275899379,
]
"""Factors that the fast DCT (Arai, Agui, Nakajima 1988) leaves to the quantisation table."""


def _inverse_dct(quantised: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Quantised coefficients [..., 8, 8] -> samples 0..255, fast integer method."""
    scales = np.rint(np.outer(AAN_SCALES, AAN_SCALES) * (1 << 14)).astype(np.int64)
    values = quantised * _descale(steps * scales, 12)
    columns = _inverse_1d(np.moveaxis(values, -2, 0))
    rows = _inverse_1d(np.moveaxis(columns, -1, 0))  # [x, y, ...]
    return np.clip((np.moveaxis(rows, (0, 1), (-1, -2)) >> 5) + 128, 0, 255)


def _inverse_1d(x: np.ndarray) -> np.ndarray:
    """The fast inverse DCT along the first axis; its multiplications drop the fraction."""
    even, odd = _inverse_even(*x[0::2]), _inverse_odd(*x[1::2])
    sums = [e + o for e, o in zip(even, odd, strict=True)]
    differences = [e - o for e, o in zip(even, odd, strict=True)]
    return np.stack([*sums, *differences[::-1]])


def _inverse_even(x0, x2, x4, x6) -> list[np.ndarray]:
    outer = x2 + x6
    inner = _times(x2 - x6, 362) - outer  # sqrt(2)
    high, low = x0 + x4, x0 - x4
    return [high + outer, low + inner, low - inner, high - outer]


def _inverse_odd(x1, x3, x5, x7) -> list[np.ndarray]:
    z13, z10, z11, z12 = x5 + x3, x5 - x3, x1 + x7, x1 - x7
    z5 = _times(z10 + z12, 473)  # 2 cos(pi/8)
    first = z11 + z13
    second = _times(z10, -669) + z5 - first  # 2 (cos(pi/8) + cos(3 pi/8))
    third = _times(z11 - z13, 362) - second
    fourth = _times(z12, 277) - z5 + third  # 2 (cos(pi/8) - cos(3 pi/8))
    return [first, second, third, -fourth]


def _times(values: np.ndarray, constant: int) -> np.ndarray:
    return (values * constant) >> 8
