"""Overlay of the kept tokens: pruned patches dimmed. numpy and Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

PALE = (235, 237, 240)
LINE = 13
"""Height of a line of captions, pixels."""
PRUNED_BRIGHTNESS = 0.28
"""Brightness of a pruned patch, 1 is untouched."""


def kept_mask(kept_indices: Sequence[int] | np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mark the kept patches.

    Args:
        kept_indices: row-major indices into the patch grid.
        grid: rows and columns of patches.

    Returns:
        bool [rows, columns].

    Raises:
        ValueError: an index outside the grid or an empty grid.
    """
    rows, columns = int(grid[0]), int(grid[1])
    if rows <= 0 or columns <= 0:
        raise ValueError(f"the patch grid is empty ({rows}x{columns})")
    indices = np.asarray(kept_indices, dtype=np.int64).reshape(-1)
    if indices.size and (indices.min() < 0 or indices.max() >= rows * columns):
        raise ValueError(
            f"patch indices {indices.min()}..{indices.max()} do not fit a {rows}x{columns} grid"
        )
    mask = np.zeros(rows * columns, dtype=bool)
    mask[indices] = True
    return mask.reshape(rows, columns)


def mark(image: np.ndarray, text: str) -> np.ndarray:
    """Write a text in the top left corner of an image; an empty one leaves it as it is.

    Args:
        image: uint8 [H, W, 3].
        text: one line.

    Returns:
        Uint8 [H, W, 3], the image itself if the text is empty.
    """
    if not text:
        return image
    drawn = PillowImage.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    box = draw.textbbox((2, 2), text)
    draw.rectangle((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), fill=(0, 0, 0))
    draw.text((2, 2), text, fill=(255, 220, 0))
    return np.asarray(drawn)


def add_captions(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Append a dark strip with lines of text below an image; a long line is cut at its end.

    Args:
        image: uint8 [H, W, 3].
        lines: of text, in printable characters.

    Returns:
        uint8 [H + LINE * len(lines), W, 3].
    """
    strip = PillowImage.new("RGB", (image.shape[1], LINE * len(lines)), (16, 18, 20))
    draw = ImageDraw.Draw(strip)
    for number, text in enumerate(lines):
        draw.text(
            (3, number * LINE + 1), _cut(draw, text, image.shape[1] - 6), fill=(235, 237, 240)
        )
    return np.concatenate([image, np.asarray(strip)], axis=0)


def _cut(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    if draw.textlength(text) <= width:
        return text
    while text and draw.textlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def draw_kept(
    image_rgb: np.ndarray, kept_indices: Sequence[int] | np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """Dim the pruned patches of an image; kept ones stay untouched.

    The grid covers the entire image, whatever its aspect, because the models resize the entire
    image to a square.

    Args:
        image_rgb: uint8 [H, W, 3].
        kept_indices, grid: as in kept_mask.

    Returns:
        uint8 [H, W, 3], a new array.
    """
    mask = kept_mask(kept_indices, grid)
    height, width = image_rgb.shape[:2]
    row_of = np.arange(height) * mask.shape[0] // height
    column_of = np.arange(width) * mask.shape[1] // width
    brightness = np.where(mask, 256, int(256 * PRUNED_BRIGHTNESS)).astype(np.uint16)
    per_pixel = brightness[row_of][:, column_of, None]
    return ((image_rgb * per_pixel) >> 8).astype(np.uint8)


def shrink(image_rgb: np.ndarray, max_side: int) -> np.ndarray:
    """Scale an image down so that its longer side is at most max_side pixels.

    Args:
        image_rgb: uint8 [H, W, 3].
        max_side: pixels.

    Returns:
        Uint8 [h, w, 3].
    """
    height, width = image_rgb.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1.0:
        return image_rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(
        PillowImage.fromarray(image_rgb).resize(size, PillowImage.Resampling.BILINEAR)
    )
