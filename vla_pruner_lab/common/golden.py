"""Cases and images of the recorded official runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def load_cases(directory: Path, pattern: str = "case*.npz") -> Iterator[tuple[str, dict]]:
    """Yield (name, arrays) of each case file; those of prepared images are left out."""
    for path in sorted(directory.glob(pattern)):
        if not path.stem.endswith("_images"):
            with np.load(path) as arrays:
                yield path.stem, dict(arrays)


def load_image(path: Path) -> np.ndarray:
    """Load an image as uint8 [H, W, 3] RGB."""
    from PIL import Image

    return np.array(Image.open(path).convert("RGB"))
