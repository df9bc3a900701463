"""Frames of a film, and films laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 336
"""Side length of one episode's frame, pixels."""
BAR, GAP, TEXT_SIZE = 26, 6, 15


@dataclass(frozen=True)
class FilmFrame:
    """Frame of a film.

    image: uint8 [H, W, 3]. caption: what it shows. actions: carried out so far.
    """

    image: np.ndarray
    caption: str
    actions: int


def side_by_side(
    films: Sequence[Sequence[FilmFrame]], successes: Sequence[bool], title: str
) -> list[Image.Image]:
    """Lay films side by side, with captions above and the title below.

    A shorter film holds its last frame.
    """
    font = ImageFont.load_default(TEXT_SIZE)
    images = []
    for index in range(max(map(len, films))):
        image = Image.new("RGB", (len(films) * (SIDE + GAP) - GAP, SIDE + 2 * BAR), "white")
        draw = ImageDraw.Draw(image)
        for column, (film, success) in enumerate(zip(films, successes, strict=True)):
            frame, left = film[min(index, len(film) - 1)], column * (SIDE + GAP)
            large = Image.fromarray(frame.image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            image.paste(large, (left, BAR))
            draw.text((left + 6, 4), frame.caption, fill="#1c1f23", font=font)
            if index >= len(film) - 1:
                verdict = f"done in {frame.actions} actions" if success else "not done"
                draw.text((left + SIDE - 6, 4), verdict, fill="#0f8f76", font=font, anchor="ra")
        draw.text(
            (image.width // 2, image.height - 5), title, fill="#1c1f23", font=font, anchor="md"
        )
        images.append(image)
    return images
